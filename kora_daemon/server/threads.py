"""Blocking calls in named threads, with limits."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
import trio

from kora_daemon.errors import StoreUnavailable
from kora_daemon.server.machine import NoThread, machine
from kora_daemon.server.news import News

T = TypeVar("T")

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
_HINT = "raise its limits on memory (MemoryMax=, ulimit -v) or on tasks (TasksMax=)"

log = structlog.get_logger("kora.server")
_news = News()


class ThreadPool:
    """At most `size` threads at a time, named for whoever looks at the process.

    The system may have none for us, most often for want of memory. A call waits until it has; after `patience_s` it
    raises StoreUnavailable, for those who ask the store and know what to do when that does not answer.
    """

    def __init__(self, name: str, size: int, patience_s: float = math.inf) -> None:
        self._name = name
        self._limiter = trio.CapacityLimiter(size)
        self._patience_s = patience_s

    async def run(self, call: Callable[[], T]) -> T:
        """Run a blocking call. Cancellation waits for it: what it did is never lost track of."""
        return await self._run(call, abandonable=False)

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
        return await self._run(call, abandonable=True)

    async def _run(self, call: Callable[[], T], *, abandonable: bool) -> T:
        pause_s, ends_at = FIRST_PAUSE_S, math.inf
        while True:
            try:
                return await machine().in_thread(call, self._name, self._limiter, abandonable=abandonable)
            except NoThread as error:
                _tell(error)
                ends_at = min(ends_at, trio.current_time() + self._patience_s)
                if trio.current_time() + pause_s > ends_at:
                    raise StoreUnavailable(f"{error}: {_HINT}") from error
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


class Place:
    """One of a pool's threads, taken before it is known what for."""

    def __init__(self, limiter: trio.CapacityLimiter, name: str) -> None:
        self._limiter = limiter
        self._name = name
        self._is_threads = False

    async def run_abandonable(self, call: Callable[[], T]) -> T:
        """See `ThreadPool.run_abandonable`: the place is the thread's from now on. Raises NoThread."""
        # What trio asks of a limiter are the two methods below.
        try:
            return await machine().in_thread(call, self._name, self, abandonable=True)  # type: ignore[arg-type]
        except NoThread as error:
            _tell(error)
            raise

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


def _tell(error: NoThread) -> None:
    if _news.is_news("exhausted"):
        log.warning("threads.exhausted", error=str(error), hint=_HINT)
