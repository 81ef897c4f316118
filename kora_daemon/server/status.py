"""What a server says of itself in a few words."""

from __future__ import annotations

from msgspec import Struct


class Status(Struct, frozen=True):
    """A server at one moment."""

    node_id: str
    uptime_s: float
    connected_clients: int
    total_operations: int
    frontier: int
    store_failure: str | None
