"""What has happened lately that an operator would like to know: a ring in memory, read by any number of listeners.

Listeners have no queues. Each knows how far it has read, and is told what it has missed when it was too slow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from itertools import islice
from typing import Final

import trio
from msgspec import Struct

from kora_daemon.server.clock import wall_ms

KEPT: Final = 500
REPEATED_WITHIN_S: Final = 60.0
MAX_REPEATED: Final = 1_000
_TEXT: Final = 200
"""Characters of one text: ids are for devices to choose."""

Value = str | int | float | bool | None


class Event(Struct, frozen=True):
    """Something notable. Numbers count from 1; `at_ms` is since the epoch. Never holds tokens or data of operations."""

    number: int
    at_ms: int
    kind: str
    about: dict[str, Value]


class Journal:
    """The newest events of a server. Belongs to the event loop's thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self.begun_ms = wall_ms()
        """Tells the numbers of this journal from those of another life of the server."""
        self._events: deque[Event] = deque(maxlen=kept)
        self._last = 0
        self._grown = trio.Event()
        self._repeated: dict[Hashable, int] = {}
        self._repeated_until = 0.0

    def record(self, kind: str, **about: Value) -> None:
        """Something has happened; texts are cut to a decent length."""
        self._last += 1
        cut = {name: value[:_TEXT] if isinstance(value, str) else value for name, value in about.items()}
        self._events.append(Event(self._last, wall_ms(), kind, cut))
        self._grown.set()
        self._grown = trio.Event()

    def repeat(self, kind: str, same: Hashable, **about: Value) -> None:
        """Something has happened that may happen very often: of the `same` only the 1st, 10th, 100th … is an event.

        `count` says which one it is. Counted anew after a minute.
        """
        now = trio.current_time()
        if now >= self._repeated_until or len(self._repeated) >= MAX_REPEATED:
            self._repeated.clear()
            self._repeated_until = now + REPEATED_WITHIN_S
        count = self._repeated[same] = self._repeated.get(same, 0) + 1
        if str(count).strip("0") == "1":
            self.record(kind, **about, count=count)

    @property
    def last(self) -> int:
        """The number of the newest event, 0 for none."""
        return self._last

    def after(self, number: int) -> list[Event]:
        """The events above a number, oldest first. Those before the first one that is left are lost."""
        missing = min(max(self._last - number, 0), len(self._events))
        return list(islice(self._events, len(self._events) - missing, None))

    async def beyond(self, number: int) -> None:
        """Return as soon as there is an event above a number."""
        while self._last <= number:
            await self._grown.wait()
