"""Plain numbers about a server, taken where things happen; whoever shows them makes something nicer of them.

One server has one of these. On the hot path they cost an addition or two; nothing in here grows with time, or with how
many devices there are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import trio

from kora_daemon.server.beat import next_beat

OTHER: Final = "other"
OPERATION_CODES: Final = frozenset(
    {
        "CONSTRAINT_VIOLATION",
        "INVALID_OPERATION",
        "INVALID_TIMESTAMP",
        "INVALID_VALUE",
        "NODE_ID_MISMATCH",
        "OPERATION_TOO_LARGE",
        "REFERENTIAL_INTEGRITY",
        "SCOPE_VIOLATION",
        "VALIDATION_ERROR",
    }
)
"""Why an operation is refused (wire.md section 7, store.md section 6.1); a validator may have codes of its own."""
ERROR_CODES: Final = frozenset(
    {
        "AUTH_FAILED",
        "AUTH_UNAVAILABLE",
        "BATCH_TOO_LARGE",
        "DUPLICATE_HANDSHAKE",
        "HANDSHAKE_REQUIRED",
        "INVALID_TIMESTAMP",
        "MALFORMED_MESSAGE",
        "MAX_CONNECTIONS",
        "RATE_LIMIT",
    }
)
"""What a session is told before it is closed."""
CLOSES: Final = frozenset(
    {"1000", "1001", "1002", "1007", "1009", "1011", "4001", "4002", "4008", "4013", "4029", "peer"}
)
"""By what code a connection was ended, or that its peer went."""
BLOB_OUTCOMES: Final = frozenset(
    {"stored", "served", "busy", "full", "read_only", "too_large", "unavailable", "unused", "wrong"}
)
"""Contents that were kept and given away; and why a content that was offered was dropped."""

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SYNC_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
OPERATIONS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)
LOOP_INTERVAL_S: Final = 0.5


class Tally:
    """A histogram. `bounds` are the upper ends of its buckets, ascending; above the last one there is one more."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value, so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """For each bucket its upper end and how many values are not above that; the last end is infinity."""
        reached = 0
        found = []
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            reached += count
            found.append((bound, reached))
        return found


class Counts:
    """How often each of a fixed set of things has happened; anything else counts as `other`."""

    __slots__ = ("by_name", "known")

    def __init__(self, known: frozenset[str]) -> None:
        self.known = known
        self.by_name: dict[str, int] = {}
        """Those that have happened."""

    def add(self, name: str, times: int = 1) -> None:
        """Count one more."""
        if name not in self.known:
            name = OTHER
        self.by_name[name] = self.by_name.get(name, 0) + times

    def complete(self) -> dict[str, int]:
        """All of them, also those that have not happened."""
        return {name: self.by_name.get(name, 0) for name in (*sorted(self.known), OTHER)}


class Measures:
    """What a server has done since its start. Times in seconds, on the event loop's clock."""

    def __init__(self) -> None:
        self.uploaded_operations = self.uploaded_bytes = 0
        """By devices, handed to the writer: before records are looked at, or whether it is known already."""
        self.delivered_operations = self.delivered_bytes = self.delivered_batches = 0
        self.dropped_presence = 0
        """Frames that can be done without, and were not sent to devices that are behind with reading."""
        self.unheard_messages = 0
        """Presence and the like that was not passed on: its session had said too much."""
        self.outages = 0
        """How often the store has stopped to take writes."""
        self.write_to_ack = Tally(SECONDS)
        self.write_to_deliver = Tally(SECONDS)
        self.commit_operations = Tally(OPERATIONS)
        self.commit_seconds = Tally(SECONDS)
        self.last_commit_operations = 0
        self.last_commit_s = 0.0
        self.first_sync_seconds = Tally(SYNC_SECONDS)
        self.resync_seconds = Tally(SYNC_SECONDS)
        self.loop_lag = Tally(SECONDS)
        self.last_loop_lag_s = 0.0
        self.rejections = Counts(OPERATION_CODES)
        self.errors = Counts(ERROR_CODES)
        self.closes = Counts(CLOSES)
        self.auth = Counts(frozenset({"accepted", "refused", "unavailable"}))
        self.blobs = Counts(BLOB_OUTCOMES)
        self.connections: dict[str, Counts] = {}
        """By transport, what became of a connection."""
        self._unpublished_since = math.inf

    def connection(self, transport: str, result: str) -> None:
        """A connection has come as far as it will."""
        if transport not in ("websocket", "http", "memory"):
            transport = OTHER
        if transport not in self.connections:
            self.connections[transport] = Counts(frozenset({"joined", "refused", "unauthenticated", "unfinished"}))
        self.connections[transport].add(result)

    def committed(self, operations: int, seconds: float) -> None:
        """A group of batches is durable."""
        self.commit_operations.add(operations)
        self.commit_seconds.add(seconds)
        self.last_commit_operations, self.last_commit_s = operations, seconds

    def will_publish(self, received_at: float) -> None:
        """What was received then is about to be delivered."""
        self._unpublished_since = min(self._unpublished_since, received_at)

    def take_unpublished(self) -> float:
        """When the oldest operation was received that has not been delivered live yet; infinity for none."""
        since, self._unpublished_since = self._unpublished_since, math.inf
        return since

    async def watch_loop(self) -> None:
        """See how late the event loop is, for ever."""
        while True:
            due = next_beat(LOOP_INTERVAL_S)
            await trio.sleep_until(due)
            self.last_loop_lag_s = trio.current_time() - due
            self.loop_lag.add(self.last_loop_lag_s)
