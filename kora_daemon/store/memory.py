"""A log that lives as long as the process: to try things out, for tests, and as the promises in their simplest form."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from kora_daemon.errors import MigrationNeeded, StoreUnavailable
from kora_daemon.materialization.blobs import Mention, blob_key
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.conditions import checked_collection, checked_query, conditions
from kora_daemon.materialization.fold import clock_order
from kora_daemon.materialization.replay import replayed_records
from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.materialization.shape import Refill
from kora_daemon.materialization.upgrade import Upgrade, plan_states
from kora_daemon.model.delivery import CausalKey, DeliveryEntry, LogEntry
from kora_daemon.model.identity import uuid7
from kora_daemon.model.node import NodeMemory
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import Record, RecordKey, RecordQuery
from kora_daemon.model.schema import Schema
from kora_daemon.store.lookups import current_fields
from kora_daemon.store.memory_log import MemoryLog
from kora_daemon.store.memory_records import MemoryRecords
from kora_daemon.store.memory_transaction import MemoryTransaction
from kora_daemon.store.page import take_bytes, take_deliveries
from kora_daemon.store.shapes import ShapeCache


class MemoryStore:
    """A `Store` without a medium. `close` forgets everything, a later `open` begins an empty log.

    Its own node id is `node_id`, or one that is made up at each beginning.
    """

    def __init__(self, *, node_id: str | None = None) -> None:
        self._lock = Lock()
        self._is_open = False
        self._wanted_node_id = node_id
        self._schema: Schema | None = None
        self._forget()

    def _forget(self) -> None:
        self._node_id = self._wanted_node_id or uuid7(time.time() * 1000, os.urandom(16))
        self._log = MemoryLog()
        self._records = MemoryRecords()

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
    def transaction(self, locks: Sequence[RecordKey] = ()) -> Iterator[MemoryTransaction]:
        """A write transaction. Nothing of it is kept when the block raises."""
        with self._reading():
            transaction = MemoryTransaction(self._log, self._records)
        yield transaction
        with self._reading():
            self._publish(transaction)

    def _publish(self, transaction: MemoryTransaction) -> None:
        self._log, self._records = transaction.log, transaction.records
        for change in transaction.late:
            change(self._log)
        self._log.extend(transaction.staged)
        self._records.save(transaction.staged_states)
        self._records.materialized = transaction.materialized

    def probe(self) -> None:
        """Raise `StoreUnavailable` when the store is closed."""
        with self._reading():
            pass

    def checkpoint(self) -> None:
        """Nothing is left behind here. Raises like `probe`."""
        self.probe()

    def frontier(self) -> int:
        """How far the log reaches: the largest delivery sequence in it, or its floor where that is more."""
        with self._reading() as log:
            return max(log.frontier, log.floor)

    def floor(self) -> int:
        """Where watermarks of this log begin; see the contract."""
        with self._reading() as log:
            return log.floor

    def count_operations(self) -> int:
        """How many operations the log holds."""
        with self._reading() as log:
            return len(log.entries)

    def size_bytes(self) -> int:
        """Nothing on disk."""
        return 0

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log."""
        with self._reading() as log:
            return {one for one in ids if one in log.ids}

    def version_vector(self, nodes: Iterable[str] | None = None) -> dict[str, int]:
        """Node id -> largest sequence number seen, of these nodes or of all; unknown nodes are left out."""
        with self._reading() as log:
            wanted = log.vector if nodes is None else [node for node in nodes if node in log.vector]
            return {node: log.vector[node] for node in wanted if log.vector[node]}

    def authors_after(self, sequence: int) -> set[str]:
        """Node ids of the entries with a delivery sequence above `sequence`."""
        with self._reading() as log:
            entries = log.after(sequence)
        return {entry.operation.node_id for entry in entries}

    def entries_after(self, sequence: int, limit: int, max_bytes: int | None = None) -> list[LogEntry]:
        """At most `limit` entries above `sequence`, ascending; `max_bytes` as in the contract."""
        with self._reading() as log:
            entries = log.after(sequence, limit)
        return take_bytes(entries, max_bytes)

    def deliveries_after(self, sequence: int, limit: int, max_bytes: int) -> list[DeliveryEntry]:
        """The same, ready to be sent; see the contract."""
        with self._reading() as log:
            entries = log.after(sequence, limit)
        return take_deliveries(map(DeliveryEntry.of, entries), max_bytes)

    def deliveries_selected(
        self, selectors: Sequence[Selector], after: int, upto: int, limit: int, max_bytes: int
    ) -> list[DeliveryEntry] | None:
        """None: there is no index here."""
        del selectors, after, upto, limit, max_bytes
        return None

    def authors_selected(self, selectors: Sequence[Selector], after: int) -> set[str] | None:
        """None: there is no index here."""
        del selectors, after
        return None

    def blob_references(self, hexadecimal: str, selectors: Sequence[Selector], limit: int) -> list[Mention]:
        """What operations that refer to this hash are about; the selectors do not matter here."""
        del selectors, limit
        with self._reading() as log:
            return list(log.blobs.get(blob_key(hexadecimal), ()))

    def node_memory(self, node_id: str) -> NodeMemory | None:
        """What is remembered of a device."""
        with self._reading() as log:
            return log.nodes.get(node_id)

    def complete_upto(self, node_id: str, known: int = 0) -> int:
        """The sequence number of a node up to which none is missing; see the contract."""
        with self._reading() as log:
            return log.complete_upto(node_id, known)

    def deliveries_at(self, sequences: Sequence[int]) -> list[DeliveryEntry]:
        """The entries with these delivery sequences, in the order given; unknown ones are left out."""
        with self._reading() as log:
            entries = log.at(sequences)
        return list(map(DeliveryEntry.of, entries))

    def sequence_of(self, operation_id: str) -> int | None:
        """The delivery sequence of an operation, None for one that is not in the log."""
        with self._reading() as log:
            return log.sequence_of(operation_id)

    def causal_keys_above(self, vector: Mapping[str, int]) -> list[CausalKey]:
        """Keys of all entries above `vector`, in delivery order."""
        with self._reading() as log:
            return log.causal_keys_above(vector)

    def operation_range(self, node_id: str, first: int, last: int) -> list[Operation]:
        """Operations of one author with sequence numbers from `first` to `last`, both included, ascending."""
        with self._reading() as log:
            return log.of_author(node_id, first, last)

    @contextmanager
    def snapshot(self) -> Iterator[MemorySnapshot]:
        """The log at one moment."""
        with self._reading() as log:
            snapshot = MemorySnapshot(dict(log.vector), list(log.entries))
        yield snapshot

    def channel(self) -> None:
        """One server has such a store for itself."""
        return None

    # Records

    def plan_upgrade(self, schema: Schema) -> Upgrade:
        """What brings the records to a schema; there are no tables, hence no steps that matter."""
        with self._reading():
            return plan_states(schema, (self._records.shapes, self._records.refills))

    def upgrade(self, schema: Schema, *, allow_destructive: bool = False) -> Upgrade:
        """Do that, as one write; nothing here is destructive."""
        upgrade = self.plan_upgrade(schema)
        if upgrade.is_needed:
            with self.transaction() as transaction:
                transaction.set_shapes(upgrade.shapes, upgrade.refills)
        self._schema = schema
        return upgrade

    def use_schema(self, schema: Schema) -> None:
        """Read records by this schema from now on; see the contract."""
        upgrade = self.plan_upgrade(schema)
        if upgrade.shapes != upgrade.current[0]:
            raise MigrationNeeded("The records in memory are not those of the schema; upgrade them first")
        self._schema = schema

    def refills(self) -> dict[str, Refill]:
        """The collections with rows that are still to be made again."""
        with self._reading():
            return dict(self._records.refills)

    def count_history(self, collection: str, after: str | None = None) -> int:
        """How many operations the records of a collection have, of those with an id above `after`."""
        with self._reading() as log:
            return log.count_history(collection, after)

    def query_collection(self, collection: str, query: RecordQuery | None = None) -> list[Record]:
        """The records that a query finds. Raises `QueryError`."""
        known = checked_collection(self._schema, collection)
        asked = checked_query(known, query or RecordQuery())
        where = conditions(known, asked.where, Dialect.SQLITE)
        with self._reading():
            return self._records.select(known, asked, where)

    @contextmanager
    def stream_collection(self, collection: str, query: RecordQuery | None = None) -> Iterator[Iterator[Record]]:
        """The same, one after the other."""
        yield iter(self.query_collection(collection, query))

    def find_record(self, collection: str, record_id: str) -> Record | None:
        """A live record, None where there is none. Raises `QueryError`."""
        return next(iter(self.query_collection(collection, RecordQuery({"id": record_id}))), None)

    def current_fields(self, keys: Iterable[RecordKey], *, deleted: bool = True) -> dict[RecordKey, dict[str, Any]]:
        """The fields that records have now; see the contract."""
        with self._reading() as log:
            records = self._records
            shapes = ShapeCache()
            shapes.shapes, shapes.refills = records.shapes, records.refills
            return current_fields(
                keys,
                shapes,
                lambda saved: [(key, state) for key in saved if (state := records.state(key)) is not None],
                lambda key: sorted(log.of_record(key), key=clock_order),
                deleted=deleted,
            )

    def count_collection(self, collection: str, where: Mapping[str, object] | None = None) -> int:
        """How many live records have these values. Raises `QueryError`."""
        known = checked_collection(self._schema, collection)
        asked = conditions(known, where or {}, Dialect.SQLITE)
        with self._reading():
            return self._records.count(known, asked)

    def materialize_collection(self, collection: str) -> list[Record]:
        """The records of a collection, also without a schema; see the contract."""
        if self._schema is not None and collection in self._schema.collections:
            return self.query_collection(collection)
        with self._reading() as log:
            entries = log.after(0)
        operations = [entry.operation for entry in entries if entry.operation.collection == collection]
        operations.sort(key=lambda one: (one.timestamp.wall_time, one.timestamp.logical, one.sequence_number))
        return replayed_records(operations)

    @contextmanager
    def _reading(self) -> Iterator[MemoryLog]:
        with self._lock:
            if not self._is_open:
                raise StoreUnavailable("The memory store is closed; open it first")
            yield self._log


class MemorySnapshot:
    """The log at one moment."""

    def __init__(self, vector: dict[str, int], entries: list[LogEntry]) -> None:
        self._vector = vector
        self._entries = entries

    def version_vector(self) -> dict[str, int]:
        """Node id -> largest sequence number seen."""
        return {node: number for node, number in self._vector.items() if number}

    def operations(self) -> Iterator[Operation]:
        """All operations in delivery order."""
        return (entry.operation for entry in self._entries)
