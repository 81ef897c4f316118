"""Ingest: devices upload as fast as they are acknowledged; then a fresh device counts what was stored."""

from __future__ import annotations

from dataclasses import dataclass

from kora_daemon.bench import messages as say
from kora_daemon.bench.client import Client
from kora_daemon.bench.filling import fill
from kora_daemon.bench.load import PAYLOAD, PRELOAD, UPDATES, amount
from kora_daemon.bench.operations import Author, chunks, records_for
from kora_daemon.bench.report import Figures
from kora_daemon.bench.rig import Rig
from kora_daemon.bench.samples import Samples
from kora_daemon.bench.sending import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLoad:
    """Who uploads what."""

    clients: int = amount(1, "Devices that upload.")
    operations: int = amount(10_000, "Operations that each uploads.")
    batch: int = amount(100, "Operations in a batch.")
    window: int = amount(4, "Batches of a device that are not acknowledged yet, at most.")
    preload: int = amount(0, PRELOAD, least=0)
    updates: int = amount(3, UPDATES, least=0)
    payload: int = amount(120, PAYLOAD)


def run(rig: Rig, load: IngestLoad) -> Figures:
    """Measure it."""
    start = fill(rig, load.preload, load.updates, load.payload)
    clients, acks = rig.clients(load.clients, start), Samples()
    windows = [_prepared(one, load, acks) for one in clients]
    rig.open(clients)
    began = rig.begin()
    for window in windows:
        window.begin()
    rig.wait(lambda: not any(one.left for one in windows), "uploads that were not acknowledged")
    seconds = rig.seconds_since(began)
    acknowledged = sum(one.acknowledged for one in windows)
    costs = rig.watch.end(operations=acknowledged)
    for client in clients:
        client.close()
    stored = rig.check_log(start, load.clients * load.operations)
    return {
        "operationsBefore": start,
        "operations": acknowledged,
        "stored": stored,
        "seconds": round(seconds, 3),
        "operationsPerSecond": round(acknowledged / seconds),
        "ackMs": acks.percentiles_ms(),
        **(rig.traffic(clients) if load.clients > 1 else {}),
        **costs,
    }


def _prepared(client: Client, load: IngestLoad, acks: Samples) -> Window:
    author = Author(client.node_id, payload_bytes=load.payload, records=records_for(load.operations, load.updates))
    batches = [say.upload(one) for one in chunks(author.write(load.operations), load.batch)]
    return Window(client, batches, load.window, acks)
