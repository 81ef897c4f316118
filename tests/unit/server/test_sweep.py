from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
from trio.testing import MockClock

from kora_daemon.server.sweep import SWEEP_INTERVAL_S, Sweep


class Watched:
    """Quiet for so long after each look, unless something happens."""

    def __init__(self, sweep: Sweep, number: int, quiet_s: float) -> None:
        self.number = number
        self.quiet_until = 0.0
        self.quiet_s = quiet_s
        self.looks: list[float] = []
        self.happened_at = trio.current_time()
        self._sweep = sweep

    def sweep(self) -> None:
        self.looks.append(trio.current_time())
        self.quiet_until = trio.current_time() + self.quiet_s

    def happens(self, quiet_s: float) -> None:
        if self.quiet_until:
            self.happened_at = trio.current_time()
        self.quiet_s, self.quiet_until = quiet_s, 0.0
        self._sweep.stir(self.number)


@asynccontextmanager
async def swept(*quiet_s: float) -> AsyncIterator[tuple[dict[int, Watched], Sweep]]:
    peers: dict[int, Watched] = {}
    sweep = Sweep(peers)
    for number, one in enumerate(quiet_s):
        peers[number] = Watched(sweep, number, one)
        sweep.stir(number)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweep.run)
        yield peers, sweep
        nursery.cancel_scope.cancel()


async def test_who_is_quiet_is_not_looked_at(autojump_clock: MockClock) -> None:
    async with swept(0.0, 25.0) as (peers, _):
        await trio.sleep(60.1)
    assert len(peers[0].looks) == 60.1 // SWEEP_INTERVAL_S
    assert peers[1].looks == [0.5, 25.5, 50.5]


async def test_who_is_stirred_is_looked_at_next_time_and_then_when_it_is_time(autojump_clock: MockClock) -> None:
    async with swept(25.0) as (peers, _):
        await trio.sleep(10.1)
        peers[0].happens(2.0)
        await trio.sleep(1)
        peers[0].happens(20.0)
        await trio.sleep(40)
    assert peers[0].looks == [0.5, 10.5, 11.5, 31.5]


async def test_who_has_gone_is_forgotten(autojump_clock: MockClock) -> None:
    async with swept(5.0, 0.0, 5.0) as (peers, sweep):
        await trio.sleep(1.1)
        gone = [peers.pop(0), peers.pop(1)]
        await trio.sleep(20)
        assert [len(one.looks) for one in gone] == [1, 2]
        assert len(peers[2].looks) == 5
        assert len(sweep._times) == len(sweep._next) == 1
        assert not sweep._stirred


@pytest.mark.parametrize("quiet_s", [3_600.0, math.inf])
async def test_those_who_were_to_be_quiet_for_long_are_forgotten_too(quiet_s: float, autojump_clock: MockClock) -> None:
    async with swept(*(quiet_s for _ in range(10))) as (peers, sweep):
        await trio.sleep(1)
        stays = peers[0]
        for _ in range(1_000):
            stays.happens(2.0)
            await trio.sleep(1)
            stays.happens(quiet_s)
            await trio.sleep(1)
            assert len(sweep._times) < 50
        for number in range(1, 10):
            del peers[number]
        await trio.sleep(100)
        assert len(sweep._times) == len(sweep._next) == 1
    assert stays.looks[-1] <= 2_002


async def test_nobody_is_looked_at_late_or_in_vain_whatever_happens(autojump_clock: MockClock) -> None:
    chance = Random(7)
    async with swept(*(chance.choice((0.0, 1.0, 7.3, 25.0)) for _ in range(20))) as (peers, sweep):
        for _ in range(3_000):
            await trio.sleep(chance.random() / 5)
            chance.choice(list(peers.values())).happens(chance.choice((0.3, 1.0, 7.3, 25.0)))
            late = trio.current_time() - SWEEP_INTERVAL_S
            assert all(one.quiet_until >= late or one.quiet_until == 0.0 for one in peers.values())
            assert all(one.happened_at >= late for one in peers.values() if one.quiet_until == 0.0)
            assert len(sweep._times) < 4 * len(peers)
        await trio.sleep(1)
        assert all(one.quiet_until > 0.0 for one in peers.values())
