"""Runs checks side by side, each in a thread of its own: one that crashes or hangs is a finding, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from msgspec import Struct

from kora_daemon.doctor.checks import Check, Finding, Severity, failure
from kora_daemon.errors import ConfigError, KoraError

DEADLINE_S = 15.0
"""For all of them together. A check has shorter limits of its own for what it waits for."""


class Diagnosis(Struct, frozen=True):
    """What a check found."""

    id: str
    severity: Severity
    found: str
    remedy: str


def examine(checks: Iterable[Check], deadline_s: float = DEADLINE_S) -> Iterator[Diagnosis]:
    """What the checks find, in their order; there is at most one diagnosis of each.

    A check that does not end in time is left to itself: its thread goes with the process.
    """
    begun = [(check, _begin(check)) for check in checks]
    deadline = monotonic() + deadline_s
    for check, answer in begun:
        try:
            finding = answer.get(timeout=max(0.0, deadline - monotonic()))
        except Empty:
            finding = failure(f"no answer within {deadline_s:g} s", "look for what it waits for: a disk, the network")
        if finding is not None:
            yield Diagnosis(check.id, *finding)


def _begin(check: Check) -> SimpleQueue[Finding | None]:
    answer: SimpleQueue[Finding | None] = SimpleQueue()
    Thread(target=lambda: answer.put(_outcome(check)), name=f"doctor {check.id}", daemon=True).start()
    return answer


def _outcome(check: Check) -> Finding | None:
    try:
        return check.look()
    except ConfigError as error:
        return failure("\n".join(error.problems), "correct what is named")
    except KoraError as error:
        found, _, way_out = str(error).partition("; ")  # as our errors are written
        return failure(found, way_out or "look into what it names")
    except Exception as error:
        return failure(f"the check itself failed: {type(error).__name__}: {error}", "report it, with this text")
