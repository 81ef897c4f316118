"""How long something waits for a store that does not answer: a database that restarts is a pause, not a loss."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from kora_daemon.errors import StoreUnavailable

T = TypeVar("T")
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


class Outage:
    """Tries again for `patience_s` from the moment that the store stopped to answer; after that, everybody is told.

    Clients give an upload up after 30 s, so patience has to end before. Other troubles than those of `kind` are told
    at once.
    """

    def __init__(self, patience_s: float, kind: type[StoreUnavailable] = StoreUnavailable) -> None:
        self._patience_s = patience_s
        self._kind = kind
        self._ends_at = math.inf

    def give_up(self) -> None:
        """Have no patience any more."""
        self._patience_s = 0.0
        self._ends_at = -math.inf

    async def outlast(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of the call, tried until the store answers. Raises its `StoreUnavailable` when patience ends."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                result = await call()
            except self._kind:
                now = trio.current_time()
                self._ends_at = min(self._ends_at, now + self._patience_s)
                if now + pause_s > self._ends_at:
                    raise
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                if self._ends_at != -math.inf:
                    self._ends_at = math.inf
                return result
