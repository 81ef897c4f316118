"""All modes, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kora_daemon.bench import awareness, connect, fan_out, first_sync, idle, ingest, mixed, soak
from kora_daemon.bench.report import Figures
from kora_daemon.bench.rig import Rig


class Mode(NamedTuple):
    """A way to load a server; `summary` says which."""

    load: type[Any]
    run: Callable[[Rig, Any], Figures]
    summary: str


MODES: Mapping[str, Mode] = {
    "ingest": Mode(ingest.IngestLoad, ingest.run, "Devices upload as fast as they are acknowledged."),
    "fan-out": Mode(fan_out.FanOutLoad, fan_out.run, "One device writes, many listen."),
    "first-sync": Mode(first_sync.FirstSyncLoad, first_sync.run, "Fresh devices download the whole log."),
    "connect": Mode(connect.ConnectLoad, connect.run, "A storm of devices that come and stay."),
    "idle": Mode(idle.IdleLoad, idle.run, "Devices that are connected and do nothing."),
    "mixed": Mode(mixed.MixedLoad, mixed.run, "Some devices write at a rate, others listen, a few may have stalled."),
    "awareness": Mode(awareness.AwarenessLoad, awareness.run, "Devices tell each other where they are."),
    "soak": Mode(soak.SoakLoad, soak.run, "Hours of mixed load with reconnects: whether anything grows or gets lost."),
}
