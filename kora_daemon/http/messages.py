"""Requests and answers (config.md, "HTTP surface")."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

DEFAULT_BODY_BYTES = 1 << 20


class HttpError(Exception):
    """Ends a request with this answer: a status, a sentence, headers."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class Body:
    """The body of a request, read as it comes. `next_chunk` gives b"" at the end; `size_bytes` is what is announced."""

    def __init__(self, next_chunk: Callable[[], Awaitable[bytes]], size_bytes: int | None) -> None:
        self._next_chunk = next_chunk
        self.size_bytes = size_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces, each at most a few KiB. Raises HttpError when the peer is slow or breaks off."""
        while chunk := await self._next_chunk():
            yield chunk

    async def read(self, limit_bytes: int = DEFAULT_BODY_BYTES) -> bytes:
        """All of it. Raises HttpError (413) when it is larger, before more of it is taken in."""
        if self.size_bytes is not None and self.size_bytes > limit_bytes:
            raise _too_large(limit_bytes)
        whole = bytearray()
        async for chunk in self.chunks():
            whole += chunk
            if len(whole) > limit_bytes:
                raise _too_large(limit_bytes)
        return bytes(whole)


def _too_large(limit_bytes: int) -> HttpError:
    return HttpError(413, f"The body of this request may have at most {limit_bytes} bytes")


async def _nothing() -> bytes:
    return b""


class Request(Struct, frozen=True):
    """The head of a request, and its body to be read.

    `path` is as it came, percent-encoded. Header names are lower case; of a repeated header the last one counts.
    """

    method: str
    path: str
    query: Mapping[str, list[str]] = {}
    headers: Mapping[str, str] = {}
    raw: bytes = b""
    """The head's bytes, as they came."""
    body: Body = Body(_nothing, 0)
    address: str = "unknown"
    """Who asks: the peer, or whom a trusted proxy names."""
    is_local: bool = False
    """It came through the control socket, which only the daemon's own user can open."""
    is_secure: bool = False
    """It came over TLS, of ours or of a trusted proxy."""
    is_proxied: bool = False
    """It came through a trusted proxy."""

    @property
    def wants_upgrade(self) -> bool:
        """Whether it asks for a WebSocket."""
        tokens = [token.strip().lower() for token in self.headers.get("connection", "").split(",")]
        return "upgrade" in tokens and self.headers.get("upgrade", "").lower() == "websocket"

    def first(self, name: str) -> str | None:
        """The first value of a query parameter, None without it."""
        values = self.query.get(name)
        return values[0] if values else None

    def flag(self, name: str) -> bool:
        """Whether a query parameter says yes. Raises HttpError (400) for one that says neither yes nor no."""
        value = (self.first(name) or "").lower()
        if value in ("1", "true", "yes"):
            return True
        if value in ("", "0", "false", "no"):
            return False
        raise HttpError(400, f"{name} is true or false")

    def number(self, name: str, default: int, most: int) -> int:
        """A query parameter from 0 to `most`. Raises HttpError (400) for anything else."""
        value = self.first(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdecimal() and len(value) < 20 and int(value) <= most):
            raise HttpError(400, f"{name} is a whole number from 0 to {most}")
        return int(value)


def _nobody_waits() -> None:
    pass


class Response(Struct, frozen=True):
    """An answer. A body of several pieces is sent as they come, and may go on for ever; it is closed in any case."""

    status: int
    body: bytes | AsyncIterator[bytes] = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    sent: Callable[[], None] = _nobody_waits
    """Called once all of it is in the kernel's hands."""
    lost: Callable[[], None] = _nobody_waits
    """Called instead when that fails."""


def json_response(status: int, value: Mapping[str, Any], **headers: str) -> Response:
    """An answer with a JSON object."""
    return Response(status, json.dumps(value).encode(), "application/json", tuple(headers.items()))


def text_response(status: int, text: str, **headers: str) -> Response:
    """An answer with a sentence; `allow="GET"` and the like become headers."""
    return Response(status, text.encode() + b"\n", headers=tuple(headers.items()))


Answer = Callable[[Request], Awaitable[Response]]
