"""Short blocking calls that share the way to a thread, which costs more than they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import outcome
import trio

from kora_daemon.server.threads import ThreadPool

T = TypeVar("T")

MOST_AT_ONCE = 32
"""Calls in one go: the first of them waits for the last."""


class _Call(Generic[T]):
    """A call, and how it has ended. `leads`: whoever waits for it is to take those along that wait behind it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.ended: outcome.Outcome[T] | None = None
        self.leads = False
        self.woken = trio.Event()

    def make(self) -> None:
        self.ended = outcome.capture(self._call)


class JointCalls(Generic[T]):
    """Makes calls in `size` threads of a pool. While these are busy the next ones gather, and then go together.

    So who comes alone waits for nobody, and a thousand devices that come at once do not need a thousand threads.
    """

    def __init__(self, pool: ThreadPool, size: int) -> None:
        self._pool = pool
        self._idle = size
        self._gathering = False
        self._waiting: list[_Call[T]] = []

    async def run(self, call: Callable[[], T]) -> T:
        """The result of a call. Raises what it raises, and nothing of the others'."""
        mine = _Call(call)
        while mine.ended is None:
            if await self._turn(mine):
                await self._go(mine)
        return mine.ended.unwrap()

    async def _turn(self, mine: _Call[T]) -> bool:
        """Wait for a thread; False when the call went along with another one instead."""
        if self._idle and not self._gathering:
            self._idle -= 1
            return True
        mine.woken = trio.Event()
        self._waiting.append(mine)
        try:
            await mine.woken.wait()
        except trio.Cancelled:
            if mine in self._waiting:  # or it is under way already, with those that went
                self._waiting.remove(mine)
            raise
        return mine.leads

    async def _go(self, mine: _Call[T]) -> None:
        self._gathering = True
        await trio.lowlevel.cancel_shielded_checkpoint()  # whoever comes in this moment goes along
        self._gathering = False
        together = [mine, *self._waiting[: MOST_AT_ONCE - 1]]
        del self._waiting[: MOST_AT_ONCE - 1]
        if self._waiting and self._idle:
            self._idle -= 1
            self._next()
        try:
            await self._pool.run(lambda: _make(together))
        finally:
            mine.leads = False
            self._next()
            for one in together:
                one.woken.set()

    def _next(self) -> None:
        if not self._waiting:
            self._idle += 1
            return
        leader = self._waiting.pop(0)
        leader.leads = True
        leader.woken.set()


def _make(calls: Sequence[_Call[T]]) -> None:
    for one in calls:
        one.make()
