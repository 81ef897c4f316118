"""Blocking calls in named threads, with limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


class ThreadPool:
    """At most `size` threads at a time, named for whoever looks at the process."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._limiter = trio.CapacityLimiter(size)

    async def run(self, call: Callable[[], T]) -> T:
        """Run a blocking call. Cancellation waits for it: what it did is never lost track of."""
        return await trio.to_thread.run_sync(call, limiter=self._limiter, thread_name=self._name)

    async def run_abandonable(self, call: Callable[[], T]) -> T:
        """Run a call that may hang. Cancellation does not wait; the thread counts as taken until the call is over."""
        return await trio.to_thread.run_sync(
            call, limiter=self._limiter, thread_name=self._name, abandon_on_cancel=True
        )
