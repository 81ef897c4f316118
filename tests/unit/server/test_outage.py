"""Waiting for a store that does not answer."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from kora_daemon.errors import StoreCorrupt, StoreUnavailable
from kora_daemon.server.outage import Outage


class Database:
    """Does not answer before `back_at`, in s of the event loop."""

    def __init__(self, back_at: float, error: Exception | None = None) -> None:
        self.back_at = back_at
        self.asked = 0
        self.error = error or StoreUnavailable("gone")

    async def ask(self) -> str:
        self.asked += 1
        if trio.current_time() < self.back_at:
            raise self.error
        return "here"


async def test_an_answer_is_returned_at_once(autojump_clock: trio.testing.MockClock) -> None:
    assert await Outage(0).outlast(Database(0).ask) == "here"


async def test_without_patience_everybody_is_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    database = Database(1)
    with pytest.raises(StoreUnavailable):
        await Outage(0).outlast(database.ask)
    assert database.asked == 1


async def test_an_outage_shorter_than_the_patience_is_a_pause(autojump_clock: trio.testing.MockClock) -> None:
    database = Database(trio.current_time() + 9)
    assert await Outage(10).outlast(database.ask) == "here"
    assert trio.current_time() < database.back_at + 1.01
    assert database.asked < 20


async def test_patience_counts_from_the_beginning_of_the_outage(autojump_clock: trio.testing.MockClock) -> None:
    outage = Outage(10)
    start = trio.current_time()
    with pytest.raises(StoreUnavailable):
        await outage.outlast(Database(start + 1_000).ask)
    assert 8 < trio.current_time() - start <= 10
    ended = trio.current_time()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await outage.outlast(Database(start + 1_000).ask)
    assert trio.current_time() - ended <= 2, "those who come later have waited already"


async def test_after_an_answer_there_is_patience_again(autojump_clock: trio.testing.MockClock) -> None:
    outage = Outage(10)
    start = trio.current_time()
    with pytest.raises(StoreUnavailable):
        await outage.outlast(Database(start + 1_000).ask)
    await outage.outlast(Database(0).ask)
    again = Database(trio.current_time() + 9)
    assert await outage.outlast(again.ask) == "here"


async def test_once_given_up_it_stays_so(autojump_clock: trio.testing.MockClock) -> None:
    outage = Outage(10)
    outage.give_up()
    await outage.outlast(Database(0).ask)
    database = Database(trio.current_time() + 5)
    with pytest.raises(StoreUnavailable):
        await outage.outlast(database.ask)
    assert database.asked == 1


async def test_other_errors_are_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    database = Database(5, StoreCorrupt("damaged"))
    with pytest.raises(StoreCorrupt):
        await Outage(10).outlast(database.ask)
    assert database.asked == 1
