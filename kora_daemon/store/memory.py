"""A log that lives as long as the process: to try things out, for tests, and as the promises in their simplest form."""

from __future__ import annotations

import os
import time
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock

from msgspec import UnsetType
from msgspec.structs import replace

from kora_daemon.errors import StoreError, StoreUnavailable
from kora_daemon.model.delivery import CausalKey, LogEntry
from kora_daemon.model.identity import uuid7
from kora_daemon.model.operation import Operation
from kora_daemon.store.page import take_bytes


class MemoryStore:
    """A `Store` without a medium. `close` forgets everything, a later `open` begins an empty log with a new node id."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_open = False
        self._forget()

    def _forget(self) -> None:
        self._node_id = uuid7(time.time() * 1000, os.urandom(16))
        # Delivery sequences have no gaps here: entry n stands at n - 1.
        self._entries: list[LogEntry] = []
        self._ids: set[str] = set()
        self._authors: dict[str, list[tuple[int, int]]] = {}
        """Node id -> (sequence number, delivery sequence) of its operations, ascending."""

    @property
    def node_id(self) -> str:
        """The server's own node id (UUIDv7)."""
        return self._node_id

    def open(self) -> None:
        """Begin an empty log, unless one is open."""
        self._is_open = True

    def close(self) -> None:
        """Forget the log."""
        with self._lock:
            self._is_open = False
            self._forget()

    @contextmanager
    def transaction(self) -> Iterator[MemoryTransaction]:
        """A write transaction. Nothing of it is kept when the block raises."""
        with self._reading():
            transaction = MemoryTransaction(self._ids, len(self._entries))
        yield transaction
        with self._reading():
            self._publish(transaction.staged)

    def _publish(self, staged: Sequence[LogEntry]) -> None:
        for entry in staged:
            operation = entry.operation
            self._ids.add(operation.id)
            insort(self._authors.setdefault(operation.node_id, []), (operation.sequence_number, entry.sequence))
        self._entries.extend(staged)

    def probe(self) -> None:
        """Raise `StoreUnavailable` when the store is closed."""
        with self._reading():
            pass

    def checkpoint(self) -> None:
        """Nothing is left behind here. Raises like `probe`."""
        self.probe()

    def frontier(self) -> int:
        """The largest delivery sequence in the log, 0 for an empty one."""
        with self._reading():
            return len(self._entries)

    def count_operations(self) -> int:
        """How many operations the log holds."""
        return self.frontier()

    def version_vector(self, nodes: Iterable[str] | None = None) -> dict[str, int]:
        """Node id -> largest sequence number seen, of these nodes or of all; unknown nodes are left out."""
        with self._reading():
            wanted = self._authors if nodes is None else [node for node in nodes if node in self._authors]
            vector = {node: self._authors[node][-1][0] for node in wanted}
        return {node: number for node, number in vector.items() if number}

    def authors_after(self, sequence: int) -> set[str]:
        """Node ids of the entries with a delivery sequence above `sequence`."""
        with self._reading():
            entries = self._entries[max(sequence, 0) :]
        return {entry.operation.node_id for entry in entries}

    def entries_after(self, sequence: int, limit: int, max_bytes: int | None = None) -> list[LogEntry]:
        """At most `limit` entries above `sequence`, ascending; `max_bytes` as in the contract."""
        start = max(sequence, 0)
        with self._reading():
            entries = self._entries[start : start + max(limit, 0)]
        return take_bytes(entries, max_bytes)

    def entries_at(self, sequences: Sequence[int]) -> list[LogEntry]:
        """The entries with these delivery sequences, in the order given; unknown ones are left out."""
        with self._reading():
            return [self._entries[n - 1] for n in sequences if 0 < n <= len(self._entries)]

    def causal_keys_above(self, vector: Mapping[str, int]) -> list[CausalKey]:
        """Keys of all entries above `vector`, in delivery order."""
        found: list[int] = []
        with self._reading():
            entries = self._entries
            for node_id, numbers in self._authors.items():
                first_new = bisect_left(numbers, (vector.get(node_id, -1) + 1,))
                found.extend(sequence for _, sequence in numbers[first_new:])
        return [_causal_key(entries[sequence - 1]) for sequence in sorted(found)]

    def operation_range(self, node_id: str, first: int, last: int) -> list[Operation]:
        """Operations of one author with sequence numbers from `first` to `last`, both included, ascending."""
        with self._reading():
            numbers = self._authors.get(node_id, [])
            found = numbers[bisect_left(numbers, (first,)) : bisect_left(numbers, (last + 1,))]
            entries = self._entries
        return [entries[sequence - 1].operation for _, sequence in found]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            if not self._is_open:
                raise StoreUnavailable("The memory store is closed; open it first")
            yield


class MemoryTransaction:
    """One atomic write to a `MemoryStore`: a list that becomes part of the log at the end."""

    def __init__(self, ids: set[str], frontier: int) -> None:
        self._ids = ids
        self._frontier = frontier
        self._staged_ids: set[str] = set()
        self.staged: list[LogEntry] = []

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log already."""
        return {one for one in ids if one in self._ids or one in self._staged_ids}

    def append(self, operations: Sequence[Operation], received_at_ms: int) -> list[int]:
        """Append operations with new ids; return their delivery sequences. Raises StoreError for a known id."""
        appended: list[int] = []
        for operation in operations:
            if self.known_ids([operation.id]):
                raise StoreError(f"The operation {operation.id} is in the log already")
            self._staged_ids.add(operation.id)
            sequence = self._frontier + len(self.staged) + 1
            self.staged.append(LogEntry(sequence, _detached(operation)))
            appended.append(sequence)
        return appended


def _detached(operation: Operation) -> Operation:
    """A copy that does not keep the frame alive from which the operation was decoded."""
    atomic_ops = operation.atomic_ops
    return replace(
        operation,
        data=operation.data.copy(),
        previous_data=operation.previous_data.copy(),
        atomic_ops=atomic_ops if isinstance(atomic_ops, UnsetType) else atomic_ops.copy(),
    )


def _causal_key(entry: LogEntry) -> CausalKey:
    operation = entry.operation
    return CausalKey(entry.sequence, operation.id, operation.causal_deps, operation.timestamp.order_key)
