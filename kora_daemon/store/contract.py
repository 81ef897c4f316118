"""What every store promises. `tests/conformance/test_store_contract.py` holds each of them to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from kora_daemon.materialization.blobs import Mention
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.conditions import Condition
from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.materialization.shape import Refill, RefillSource, Shape
from kora_daemon.materialization.upgrade import Upgrade
from kora_daemon.model.delivery import CausalKey, DeliveryEntry, LogEntry
from kora_daemon.model.node import NodeMemory, NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import Record, RecordKey, RecordQuery
from kora_daemon.model.schema import Schema
from kora_daemon.store.channel import Channel


class WriteTransaction(Protocol):
    """One atomic write. Nothing of it is seen by a reader before the commit, all of it after.

    What it is asked is answered as the transaction has left things so far.
    """

    @property
    def dialect(self) -> Dialect:
        """Whose columns the records are compared in."""
        ...

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The collections that have a table, and what their rows are made of. Empty before the first `set_shapes`."""
        ...

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log already."""
        ...

    def sequence_number_of(self, node_id: str) -> int:
        """The largest sequence number seen from a node, 0 for none."""
        ...

    def append(
        self, operations: Sequence[Operation], received_at_ms: int, stamps: Sequence[str | None] | None = None
    ) -> list[int]:
        """Append operations whose ids are new and pairwise different; return their delivery sequences.

        The sequences are born here: positive, ascending, above every sequence that a reader may have seen (wire.md
        section 5). Raises each author's entry of the version vector to its largest sequence number. `received_at_ms`
        is the server's clock, ms since the epoch; there is a stamp for each operation, or none at all. With their
        stamps they enter the scope index.
        """
        ...

    def claims(self, node_ids: Iterable[str]) -> dict[str, str]:
        """Node id -> who has claimed it, of those of these that are claimed, see `NodeMemory`."""
        ...

    def remember(self, news: NodeNews, now_ms: int) -> None:
        """Keep this about a device; `now_ms` is the server's clock, ms since the epoch."""
        ...

    # Records. Whoever appends operations of collections that have a table also saves what they make of their records.

    def stale_records(self) -> list[RecordKey]:
        """Records with operations that were appended by somebody who did not save their states: another server."""
        ...

    def states(self, keys: Iterable[RecordKey]) -> dict[RecordKey, RecordState]:
        """The states of these records; one without operations is left out."""
        ...

    def history(self, key: RecordKey) -> Iterator[Operation]:
        """The operations of a record in clock order, those with equal timestamps in delivery order."""
        ...

    def save(self, states: Mapping[RecordKey, RecordState]) -> None:
        """Save states and write the rows that show them. Now no record is stale any more."""
        ...

    def live_ids(self, collection: str, where: Sequence[Condition], limit: int | None = None) -> list[str]:
        """The ids of at most `limit` live records that meet all conditions, ascending by code point."""
        ...

    # Making rows again

    def set_shapes(self, shapes: Mapping[str, Shape], refills: Mapping[str, Refill]) -> None:
        """Remember what the rows of these collections, and no others, are made of, and which are still to be made."""
        ...

    def refills(self) -> dict[str, Refill]:
        """The collections with rows that are still to be made."""
        ...

    def record_ids(self, collection: str, after: str | None, limit: int, source: RefillSource) -> list[str]:
        """At most `limit` ids of records above `after`, ascending, that the log or the states know."""
        ...

    def replace_records(
        self, collection: str, after: str | None, upto: str | None, states: Mapping[RecordKey, RecordState]
    ) -> None:
        """Make these the only records with an id above `after`, and up to `upto` unless that is None."""
        ...

    def restamp(self, key: RecordKey, stamp: str, *, only_missing: bool) -> None:
        """Give a stamp to the stored operations of a record: to all of them, or to those without.

        They stand in the scope index by their new stamps then.
        """
        ...

    def requeue(self, key: RecordKey) -> list[LogEntry]:
        """Move the operations of a record to the end of the log, in their order; they have new delivery sequences.

        So they are delivered again, also to those who could not see them before; those who have them pass them over.
        """
        ...

    def set_refill(self, collection: str, refill: Refill | None) -> None:
        """Remember how far the rows of a collection are made again; None: all of them are."""
        ...

    def replace_log(self, vector: Mapping[str, int]) -> None:
        """Empty the log, and all records with it; the version vector becomes `vector`.

        The next `append` begins at delivery sequence 1. Watermarks from before are of no meaning any more: the floor of
        the store becomes a sequence that none of them reaches, and later transactions go on above that.
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

    def transaction(self, locks: Sequence[RecordKey] = ()) -> AbstractContextManager[WriteTransaction]:
        """A write transaction: leaving the block commits durably, an exception rolls back.

        `locks` are records that are judged before they are written, for servers of another kind on the same database
        that lock what they judge (store.md section 3); ours write one after the other anyway.

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
        """How far the log reaches: the largest delivery sequence in it, or its floor where that is more."""
        ...

    def floor(self) -> int:
        """Where watermarks of this log begin: smaller ones are of a log that this one has taken the place of.

        0 for a log that has taken no other's place, and another number for each that has.
        """
        ...

    def count_operations(self) -> int:
        """How many operations the log holds."""
        ...

    def size_bytes(self) -> int:
        """How much room log and records take on disk, 0 for a store in memory."""
        ...

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log."""
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

    def deliveries_after(self, sequence: int, limit: int, max_bytes: int) -> list[DeliveryEntry]:
        """The same, ready to be sent: what `DeliveryEntry.of` makes of the entries, byte for byte.

        Ends early behind the entry with which the bodies of all together pass `max_bytes`.
        """
        ...

    def deliveries_selected(
        self, selectors: Sequence[Selector], after: int, upto: int, limit: int, max_bytes: int
    ) -> list[DeliveryEntry] | None:
        """At most `limit` entries in (after, upto] that any of the selectors selects, ascending; perhaps some more.

        Ends early as `deliveries_after` does. None when the index does not know all of the log now.
        """
        ...

    def authors_selected(self, selectors: Sequence[Selector], after: int) -> set[str] | None:
        """Node ids of the entries above `after` that any of the selectors selects; None as above."""
        ...

    def blob_references(self, hexadecimal: str, selectors: Sequence[Selector], limit: int) -> list[Mention]:
        """What at most `limit` operations are about that refer to this hash, of a blob or of its manifest.

        Of those that any of the selectors selects; perhaps some more. Not all of them while rows are made again.
        """
        ...

    def node_memory(self, node_id: str) -> NodeMemory | None:
        """What is remembered of a device."""
        ...

    def complete_upto(self, node_id: str, known: int = 0) -> int:
        """The sequence number of a node up to which none is missing; those up to `known` are known to be there."""
        ...

    def deliveries_at(self, sequences: Sequence[int]) -> list[DeliveryEntry]:
        """The entries with these delivery sequences, in the order given; unknown ones are left out."""
        ...

    def sequence_of(self, operation_id: str) -> int | None:
        """The delivery sequence of an operation, None for one that is not in the log."""
        ...

    def causal_keys_above(self, vector: Mapping[str, int]) -> list[CausalKey]:
        """Keys of all entries whose sequence number is above their author's entry in `vector` (missing = 0).

        In delivery order. With an author missing from `vector`, entries with sequence number 0 are included too.
        """
        ...

    def operation_range(self, node_id: str, first: int, last: int) -> list[Operation]:
        """Operations of one author with sequence numbers from `first` to `last`, both included, ascending."""
        ...

    def snapshot(self) -> AbstractContextManager[LogSnapshot]:
        """The log at one moment, whatever is written meanwhile. Not to be held for longer than it takes to read it."""
        ...

    def channel(self) -> Channel | None:
        """A new way to talk to other servers on the same database; None where there can be none."""
        ...

    # Records (store.md section 4)

    def plan_upgrade(self, schema: Schema) -> Upgrade:
        """What brings the tables to a schema. Raises StoreError when a table in the database is in the way."""
        ...

    def upgrade(self, schema: Schema, *, allow_destructive: bool = False) -> Upgrade:
        """Do that, as one write; what was done. Rows may have to be made again afterwards: `Upgrade.refills`.

        Takes no time in proportion to the data unless the steps say so. Raises `MigrationNeeded`, with nothing done,
        when a step is destructive and that is not allowed.
        """
        ...

    def use_schema(self, schema: Schema) -> None:
        """Read records by this schema from now on. Raises `MigrationNeeded` unless the tables are those of the schema.

        Rows that are still to be made again are no reason to refuse: they are shown as they are.
        """
        ...

    def refills(self) -> dict[str, Refill]:
        """The collections with rows that are still to be made again."""
        ...

    def count_history(self, collection: str, after: str | None = None) -> int:
        """How many operations the records of a collection have, of those with an id above `after`."""
        ...

    def query_collection(self, collection: str, query: RecordQuery | None = None) -> list[Record]:
        """The records that a query finds. Raises `QueryError`."""
        ...

    def stream_collection(
        self, collection: str, query: RecordQuery | None = None
    ) -> AbstractContextManager[Iterator[Record]]:
        """The same, one after the other, as of one moment. Raises `QueryError`."""
        ...

    def find_record(self, collection: str, record_id: str) -> Record | None:
        """A live record, None where there is none. Raises `QueryError`."""
        ...

    def current_fields(self, keys: Iterable[RecordKey], *, deleted: bool = True) -> dict[RecordKey, dict[str, Any]]:
        """The fields that records have now, as a query shows them, with `id`; also those of `deleted` ones.

        In a collection without a table they are as they were written. A record without operations is left out.
        """
        ...

    def count_collection(self, collection: str, where: Mapping[str, object] | None = None) -> int:
        """How many live records have these values. Raises `QueryError`."""
        ...

    def materialize_collection(self, collection: str) -> list[Record]:
        """The records of a collection, also without a schema: then those that a plain replay of the log makes.

        Such a replay knows no fields, so records are as they were written, without times and atomic composition.
        """
        ...


class LogSnapshot(Protocol):
    """The log at one moment."""

    def version_vector(self) -> dict[str, int]:
        """Node id -> largest sequence number seen."""
        ...

    def operations(self) -> Iterator[Operation]:
        """All operations in delivery order; may be asked for more than once."""
        ...
