"""The clock beyond the vectors: hooks, refusals that change nothing, verdicts in doubt."""

from __future__ import annotations

import pytest

from kora_daemon.model.clock import (
    HybridClock,
    IngestVerdict,
    InvalidTimestamp,
    RemoteClockDrift,
    judge_arrival,
    parse_timestamp,
)
from kora_daemon.model.operation import Timestamp

NOW_MS = 1_700_000_000_000


def test_readings_carry_the_clocks_own_node() -> None:
    clock = HybridClock("server")
    assert clock.receive(Timestamp(NOW_MS + 5, 3, "device"), NOW_MS) == Timestamp(NOW_MS + 5, 4, "server")


def test_a_refused_remote_leaves_the_clock_as_it_was() -> None:
    clock = HybridClock("server")
    clock.now(NOW_MS)
    with pytest.raises(RemoteClockDrift, match="300001 ms ahead"):
        clock.receive(Timestamp(NOW_MS + 300_001, 7, "device"), NOW_MS)
    with pytest.raises(InvalidTimestamp):
        clock.receive(Timestamp(NOW_MS, -1, "device"), NOW_MS)
    assert clock.now(NOW_MS) == Timestamp(NOW_MS, 1, "server")


def test_drift_needs_no_hook() -> None:
    clock = HybridClock("server")
    clock.advance_to(Timestamp(NOW_MS + 10**9, 0, "device"))
    assert clock.now(NOW_MS) == Timestamp(NOW_MS + 10**9, 1, "server")


def test_a_known_offset_counts_in_the_drift() -> None:
    reported: list[int] = []
    clock = HybridClock("server", on_drift_warning=reported.append)
    clock.set_reference_offset(50_000)
    clock.advance_to(Timestamp(NOW_MS + 110_001, 0, "device"))
    clock.now(NOW_MS)
    assert reported == [60_001]


def test_advancing_to_an_older_timestamp_does_nothing() -> None:
    clock = HybridClock("server")
    clock.advance_to(Timestamp(NOW_MS, 9, "device"))
    clock.advance_to(Timestamp(NOW_MS, 8, "device"))
    clock.advance_to(Timestamp(NOW_MS - 1, 99_999, "device"))
    assert clock.now(NOW_MS) == Timestamp(NOW_MS, 10, "server")


@pytest.mark.parametrize(
    "text", ["a:1:n", "1:b:n", " 1:2:n", "+1:2:n", "-1:2:n", "1_0:2:n", "\u0661:2:n", ":2:n", "1::n"]
)
def test_only_plain_digits_are_numbers(text: str) -> None:
    with pytest.raises(InvalidTimestamp):
        parse_timestamp(text)


def test_a_node_id_may_hold_line_breaks() -> None:
    assert parse_timestamp("1:2:a\nb").node_id == "a\nb"


def test_a_boolean_is_no_reading() -> None:
    assert judge_arrival(Timestamp(True, 0, "n"), NOW_MS) is IngestVerdict.MALFORMED


def test_a_fast_clock_is_reported_before_anything_else() -> None:
    """The client stamps anew and keeps its operation; a malformed one is lost (order of wire.md section 7)."""
    assert judge_arrival(Timestamp(NOW_MS + 60_001, 100_000, "n"), NOW_MS) is IngestVerdict.TOO_FAR_AHEAD
