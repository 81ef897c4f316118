"""Idle: devices that are connected and do nothing. What each costs in memory, and all of them in CPU."""

from __future__ import annotations

from dataclasses import dataclass

from kora_daemon.bench.load import AT_ONCE, amount
from kora_daemon.bench.report import Figures
from kora_daemon.bench.rig import Rig

_FIRST_CROWD = 50
_SETTLING_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleLoad:
    """How many, and for how long."""

    clients: int = amount(1_000, "Devices that are connected.")
    seconds: float = amount(10, "How long they do nothing.", least=0.01)
    at_once: int = amount(64, AT_ONCE)


def run(rig: Rig, load: IdleLoad) -> Figures:
    """Measure it."""
    start = rig.read_log()[0].watermark
    # What a server allocates only once is not the price of a connection: a few come and go before.
    crowd = rig.clients(min(load.clients, _FIRST_CROWD), start)
    rig.open(crowd, load.at_once)
    for one in crowd:
        one.close()
    rig.loop.rest(_SETTLING_S)
    before = rig.watch.rss_mib()
    clients = rig.clients(load.clients, start)
    rig.open(clients, load.at_once)
    rig.loop.rest(_SETTLING_S)
    frames = sum(one.frames_in for one in clients)
    rig.begin()
    rig.loop.rest(load.seconds)
    after = rig.watch.rss_mib()
    costs = rig.watch.end()
    figures: Figures = {
        "connections": sum(one.is_streaming for one in clients),
        "framesWhileIdle": sum(one.frames_in for one in clients) - frames,
    }
    if before is not None and after is not None:
        figures["kibPerConnection"] = round((after - before) * 1024 / load.clients, 2)
        figures["cpuMsPerSecond"] = round(costs["server"]["cpuSeconds"] * 1000 / load.seconds, 2)
    return {**figures, **costs}
