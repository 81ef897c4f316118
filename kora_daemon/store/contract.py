"""What every store promises. `tests/conformance/test_store_contract.py` holds each of them to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from kora_daemon.model.delivery import CausalKey, LogEntry
from kora_daemon.model.operation import Operation


class WriteTransaction(Protocol):
    """One atomic write. Nothing of it is seen by a reader before the commit, all of it after."""

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log already."""
        ...

    def append(self, operations: Sequence[Operation], received_at_ms: int) -> list[int]:
        """Append operations whose ids are new and pairwise different; return their delivery sequences.

        The sequences are born here: positive, ascending, without gaps, above every sequence that a reader may have
        seen (wire.md section 5). Raises each author's entry of the version vector to its largest sequence number.
        `received_at_ms` is the server's clock, ms since the epoch.
        """
        ...


class Store(Protocol):
    """A log of operations with its delivery sequence and version vector (store.md section 3).

    Calls block. `open`, `close`, `transaction` and `probe` belong to one thread at a time (the writer's); the reading
    calls may run in any thread, beside a transaction and beside each other, and see committed data only. Every call
    raises `StoreUnavailable` when the medium fails for now and `StoreCorrupt` when the data is damaged.
    """

    @property
    def node_id(self) -> str:
        """The server's own node id (UUIDv7), stable for the life of the database. Known once open."""
        ...

    def open(self) -> None:
        """Open or create the database, bring its log tables up to date; idempotent for an open store."""
        ...

    def close(self) -> None:
        """Give everything back. Idempotent."""
        ...

    def transaction(self) -> AbstractContextManager[WriteTransaction]:
        """A write transaction: leaving the block commits durably, an exception rolls back.

        Raises `StoreUnavailable` from the block's exit when the commit did not happen.
        """
        ...

    def probe(self) -> None:
        """Prove that a durable write is possible by making one; raises `StoreUnavailable` when it is not."""
        ...

    def checkpoint(self) -> None:
        """Tidy up behind the commits so far; may run beside everything else."""
        ...

    def frontier(self) -> int:
        """The largest delivery sequence in the log, 0 for an empty one."""
        ...

    def count_operations(self) -> int:
        """How many operations the log holds."""
        ...

    def version_vector(self, nodes: Iterable[str] | None = None) -> dict[str, int]:
        """Node id -> largest sequence number seen, of these nodes or of all; unknown nodes are left out."""
        ...

    def authors_after(self, sequence: int) -> set[str]:
        """Node ids of the entries with a delivery sequence above `sequence`."""
        ...

    def entries_after(self, sequence: int, limit: int, max_bytes: int | None = None) -> list[LogEntry]:
        """At most `limit` entries with a delivery sequence above `sequence`, ascending.

        Ends early behind the entry with which `data` and `previous_data` of all together pass `max_bytes`.
        """
        ...

    def entries_at(self, sequences: Sequence[int]) -> list[LogEntry]:
        """The entries with these delivery sequences, in the order given; unknown ones are left out."""
        ...

    def causal_keys_above(self, vector: Mapping[str, int]) -> list[CausalKey]:
        """Keys of all entries whose sequence number is above their author's entry in `vector` (missing = 0).

        In delivery order. With an author missing from `vector`, entries with sequence number 0 are included too.
        """
        ...

    def operation_range(self, node_id: str, first: int, last: int) -> list[Operation]:
        """Operations of one author with sequence numbers from `first` to `last`, both included, ascending."""
        ...
