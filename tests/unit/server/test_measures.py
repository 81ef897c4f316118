"""Plain numbers."""

from __future__ import annotations

import math

import trio
import trio.testing

from kora_daemon.server.measures import Counts, Measures, Tally


def test_a_value_on_a_bound_is_below_it() -> None:
    tally = Tally((1, 2, 5))
    for value in (0, 1, 1.5, 2, 5, 5.1, 100):
        tally.add(value)
    assert tally.counts == [2, 2, 1, 2]
    assert tally.cumulative() == [(1, 2), (2, 4), (5, 5), (math.inf, 7)]
    assert (tally.count, tally.total) == (7, 114.6)


def test_a_value_may_count_many_times() -> None:
    tally = Tally((1, 2))
    tally.add(1.5, 64)
    assert (tally.counts, tally.total, tally.count) == ([0, 64, 0], 96, 64)


def test_what_is_not_known_counts_as_other() -> None:
    counts = Counts(frozenset({"A", "B"}))
    for name in ("A", "A", "made up", "\n"):
        counts.add(name)
    assert counts.by_name == {"A": 2, "other": 2}
    assert counts.complete() == {"A": 2, "B": 0, "other": 2}


def test_connections_of_any_transport_and_result_are_counted_under_few_names() -> None:
    measures = Measures()
    for number in range(100):
        measures.connection(f"transport-{number}", f"result-{number}")
    measures.connection("websocket", "joined")
    assert {name: counts.by_name for name, counts in measures.connections.items()} == {
        "other": {"other": 100},
        "websocket": {"joined": 1},
    }


def test_the_oldest_time_of_receipt_is_taken_once() -> None:
    measures = Measures()
    assert measures.take_unpublished() == math.inf
    for at in (5.0, 3.0, 4.0):
        measures.will_publish(at)
    assert (measures.take_unpublished(), measures.take_unpublished()) == (3.0, math.inf)


async def test_the_lag_of_the_loop_is_seen(autojump_clock: trio.testing.MockClock) -> None:
    measures = Measures()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measures.watch_loop)
        await trio.sleep(2.1)
        assert (measures.loop_lag.count, measures.loop_lag.total) == (4, 0.0)
        autojump_clock.jump(2.0)
        await trio.testing.wait_all_tasks_blocked()
        assert measures.last_loop_lag_s > 1.0
        nursery.cancel_scope.cancel()
