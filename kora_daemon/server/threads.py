"""Blocking calls in named threads, with limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from kora_daemon.server.machine import machine

T = TypeVar("T")


class ThreadPool:
    """At most `size` threads at a time, named for whoever looks at the process."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._limiter = trio.CapacityLimiter(size)

    async def run(self, call: Callable[[], T]) -> T:
        """Run a blocking call. Cancellation waits for it: what it did is never lost track of."""
        return await machine().in_thread(call, self._name, self._limiter, abandonable=False)

    @asynccontextmanager
    async def place(self, patience_s: float) -> AsyncIterator[Place | None]:
        """One of the threads, or None when there was none in so many seconds; for work in the event loop, too."""
        place = Place(self._limiter, self._name)
        with trio.move_on_after(patience_s) as waiting:
            await self._limiter.acquire_on_behalf_of(place)
        if waiting.cancelled_caught:
            yield None
            return
        try:
            yield place
        finally:
            place.leave()

    async def run_abandonable(self, call: Callable[[], T]) -> T:
        """Run a call that may hang. Cancellation does not wait; the thread counts as taken until the call is over."""
        return await machine().in_thread(call, self._name, self._limiter, abandonable=True)


class Place:
    """One of a pool's threads, taken before it is known what for."""

    def __init__(self, limiter: trio.CapacityLimiter, name: str) -> None:
        self._limiter = limiter
        self._name = name
        self._is_threads = False

    async def run_abandonable(self, call: Callable[[], T]) -> T:
        """See `ThreadPool.run_abandonable`: the place is the thread's from now on."""
        # What trio asks of a limiter are the two methods below.
        return await machine().in_thread(call, self._name, self, abandonable=True)  # type: ignore[arg-type]

    async def acquire_on_behalf_of(self, _thread: object) -> None:
        """A thread begins."""
        self._is_threads = True

    def release_on_behalf_of(self, _thread: object) -> None:
        """It is over, whether somebody still waits for it or not."""
        self._limiter.release_on_behalf_of(self)

    def leave(self) -> None:
        """Give the place back, unless a thread has it."""
        if not self._is_threads:
            self._limiter.release_on_behalf_of(self)
