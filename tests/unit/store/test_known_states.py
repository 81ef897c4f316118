"""States that are kept from one write to the next."""

from __future__ import annotations

from kora_daemon.materialization.fold import RecordState
from kora_daemon.model.record import RecordKey
from kora_daemon.store.states import KnownStates


def key(name: str) -> RecordKey:
    return RecordKey("todos", name)


def state(value: int) -> RecordState:
    return RecordState(1, (1, 0, "n"), True, {"n": value}, {})


def filled(max_bytes: int = 100) -> KnownStates:
    """With one record, `a`, after a transaction that left the database at (1,)."""
    known = KnownStates(max_bytes)
    known.begin((0,))
    known.put(key("a"), state(1), 40)
    known.end((1,))
    return known


def test_states_are_good_where_the_last_write_ended() -> None:
    known = filled()
    known.begin((1,))
    assert known.get(key("a")) == state(1)


def test_states_are_forgotten_when_somebody_else_has_written() -> None:
    known = filled()
    known.begin((2,))
    assert known.get(key("a")) is None


def test_states_are_forgotten_after_a_write_that_failed() -> None:
    known = filled()
    known.begin((1,))
    known.put(key("a"), state(2), 40)
    known.begin((1,))
    assert known.get(key("a")) is None


def test_who_was_written_longest_ago_goes_first() -> None:
    known = filled()
    known.put(key("b"), state(2), 40)
    known.put(key("a"), state(3), 50)
    known.put(key("c"), state(4), 40)
    assert [known.get(key(name)) for name in "abc"] == [state(3), None, state(4)]


def test_a_state_that_is_too_large_is_not_kept_and_takes_nothing_with_it_later() -> None:
    known = filled()
    known.put(key("b"), state(2), 101)
    assert known.get(key("b")) is None
    known.put(key("c"), state(3), 100)
    assert known.get(key("c")) == state(3)
