"""The unit a transport carries."""

from __future__ import annotations

from msgspec import Struct


class Frame(Struct, gc=False):
    """One WebSocket message: UTF-8 text, or bytes when `binary`. Shared frames are built once and sent often."""

    payload: bytes
    binary: bool = False
    wire: bytes | None = None
    """Header and payload as they go over a socket; filled by the transport that sends it first."""
    deflated: bytes | None = None
    """The same for peers that inflate (RFC 7692); `wire` itself where compression does not pay."""
