"""First sync: fresh devices download the whole log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kora_daemon.bench.client import Client
from kora_daemon.bench.filling import fill
from kora_daemon.bench.load import PAYLOAD, PRELOAD, UPDATES, amount
from kora_daemon.bench.loop import now_s
from kora_daemon.bench.report import Figures
from kora_daemon.bench.rig import Rig
from kora_daemon.bench.samples import Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSyncLoad:
    """Who downloads how much."""

    clients: int = amount(1, "Devices that download, all at once.")
    preload: int = amount(20_000, PRELOAD, least=0)
    rounds: int = amount(3, "How often; times are those of the median round.")
    pause: float = amount(0, "Seconds for which each device reads nothing, right after it was let in.", least=0)
    updates: int = amount(3, UPDATES, least=0)
    payload: int = amount(120, PAYLOAD)


def run(rig: Rig, load: FirstSyncLoad) -> Figures:
    """Measure it."""
    expected = fill(rig, load.preload, load.updates, load.payload)
    first, streaming = Samples(), Samples()
    rounds: list[tuple[float, int, int, int]] = []
    rig.begin()
    for _ in range(load.rounds):
        clients = rig.clients(load.clients)
        seconds = _download(rig, clients, load.pause)
        rig.trouble["downloads that ended short"] += sum(one.watermark < expected for one in clients)
        for one in clients:
            if one.first_at:
                first.add(one.first_at - one.opened_at)
            streaming.add(one.streaming_at - one.opened_at)
        taken, size = sum(one.taken for one in clients), sum(one.bytes_in for one in clients)
        rounds.append((seconds, taken, size, sum(one.arrived for one in clients)))
    operations = sum(one[1] for one in rounds)
    costs = rig.watch.end(operations=operations)
    seconds, taken, size, _ = sorted(rounds)[(len(rounds) - 1) // 2]
    return {
        "operations": expected,
        "seconds": round(seconds, 3),
        "operationsPerSecond": round(taken / seconds),
        "megabytesPerSecond": round(size / 1e6 / seconds, 2),
        "bytesPerOperation": round(size / max(1, taken)),
        "firstBatchMs": first.percentiles_ms(),
        "streamingMs": streaming.percentiles_ms(),
        "arrivedPerOperation": round(sum(one[3] for one in rounds) / max(1, operations), 2),
        **costs,
    }


def _download(rig: Rig, clients: Sequence[Client], pause_s: float) -> float:
    """All clients open at once and get everything; how long that took, in seconds."""
    began = now_s()
    if pause_s:
        for one in clients:
            one.on_welcome = lambda client: rig.pause(client, pause_s)
    rig.open(clients, at_once=len(clients))
    seconds = rig.seconds_since(began)
    if pause_s:
        rig.loop.rest(1)  # What is still on its way counts as arrived.
    for one in clients:
        one.close()
    rig.loop.rest(0.05)
    return seconds
