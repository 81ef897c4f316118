"""The format of server-sent events (WHATWG HTML, 9.2), and how many may listen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from kora_daemon.http.messages import HttpError

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEADERS = (("cache-control", "no-store"), ("x-accel-buffering", "no"))
"""No proxy should wait for more before it passes something on."""
COME_AGAIN_S = 10


def event(name: str, data: object, identity: str = "") -> bytes:
    """One event: a JSON value in one line. The identity is what a listener that comes back names as its last one."""
    lines = [f"id: {identity}"] if identity else []
    lines += [f"event: {name}", f"data: {msgspec.json.encode(data).decode()}", "", ""]
    return "\n".join(lines).encode()


class Seats:
    """Room for so many listeners of one kind."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def check(self) -> None:
        """Raises HttpError (503) when there is no room for another listener."""
        if self._taken >= self._most:
            text = f"{self._most} are listening already, which is as many as may"
            raise HttpError(503, text, **{"retry-after": str(COME_AGAIN_S)})

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a seat for as long as the block goes on."""
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
