"""How many operations a session may upload (wire.md section 7)."""

from __future__ import annotations

_MINUTE_MS = 60_000


class OperationBudget:
    """A token bucket with debt, for one session.

    It starts full with one minute's worth of operations and refills continuously. A batch is taken whole whenever the
    bucket is above 0, and may drive it far below; until it is above 0 again the session is not read. So a batch larger
    than the bucket gets through, every retry makes progress, and the rate holds in the long run.

    Time is ms of a clock that does not jump; going back counts as standing still.
    """

    def __init__(self, operations_per_minute: int, now_ms: int) -> None:
        if operations_per_minute < 1:
            raise ValueError(f"found {operations_per_minute} operations per minute, expected at least 1")
        # The level counts sixty-thousandths of an operation, so that a millisecond's refill is a whole number.
        self._refill_per_ms = operations_per_minute
        self._capacity = operations_per_minute * _MINUTE_MS
        self._level = self._capacity
        self._refilled_at_ms = now_ms

    def ready_at(self, now_ms: int) -> int:
        """The earliest time, ms, at which the session may be read: `now_ms`, or later while in debt."""
        self._refill(now_ms)
        if self._level > 0:
            return now_ms
        return self._refilled_at_ms + -self._level // self._refill_per_ms + 1

    def take(self, count: int, now_ms: int) -> None:
        """Pay for a batch of `count` operations."""
        self._refill(now_ms)
        self._level -= count * _MINUTE_MS

    def _refill(self, now_ms: int) -> None:
        elapsed_ms = max(0, now_ms - self._refilled_at_ms)
        self._level = min(self._capacity, self._level + elapsed_ms * self._refill_per_ms)
        self._refilled_at_ms += elapsed_ms
