"""The hybrid clock never goes back, whatever physical time and peers do; its text sorts as it does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.model.clock import (
    MAX_LOGICAL,
    WALL_TIME_END_MS,
    HybridClock,
    InvalidTimestamp,
    RemoteClockDrift,
    clock_order,
    is_reading,
    parse_timestamp,
    timestamp_text,
)
from kora_daemon.model.operation import Timestamp

logicals = st.sampled_from([0, 1, MAX_LOGICAL - 1, MAX_LOGICAL]) | st.integers(0, MAX_LOGICAL)
readings = st.builds(Timestamp, st.integers(0, WALL_TIME_END_MS - 1), logicals, st.text(st.characters()))
near = st.integers(1_000_000, 1_000_005)
remotes = st.builds(
    Timestamp, near | st.integers(-5, 2_000_000), logicals | st.integers(-2, 300_000), st.just("remote")
)
steps = st.lists(st.tuples(st.sampled_from(["now", "receive", "advance"]), near | st.integers(1, 2_000_000), remotes))


@settings(deadline=None)
@given(steps)
def test_every_reading_is_later_than_all_before_and_than_what_was_received(
    script: list[tuple[str, int, Timestamp]],
) -> None:
    clock = HybridClock("own")
    latest = (-1, 0)
    for call, physical_ms, remote in script:
        if call == "advance":
            clock.advance_to(remote)
            carried_ms, logical = divmod(remote.logical, MAX_LOGICAL + 1)
            latest = max(latest, (remote.wall_time + carried_ms, logical))
            continue
        try:
            reading = clock.now(physical_ms) if call == "now" else clock.receive(remote, physical_ms)
        except (InvalidTimestamp, RemoteClockDrift):
            continue
        assert is_reading(reading)
        assert (reading.wall_time, reading.logical) > latest
        assert reading.wall_time >= physical_ms
        if call == "receive":
            assert (reading.wall_time, reading.logical) > (remote.wall_time, remote.logical)
        latest = (reading.wall_time, reading.logical)


@settings(deadline=None)
@given(readings)
def test_the_text_form_is_read_back(timestamp: Timestamp) -> None:
    assert parse_timestamp(timestamp_text(timestamp)) == timestamp


@settings(deadline=None)
@given(readings, readings)
def test_texts_sort_as_the_clock_orders(left: Timestamp, right: Timestamp) -> None:
    left_text, right_text = (timestamp_text(each).encode("utf-16-be", "surrogatepass") for each in (left, right))
    assert (left_text < right_text) == (clock_order(left) < clock_order(right))
