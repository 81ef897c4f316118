"""The ring of recent events."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from kora_daemon.server import journal as module
from kora_daemon.server.journal import Event, Journal


def numbers(events: list[Event]) -> list[int]:
    return [one.number for one in events]


async def test_events_are_numbered_from_one_and_read_from_anywhere() -> None:
    journal = Journal()
    assert (journal.last, journal.after(0)) == (0, [])
    for _ in range(3):
        journal.record("a", x=1)
    assert journal.last == 3
    assert [numbers(journal.after(n)) for n in range(5)] == [[1, 2, 3], [2, 3], [3], [], []]
    assert journal.after(2)[0].about == {"x": 1}


async def test_the_oldest_go_first() -> None:
    journal = Journal(kept=3)
    for _ in range(10):
        journal.record("a")
    assert numbers(journal.after(0)) == [8, 9, 10]
    assert numbers(journal.after(8)) == [9, 10]


async def test_long_texts_are_cut() -> None:
    journal = Journal()
    journal.record("a", node="n" * 10_000, count=5, none=None)
    assert journal.after(0)[0].about == {"node": "n" * 200, "count": 5, "none": None}


async def test_whoever_waits_is_woken_once_there_is_something(autojump_clock: trio.testing.MockClock) -> None:
    journal = Journal()
    journal.record("a")
    await journal.beyond(0)
    with trio.move_on_after(1) as waiting:
        await journal.beyond(1)
    assert waiting.cancelled_caught
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(journal.beyond, 1)
        await trio.testing.wait_all_tasks_blocked()
        journal.record("b")


async def test_what_is_repeated_is_told_ever_more_rarely(autojump_clock: trio.testing.MockClock) -> None:
    journal = Journal()
    for _ in range(1_234):
        journal.repeat("rejected", "x", code="X")
    assert [one.about["count"] for one in journal.after(0)] == [1, 10, 100, 1_000]
    journal.repeat("rejected", "y")
    assert journal.last == 5
    await trio.sleep(61)
    journal.repeat("rejected", "x")
    assert journal.after(5)[0].about == {"count": 1}


async def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REPEATED", 10)
    journal: Any = Journal()
    for number in range(1_000):
        journal.repeat("rejected", number)
    assert len(journal._repeated) <= 10
