"""The machine of one life of the daemon: simulated clock and chance, and calls that block simulated time only."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

import trio

from kora_daemon.server.machine import Machine
from kora_daemon.torture.moments import Moments
from kora_daemon.torture.weather import EPOCH_MS, Weather

T = TypeVar("T")


class SimulatedMachine(Machine):
    """Makes a thread's calls on the spot, some time after it was asked to, and some time before it says so."""

    def __init__(self, random: Random, weather: Weather, moments: Moments) -> None:
        self._random = random
        self._moments = moments
        self._weather = weather
        self._calls: dict[trio.CancelScope, None] = {}
        self.is_dead = False

    def wall_ms(self) -> int:
        """Of the daemon's own clock."""
        return EPOCH_MS + int(trio.current_time() * 1000) + self._weather.clock_ahead_ms

    def random_bytes(self, count: int) -> bytes:
        """Drawn from the seed."""
        return self._random.randbytes(count)

    def die(self) -> None:
        """The process is killed: calls that have not begun never will, those that are done are not heard of."""
        self.is_dead = True
        for call in self._calls:
            call.cancel()

    async def in_thread(
        self, call: Callable[[], T], name: str, limiter: trio.CapacityLimiter, *, abandonable: bool
    ) -> T:
        """The result of a call; like a real thread's it can't be cancelled, unless somebody said so. But it can die."""
        del name
        borrower = object()
        await limiter.acquire_on_behalf_of(borrower)
        try:
            with trio.CancelScope(shield=not abandonable) as scope:
                self._calls[scope] = None
                try:
                    return await self._call(call)
                finally:
                    del self._calls[scope]
        finally:
            limiter.release_on_behalf_of(borrower)
        # Killed: whoever waits is cancelled, too. What tidies up nevertheless finds that nothing answers any more.
        await trio.lowlevel.checkpoint()
        return call()

    async def _call(self, call: Callable[[], T]) -> T:
        if self.is_dead:
            return call()
        await self._pass_time()
        try:
            result = call()
        except Exception:
            await self._pass_time()
            raise
        await self._pass_time()
        return result

    async def _pass_time(self) -> None:
        if self._random.random() < 0.5:
            await self._moments.pause(self._random.random() * self._weather.call_s)
        else:
            await trio.lowlevel.checkpoint()
