"""The log and the records in one SQLite file (store.md sections 3, 4 and 10)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import starmap
from pathlib import Path
from typing import Any

import apsw

from kora_daemon.materialization.blobs import Mention
from kora_daemon.materialization.columns import Dialect, record_of
from kora_daemon.materialization.conditions import checked_collection, checked_query, conditions
from kora_daemon.materialization.fold import parse_state
from kora_daemon.materialization.json_text import write_json
from kora_daemon.materialization.replay import replayed_records
from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.materialization.shape import Refill
from kora_daemon.materialization.upgrade import Upgrade
from kora_daemon.model.delivery import CausalKey, DeliveryEntry, LogEntry
from kora_daemon.model.node import NodeMemory
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import Record, RecordKey, RecordQuery
from kora_daemon.model.schema import Schema
from kora_daemon.store import queries, tables
from kora_daemon.store import record_queries as records
from kora_daemon.store.adoption import adopt
from kora_daemon.store.lookups import current_fields
from kora_daemon.store.page import take_bytes, take_deliveries
from kora_daemon.store.selection import ENDLESS, selection, with_blob
from kora_daemon.store.shapes import ShapeCache
from kora_daemon.store.sqlite.catalog import plan
from kora_daemon.store.sqlite.connections import BUSY_TIMEOUT_MS, Connections, Durability
from kora_daemon.store.sqlite.errors import translating
from kora_daemon.store.sqlite.snapshot import SqliteSnapshot
from kora_daemon.store.sqlite.transaction import SQL, SqliteTransaction
from kora_daemon.store.sqlite.unsynced import leave_gap
from kora_daemon.store.states import KnownStates


class SqliteStore:
    """A `Store` in the file `path`, which may have been written by the reference server.

    One connection writes; up to `readers` threads read beside it, further ones wait. A write waits up to
    `busy_timeout_ms` for a lock that another process holds. A new database gets `node_id` as the server's own, or one
    that is made up.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        readers: int = 4,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        node_id: str | None = None,
    ) -> None:
        self._path = Path(path).absolute()
        self._wanted_node_id = node_id
        self._durability = durability
        self._node_id = ""
        self._schema: Schema | None = None
        self._shapes = ShapeCache()
        self._known = KnownStates()
        self._connections = Connections(
            self._path, self._adopt, durability=durability, readers=readers, busy_timeout_ms=busy_timeout_ms
        )

    @property
    def node_id(self) -> str:
        """The server's own node id (UUIDv7), kept in the database."""
        return self._node_id

    def _adopt(self, connection: apsw.Connection) -> None:
        self._shapes.forget()
        self._known.clear()
        self._node_id = adopt(connection.execute, str(self._path), self._wanted_node_id)
        leave_gap(connection, waits_for_disk=self._durability == "full")

    def open(self) -> None:
        """Open or create the file, readable for its owner only, and bring its log tables up to date.

        Raises StoreCorrupt for what is no log of ours, StoreError for one that a newer version has written.
        """
        self._connections.open()

    def close(self) -> None:
        """Close all connections. Reading calls that are under way finish."""
        self._connections.close()

    @contextmanager
    def transaction(self, locks: Sequence[RecordKey] = ()) -> Iterator[SqliteTransaction]:
        """A write transaction; see the contract."""
        with self._connections.writing() as connection:
            try:
                transaction = SqliteTransaction(self._connections, connection, self._shapes, self._known)
                with translating(self._path):  # rows that are read on the way may be damaged, too
                    yield transaction
            except BaseException:
                self._shapes.forget()
                raise
        self._known.end(transaction.position)

    def probe(self) -> None:
        """Make a durable write of a few bytes, on a disk that has room for more."""
        with self._connections.writing() as connection, translating(self._path):
            connection.execute(queries.COUNT_PROBE)
        self._connections.check_room()

    def checkpoint(self) -> None:
        """Copy what was committed from the write-ahead log into the database, as far as nobody has to wait for it.

        To be called a few times a second while there are writes, from any thread; else a commit has to do it now and
        then, and takes long. Raises StoreUnavailable and StoreCorrupt.
        """
        self._connections.checkpoint()

    def frontier(self) -> int:
        """How far the log reaches: the largest delivery sequence in it, or its floor where that is more."""
        with self._connections.rows(queries.REACH) as rows:
            return int(next(rows)[0])

    def floor(self) -> int:
        """Where watermarks of this log begin; see the contract."""
        with self._connections.rows(queries.FLOOR) as rows:
            return int(next(rows)[0])

    def count_operations(self) -> int:
        """How many operations the log holds; walks an index."""
        with self._connections.rows(queries.COUNT) as rows:
            return int(next(rows)[0])

    def size_bytes(self) -> int:
        """How much room the file takes, with those that SQLite has beside it."""
        sizes = 0
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                sizes += os.stat(f"{self._path}{suffix}").st_size
        return sizes

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log."""
        with self._connections.rows(queries.KNOWN_IDS, (json.dumps(list(ids)),)) as rows:
            return {known for (known,) in rows}

    def version_vector(self, nodes: Iterable[str] | None = None) -> dict[str, int]:
        """Node id -> largest sequence number seen, of these nodes or of all; unknown nodes are left out."""
        query = (queries.VECTOR, ()) if nodes is None else (queries.VECTOR_OF, (json.dumps(list(nodes)),))
        with self._connections.rows(*query) as rows:
            return dict(rows)

    def authors_after(self, sequence: int) -> set[str]:
        """Node ids of the entries with a delivery sequence above `sequence`."""
        with self._connections.rows(queries.AUTHORS_AFTER, (sequence,)) as rows:
            return {node_id for (node_id,) in rows}

    def entries_after(self, sequence: int, limit: int, max_bytes: int | None = None) -> list[LogEntry]:
        """At most `limit` entries above `sequence`, ascending; `max_bytes` as in the contract."""
        with self._connections.rows(queries.ENTRIES_AFTER, (sequence, max(limit, 0))) as rows:
            return take_bytes(map(tables.entry_of, rows), max_bytes)

    def deliveries_after(self, sequence: int, limit: int, max_bytes: int) -> list[DeliveryEntry]:
        """The same, ready to be sent; see the contract."""
        with self._connections.rows(queries.DELIVERIES_AFTER, (sequence, max(limit, 0))) as rows:
            return take_deliveries(starmap(DeliveryEntry, rows), max_bytes)

    def deliveries_selected(
        self, selectors: Sequence[Selector], after: int, upto: int, limit: int, max_bytes: int
    ) -> list[DeliveryEntry] | None:
        """The entries in (after, upto] that any of the selectors selects, ascending; see the contract."""
        wanted, bindings = selection(selectors, after, upto, limit)
        with self._connections.reading() as connection, connection:  # one snapshot for both statements
            found = None
            if _index_knows_all(connection):
                rows = connection.execute(queries.deliveries_in(wanted), bindings)
                found = take_deliveries(starmap(DeliveryEntry, rows), max_bytes)
        return found

    def authors_selected(self, selectors: Sequence[Selector], after: int) -> set[str] | None:
        """Node ids of the entries above `after` that any of the selectors selects; see the contract."""
        wanted, bindings = selection(selectors, after, ENDLESS, None)
        with self._connections.reading() as connection, connection:
            found = None
            if _index_knows_all(connection):
                rows = connection.execute(queries.AUTHORS_AT.format(sequences=wanted), bindings)
                found = {str(node_id) for (node_id,) in rows}
        return found

    def blob_references(self, hexadecimal: str, selectors: Sequence[Selector], limit: int) -> list[Mention]:
        """What at most `limit` operations that refer to this hash are about; see the contract."""
        wanted, bindings = selection(with_blob(selectors, hexadecimal), 0, ENDLESS, limit)
        with self._connections.rows(queries.RECORDS_AT.format(sequences=wanted), tuple(bindings)) as rows:
            return [Mention(RecordKey(collection, record_id), node_id) for collection, record_id, node_id in rows]

    def node_memory(self, node_id: str) -> NodeMemory | None:
        """What is remembered of a device."""
        with self._connections.rows(queries.NODE_MEMORY, (node_id,)) as rows:
            return next(map(tables.memory_of, rows), None)

    def complete_upto(self, node_id: str, known: int = 0) -> int:
        """The sequence number of a node up to which none is missing; see the contract."""
        with self._connections.rows(queries.COMPLETE_UPTO, (node_id, known)) as rows:
            return int(next(rows)[0])

    def deliveries_at(self, sequences: Sequence[int]) -> list[DeliveryEntry]:
        """The entries with these delivery sequences, in the order given; unknown ones are left out."""
        with self._connections.rows(queries.DELIVERIES_AT, (json.dumps(list(sequences)),)) as rows:
            found = {entry.sequence: entry for entry in starmap(DeliveryEntry, rows)}
        return [found[sequence] for sequence in sequences if sequence in found]

    def sequence_of(self, operation_id: str) -> int | None:
        """The delivery sequence of an operation, None for one that is not in the log."""
        with self._connections.rows(queries.SEQUENCE_OF, (json.dumps([operation_id]),)) as rows:
            return next((int(sequence) for (sequence,) in rows), None)

    def causal_keys_above(self, vector: Mapping[str, int]) -> list[CausalKey]:
        """Keys of all entries above `vector`, in delivery order."""
        with self._connections.reading() as connection, connection:  # one snapshot for both statements
            authors = [
                [node_id, vector.get(node_id, -1)]
                for node_id, last in connection.execute(queries.AUTHORS)
                if last > vector.get(node_id, -1)
            ]
            keys = list(map(tables.causal_key_of, connection.execute(queries.KEYS_ABOVE, (json.dumps(authors),))))
        return keys

    def operation_range(self, node_id: str, first: int, last: int) -> list[Operation]:
        """Operations of one author with sequence numbers from `first` to `last`, both included, ascending."""
        with self._connections.rows(queries.ENTRIES_OF, (node_id, first, last)) as rows:
            return [tables.entry_of(row).operation for row in rows]

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        """The log at one moment; what is written meanwhile waits in the write-ahead log."""
        with self._connections.reading() as connection, connection:
            connection.execute(queries.FRONTIER).fetchall()  # only a read begins the view of that moment
            yield SqliteSnapshot(connection)

    def channel(self) -> None:
        """One server has such a store for itself."""
        return None

    # Records

    def plan_upgrade(self, schema: Schema) -> Upgrade:
        """What brings the tables to a schema; see the contract."""
        with self._connections.reading() as connection, connection:
            upgrade = plan(connection, schema)
        return upgrade

    def upgrade(self, schema: Schema, *, allow_destructive: bool = False) -> Upgrade:
        """Do that, as one write; see the contract."""
        with self._connections.writing() as connection:
            with translating(self._path):
                upgrade = plan(connection, schema)
            upgrade.check_consent(str(self._path), allow_destructive=allow_destructive)
            if upgrade.is_needed:
                with translating(self._path):
                    for step in upgrade.steps:
                        for statement in step.statements:
                            connection.execute(statement)
                transaction = SqliteTransaction(self._connections, connection, self._shapes, self._known)
                transaction.set_shapes(upgrade.shapes, upgrade.refills)
        self._schema = schema
        return upgrade

    def use_schema(self, schema: Schema) -> None:
        """Read records by this schema from now on; see the contract."""
        self.plan_upgrade(schema).check_done(str(self._path))
        self._schema = schema

    def refills(self) -> dict[str, Refill]:
        """The collections with rows that are still to be made again."""
        shapes = ShapeCache()
        with self._connections.rows(records.SHAPES) as rows:
            shapes.refresh(0, lambda: rows)
        return shapes.refills

    def count_history(self, collection: str, after: str | None = None) -> int:
        """How many operations the records of a collection have, of those with an id above `after`."""
        bounds, bindings = SQL.between("record_id", after, None)
        with self._connections.rows(queries.COUNT_HISTORY.format(bounds=bounds), (collection, *bindings)) as rows:
            return int(next(rows)[0])

    def query_collection(self, collection: str, query: RecordQuery | None = None) -> list[Record]:
        """The records that a query finds. Raises `QueryError`."""
        with self.stream_collection(collection, query) as found:
            return list(found)

    @contextmanager
    def stream_collection(self, collection: str, query: RecordQuery | None = None) -> Iterator[Iterator[Record]]:
        """The same, one after the other, as of one moment. Raises `QueryError`."""
        known = checked_collection(self._schema, collection)
        asked = checked_query(known, query or RecordQuery())
        statement = SQL.select(known, asked, conditions(known, asked.where, Dialect.SQLITE))
        if statement is None:
            yield iter(())
            return
        kinds = known.kinds
        with self._connections.rows(*statement) as rows:
            yield (record_of(kinds, row) for row in rows)

    def find_record(self, collection: str, record_id: str) -> Record | None:
        """A live record, None where there is none. Raises `QueryError`."""
        return next(iter(self.query_collection(collection, RecordQuery({"id": record_id}))), None)

    def current_fields(self, keys: Iterable[RecordKey], *, deleted: bool = True) -> dict[RecordKey, dict[str, Any]]:
        """The fields that records have now; see the contract."""
        with self._connections.reading() as connection, connection:  # one snapshot for all statements
            shapes = ShapeCache()
            shapes.refresh(0, lambda: connection.execute(records.SHAPES))
            found = current_fields(
                keys,
                shapes,
                lambda saved: (
                    (RecordKey(collection, record_id), parse_state(text))
                    for collection, record_id, text in connection.execute(queries.STATES, (write_json(saved),))
                ),
                lambda key: (tables.entry_of(row).operation for row in connection.execute(queries.HISTORY, key)),
                deleted=deleted,
            )
        return found

    def count_collection(self, collection: str, where: Mapping[str, object] | None = None) -> int:
        """How many live records have these values. Raises `QueryError`."""
        known = checked_collection(self._schema, collection)
        statement = SQL.count(collection, conditions(known, where or {}, Dialect.SQLITE))
        if statement is None:
            return 0
        with self._connections.rows(*statement) as rows:
            return int(next(rows)[0])

    def materialize_collection(self, collection: str) -> list[Record]:
        """The records of a collection, also without a schema; see the contract."""
        if self._schema is not None and collection in self._schema.collections:
            return self.query_collection(collection)
        with self._connections.rows(queries.REPLAY, (collection,)) as rows:
            return replayed_records(tables.entry_of(row).operation for row in rows)


def _index_knows_all(connection: apsw.Connection) -> bool:
    ((knows,),) = connection.execute(queries.INDEX_KNOWS_ALL)
    return bool(knows)
