"""A check and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

from kora_daemon.config import Settings

T = TypeVar("T")


class Severity(StrEnum):
    """How bad it is: `warning` is for what works and may not go on doing so, `failure` for what does not work."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(NamedTuple):
    """What was found, in a sentence, and the way out where one is needed."""

    severity: Severity
    found: str
    remedy: str = ""


def fine(found: str) -> Finding:
    """All is well."""
    return Finding(Severity.OK, found)


def warning(found: str, remedy: str) -> Finding:
    """It works, for now."""
    return Finding(Severity.WARNING, found, remedy)


def failure(found: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(Severity.FAILURE, found, remedy)


class Check(NamedTuple):
    """`id` is for programs and stays.

    `look` may block, and may raise anything: then that is what was found. It finds nothing (None) where another check
    has said already why there is nothing to be seen.
    """

    id: str
    look: Callable[[], Finding | None]


Subject = Callable[[Settings], Iterable[Check]]
"""The checks of one subject, of those that make sense with these settings."""


class Once(Generic[T]):
    """What several checks need, made by the first of them that asks; the others wait for it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: list[T] = []
        self._error: Exception | None = None

    def __call__(self) -> T:
        """The same thing each time, or the same error."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._made:
                try:
                    self._made.append(self._make())
                except Exception as error:
                    self._error = error
                    raise
        return self._made[0]
