"""The server's two clocks."""

from __future__ import annotations

import trio

from kora_daemon.model.identity import uuid7
from kora_daemon.protocol.events import Moment
from kora_daemon.server.machine import machine


def wall_ms() -> int:
    """Ms since the epoch; may jump."""
    return machine().wall_ms()


def wall_s() -> float:
    """The same in seconds, as tokens count."""
    return wall_ms() / 1000


def now() -> Moment:
    """Wall time, and the event loop's clock for everything that waits."""
    return Moment(wall_ms(), int(trio.current_time() * 1000))


def new_id() -> str:
    """A UUIDv7 of now."""
    return uuid7(wall_ms(), machine().random_bytes(16))
