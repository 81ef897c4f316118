"""Calls that share the way to a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import trio

from kora_daemon.server.joint_calls import MOST_AT_ONCE, JointCalls
from kora_daemon.server.threads import ThreadPool


class Desk:
    """Counts how often a thread was asked for, and can keep the first one busy."""

    def __init__(self, size: int) -> None:
        self.ways = 0
        self.made: list[int] = []
        self.calls: JointCalls[int] = JointCalls(self, size)  # type: ignore[arg-type]
        self._pool = ThreadPool("desk", 4)
        self._open = threading.Event()
        self._open.set()

    async def run(self, call: Callable[[], None]) -> None:
        """As a pool does."""
        self.ways += 1
        await self._pool.run(lambda: (self._open.wait(5), call())[1])

    def shut(self) -> None:
        """Nothing is done until `open`."""
        self._open.clear()

    def open(self) -> None:
        """Go on."""
        self._open.set()

    async def ask(self, number: int) -> None:
        """One call."""
        assert await self.calls.run(lambda: number) == number
        self.made.append(number)


async def test_those_that_come_at_once_go_together() -> None:
    desk = Desk(2)
    async with trio.open_nursery() as nursery:
        for number in range(MOST_AT_ONCE):
            nursery.start_soon(desk.ask, number)
    assert sorted(desk.made) == list(range(MOST_AT_ONCE))
    assert desk.ways <= 2


async def test_more_than_one_way_can_carry_go_all_the_same() -> None:
    desk = Desk(1)
    async with trio.open_nursery() as nursery:
        for number in range(3 * MOST_AT_ONCE + 1):
            nursery.start_soon(desk.ask, number)
    assert sorted(desk.made) == list(range(3 * MOST_AT_ONCE + 1))
    assert desk.ways >= 4


async def test_a_call_that_fails_fails_alone() -> None:
    desk = Desk(1)

    def broken() -> int:
        raise ValueError("mine")

    async def fail() -> None:
        with pytest.raises(ValueError, match="mine"):
            await desk.calls.run(broken)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask, 1)
        nursery.start_soon(fail)
        nursery.start_soon(desk.ask, 2)
    assert sorted(desk.made) == [1, 2]
    assert desk.ways == 1


@pytest.mark.parametrize("given_up", [0, 1, 2])
async def test_whoever_gives_up_holds_nobody_up(given_up: int) -> None:
    """Each in turn: the one that waits for the others' thread, the one that would lead next, the last one."""
    desk = Desk(1)
    desk.shut()
    scopes = [trio.CancelScope() for _ in range(3)]

    async def ask(number: int) -> None:
        with scopes[number]:
            await desk.ask(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask, 9)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(3):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()
        scopes[given_up].cancel()
        desk.open()
    assert sorted(desk.made) == sorted({0, 1, 2, 9} - {given_up})
    assert desk.calls._idle == 1
    assert desk.calls._waiting == []


async def test_whoever_is_to_lead_and_gives_up_hands_the_lead_on() -> None:
    desk = Desk(1)
    desk.shut()
    scope = trio.CancelScope()

    async def first() -> None:
        await desk.ask(9)
        scope.cancel()  # the next one has just been given the lead

    async def leader() -> None:
        with scope:
            await desk.ask(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(leader)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(desk.ask, 2)
        await trio.testing.wait_all_tasks_blocked()
        desk.open()
    assert desk.made == [9, 2]
    assert desk.calls._idle == 1


async def test_whoever_goes_along_and_gives_up_disturbs_nobody() -> None:
    desk = Desk(1)
    desk.shut()
    scope = trio.CancelScope()

    async def follower() -> None:
        with scope:
            await desk.ask(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask, 9)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(desk.ask, 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(follower)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(cancel_once_carried, desk, scope)
        desk.open()
    assert desk.made == [9, 1]
    assert desk.calls._idle == 1


async def cancel_once_carried(desk: Desk, scope: trio.CancelScope) -> None:
    while desk.ways < 2:
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_whoever_gives_up_in_the_moment_of_being_given_the_lead_hands_it_on() -> None:
    desk = Desk(1)
    desk.shut()
    scope = trio.CancelScope()

    async def first() -> None:
        await desk.ask(9)

    async def leader() -> None:
        with scope:
            await desk.ask(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(leader)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(desk.ask, 2)
        await trio.testing.wait_all_tasks_blocked()
        given_up_by_the_lead(desk, scope)
        desk.open()
    assert desk.made == [9, 2]
    assert desk.calls._idle == 1


def given_up_by_the_lead(desk: Desk, scope: trio.CancelScope) -> None:
    """Cancel whoever is to lead next, just before it is."""
    hand_on = desk.calls._next

    def cancel_first() -> None:
        scope.cancel()
        desk.calls._next = hand_on  # type: ignore[method-assign]
        hand_on()

    desk.calls._next = cancel_first  # type: ignore[method-assign]
