"""The moments at which things happen in a simulated world, and who waits for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush

import trio

MOMENT_S = 0.05


def moment_after(seconds: float) -> float:
    """That much later, up to the next of the moments at which things happen.

    There are few of them, so that much happens at once, in an order that the seed decides; that is worth more than the
    time that it takes to go through many moments.
    """
    return math.ceil((trio.current_time() + seconds) / MOMENT_S) * MOMENT_S


class Moments:
    """Does what is due at a moment, all of it at once: one deadline, where each who waits would have one of his own."""

    def __init__(self) -> None:
        self._due: dict[float, dict[Callable[[], None], None]] = {}
        self._moments: list[float] = []
        self._wait = trio.CancelScope()

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Make this call at a moment to come, once however often that is said."""
        if moment not in self._due:
            self._due[moment] = {}
            heappush(self._moments, moment)
            self._wait.deadline = self._moments[0]
        self._due[moment][call] = None

    async def pause(self, seconds: float) -> None:
        """Return that much later, or a little later still."""
        over = trio.Event()
        self.at(moment_after(seconds), over.set)
        await over.wait()

    async def work(self) -> None:
        """Do that, for ever."""
        while True:
            with trio.CancelScope(deadline=self._moments[0] if self._moments else math.inf) as self._wait:
                await trio.sleep_forever()
            while self._moments and self._moments[0] <= trio.current_time():
                for call in self._due.pop(heappop(self._moments)):
                    call()
