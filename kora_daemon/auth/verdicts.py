"""Verdicts that are remembered for a while, by the digest of the token: reconnect storms ask the same again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

V = TypeVar("V")

REMEMBERED: Final = 10_000
ACCEPTED_FOR_S: Final = 60.0
REFUSED_FOR_S: Final = 5.0
"""Refused stock clients come back about every second."""


class Verdicts(Generic[V]):
    """A bounded memory; the oldest verdict makes room for a new one. Times in seconds, by whatever clock."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._found: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()

    def get(self, key: Hashable, now: float) -> V | None:
        """What was remembered and is good still."""
        found = self._found.get(key)
        if found is None:
            return None
        good_until, verdict = found
        if now >= good_until:
            del self._found[key]
            return None
        return verdict

    def put(self, key: Hashable, verdict: V, good_until: float) -> None:
        """Remember a verdict."""
        self._found.pop(key, None)
        self._found[key] = (good_until, verdict)
        while len(self._found) > self._most:
            self._found.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """It does not hold any more."""
        self._found.pop(key, None)
