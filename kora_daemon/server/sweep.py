"""Looking after what is overdue on connections. One task for all of them: an idle one costs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Protocol

import trio

from kora_daemon.server.beat import next_beat

SWEEP_INTERVAL_S = 0.5
LONGEST_S = 60.0
"""Until it is looked whether a peer is still quiet."""
_AT_ONCE = 64
"""Peers looked after in a row before other tasks get their turn."""


class Swept(Protocol):
    """What is known of a connection here."""

    @property
    def number(self) -> int:
        """Unique within the process."""
        ...

    @property
    def quiet_until(self) -> float:
        """Before that, on the event loop's clock (s), nothing can be overdue."""
        ...

    def sweep(self) -> None:
        """Look for overdue things: answers, acknowledgments, signs of life."""
        ...


class Sweep:
    """Goes by those of `peers` with whom something was going on, and by the others when it is time. By number."""

    def __init__(self, peers: Mapping[int, Swept]) -> None:
        self._peers = peers
        self._stirred: dict[int, None] = {}
        """Whose next time is not known."""
        self._times: list[tuple[float, int]] = []
        """A heap. Times may be too early, since peers whose time has moved on stay where they are."""
        self._next: dict[int, float] = {}
        """By number, the earliest time of a peer in the heap."""

    def stir(self, number: int) -> None:
        """It is not known any more when something of this connection is overdue."""
        self._stirred[number] = None

    async def run(self) -> None:
        """Sweep, for ever."""
        while True:
            await trio.sleep_until(next_beat(SWEEP_INTERVAL_S))
            for swept, peer in enumerate(self._due(trio.current_time()), 1):
                if peer.number in self._peers:
                    peer.sweep()
                    self._note(peer)
                if swept % _AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    def _due(self, now: float) -> list[Swept]:
        numbers, self._stirred = self._stirred, {}
        while self._times and self._times[0][0] <= now:
            at, number = heappop(self._times)
            if self._next.get(number) == at:
                del self._next[number]
                numbers[number] = None
        found: list[Swept] = []
        for number in numbers:
            peer = self._peers.get(number)
            if peer is None:
                continue
            if peer.quiet_until <= now:
                found.append(peer)
            else:
                self._note(peer)
        return found

    def _note(self, peer: Swept) -> None:
        """When to go by again."""
        now, until, number = trio.current_time(), peer.quiet_until, peer.number
        if until <= now:
            self._stirred[number] = None
            return
        # Early enough for what is out of date, of peers that left, too, to go away soon.
        until = min(until, now + LONGEST_S)
        if until < self._next.get(number, until + 1):
            self._next[number] = until
            heappush(self._times, (until, number))
