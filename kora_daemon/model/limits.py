"""How much a session may upload, and tell others (wire.md sections 7 and 9)."""

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


LIVE_MESSAGES_PER_MINUTE = 6_000
LIVE_BYTES_PER_MINUTE = 60 << 20
"""Somebody who types and moves a cursor at once says some 20 things a second."""


class LiveBudget:
    """What one session may tell others without its being stored: messages and bytes, a bucket for each.

    Both start full with what is good for a minute. What is not paid for is dropped; nothing is owed for it.
    """

    def __init__(self, now_ms: int) -> None:
        self._buckets = (
            OperationBudget(LIVE_MESSAGES_PER_MINUTE, now_ms),
            OperationBudget(LIVE_BYTES_PER_MINUTE, now_ms),
        )
        self.refused = 0

    def pay(self, size_bytes: int, now_ms: int) -> bool:
        """Pay for a message; False when it has to be dropped."""
        if any(bucket.ready_at(now_ms) > now_ms for bucket in self._buckets):
            self.refused += 1
            return False
        for bucket, count in zip(self._buckets, (1, size_bytes), strict=True):
            bucket.take(count, now_ms)
        return True
