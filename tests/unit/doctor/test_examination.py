"""Checks run side by side: one that crashes or hangs is a finding, and no more."""

from __future__ import annotations

from threading import Barrier, Event, active_count

import pytest

from kora_daemon.doctor.checks import Check, Finding, Once, Severity, fine, warning
from kora_daemon.doctor.examination import Diagnosis, examine
from kora_daemon.errors import ConfigError, StoreUnavailable


def crash() -> Finding:
    raise ZeroDivisionError("by zero")


def complain() -> Finding:
    raise StoreUnavailable("it does not answer; wait for it")


def misread() -> Finding:
    raise ConfigError(["server.port: found 1", "server.host: found 2"])


def test_one_that_crashes_is_a_failure_and_the_others_run() -> None:
    found = list(
        examine(
            [
                Check("a.first", lambda: fine("good")),
                Check("a.crash", crash),
                Check("a.store", complain),
                Check("a.config", misread),
                Check("a.nothing", lambda: None),
                Check("a.last", lambda: warning("so so", "mend it")),
            ]
        )
    )
    assert found == [
        Diagnosis("a.first", Severity.OK, "good", ""),
        Diagnosis(
            "a.crash",
            Severity.FAILURE,
            "the check itself failed: ZeroDivisionError: by zero",
            "report it, with this text",
        ),
        Diagnosis("a.store", Severity.FAILURE, "it does not answer", "wait for it"),
        Diagnosis("a.config", Severity.FAILURE, "server.port: found 1\nserver.host: found 2", "correct what is named"),
        Diagnosis("a.last", Severity.WARNING, "so so", "mend it"),
    ]


def test_one_that_hangs_is_a_failure_and_the_others_run() -> None:
    released = Event()

    def hang() -> Finding:
        released.wait()
        return fine("at last")

    before = active_count()
    try:
        first, second = examine([Check("a.hangs", hang), Check("a.runs", lambda: fine("good"))], deadline_s=0.05)
    finally:
        released.set()
    assert (first.severity, first.found) == (Severity.FAILURE, "no answer within 0.05 s")
    assert (second.severity, second.found) == (Severity.OK, "good")
    assert active_count() <= before + 1


def test_they_run_side_by_side() -> None:
    together = Barrier(5, timeout=10)

    def meet() -> Finding:
        together.wait()
        return fine("met")

    assert [one.found for one in examine([Check(f"a.{number}", meet) for number in range(5)])] == ["met"] * 5


def test_what_several_checks_need_is_made_once_or_fails_for_all() -> None:
    made: list[int] = []
    number = Once(lambda: made.append(1) or len(made))
    checks = [Check(f"a.{name}", lambda: fine(str(number()))) for name in range(4)]
    assert [one.found for one in examine(checks)] == ["1"] * 4

    def fail() -> int:
        made.append(1)
        raise StoreUnavailable("no")

    failing = Once(fail)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            failing()
    assert len(made) == 2
