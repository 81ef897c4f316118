"""Connect: a storm of devices that come, shake hands and stay."""

from __future__ import annotations

from dataclasses import dataclass

from kora_daemon.bench.load import AT_ONCE, amount
from kora_daemon.bench.report import Figures
from kora_daemon.bench.rig import Rig
from kora_daemon.bench.samples import Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectLoad:
    """How many come."""

    clients: int = amount(500, "Devices that come.")
    at_once: int = amount(64, AT_ONCE)


def run(rig: Rig, load: ConnectLoad) -> Figures:
    """Measure it."""
    clients = rig.clients(load.clients, rig.read_log()[0].watermark)
    greeted, streaming = Samples(), Samples()
    began = rig.begin()
    rig.open(clients, load.at_once)
    seconds = rig.seconds_since(began)
    connected = [one for one in clients if one.is_streaming]
    for one in connected:
        greeted.add(one.greeted_at - one.opened_at)
        streaming.add(one.streaming_at - one.opened_at)
    costs = rig.watch.end(handshakes=len(connected))
    return {
        "connected": len(connected),
        "seconds": round(seconds, 3),
        "handshakesPerSecond": round(len(connected) / seconds),
        "handshakeMs": greeted.percentiles_ms(),
        "streamingMs": streaming.percentiles_ms(),
        **costs,
    }
