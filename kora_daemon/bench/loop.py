"""One thread, one epoll: sockets and moments call back.

A load generator must cost less than what it measures, and know exactly when something arrived. So there is no task
for each of its thousands of clients, and no scheduler between the kernel and the clock.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from time import perf_counter

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
_EVENTS_AT_ONCE = 256

now_s = perf_counter
"""The clock of all figures, in seconds."""


class Loop:
    """Calls back until told to stop. Whatever a callback raises ends the run."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._moments: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the events that a descriptor has, from now on."""
        if descriptor in self._callbacks:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._callbacks[descriptor] = callback

    def forget(self, descriptor: int) -> None:
        """Watch a descriptor no more."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def at(self, moment_s: float, callback: Callable[[float], None]) -> None:
        """Call back once, at a moment of `now_s` or right after it; the moment is handed in."""
        heappush(self._moments, (moment_s, next(self._numbers), callback))

    def run(self, done: Callable[[], bool], patience_s: float) -> bool:
        """Run until `done()` holds; False when that took longer than `patience_s`."""
        end = now_s() + patience_s
        while not done():
            now = now_s()
            while self._moments and self._moments[0][0] <= now:
                moment, _, callback = heappop(self._moments)
                callback(moment)
            if now >= end:
                return False
            self._wait(min(end, self._moments[0][0] if self._moments else end))
        return True

    def rest(self, seconds: float) -> None:
        """Run for so long."""
        self.run(lambda: False, seconds)

    def close(self) -> None:
        """Give the epoll back."""
        self._epoll.close()

    def _wait(self, until_s: float) -> None:
        events = self._epoll.poll(0, _EVENTS_AT_ONCE)
        if not events:
            wait_s = until_s - now_s()
            if wait_s > 0:
                # epoll waits for whole milliseconds; select, which takes microseconds, can wait for an epoll.
                select.select([self._epoll], (), (), wait_s)
                events = self._epoll.poll(0, _EVENTS_AT_ONCE)
        for descriptor, mask in events:
            callback = self._callbacks.get(descriptor)
            if callback is not None:
                callback(mask)
