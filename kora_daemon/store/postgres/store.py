"""The log and the records in a PostgreSQL database that several daemons may share (store.md sections 3, 4 and 10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kora_daemon.errors import StoreUnavailable
from kora_daemon.materialization.blobs import Mention
from kora_daemon.materialization.fold import RecordState, parse_state
from kora_daemon.materialization.replay import replayed_records
from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.materialization.shape import Refill
from kora_daemon.materialization.upgrade import Upgrade
from kora_daemon.model.delivery import CausalKey, DeliveryEntry, LogEntry
from kora_daemon.model.node import NodeMemory
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import Record, RecordKey, RecordQuery
from kora_daemon.model.schema import Schema
from kora_daemon.store.lookups import current_fields
from kora_daemon.store.page import take_bytes, take_deliveries
from kora_daemon.store.postgres import queries
from kora_daemon.store.postgres.adoption import adopt
from kora_daemon.store.postgres.catalog import plan
from kora_daemon.store.postgres.channel import PostgresChannel
from kora_daemon.store.postgres.connections import Connections
from kora_daemon.store.postgres.deliveries import read_delivery
from kora_daemon.store.postgres.names import (
    names_json,
    read_causal_key,
    read_entry,
    read_memory,
    read_mention,
    read_name,
    rows_json,
    stored_name,
    stored_selectors,
)
from kora_daemon.store.postgres.record_selection import record_count, record_selection
from kora_daemon.store.postgres.sessions import Durability, PatientConnection, Session
from kora_daemon.store.postgres.snapshot import PostgresSnapshot
from kora_daemon.store.postgres.transaction import PostgresTransaction, records_above
from kora_daemon.store.selection import ENDLESS, selection, with_blob
from kora_daemon.store.shapes import ShapeCache
from kora_daemon.store.states import KnownStates


class PostgresStore:
    """A `Store` in the database that `url` names (a libpq URL or keyword string), which may be the reference server's.

    Any number of daemons, and the reference server beside them, may write to one database. One connection writes; up
    to `readers` threads read beside it, further ones wait. A new database gets `node_id` as the server's own, or one
    that is made up: all daemons share it.

    `connect_timeout_s` and `statement_timeout_s` bound how long the database may take, `idle_timeout_s` how long a
    write may stand still before the database ends it, since nobody else can write meanwhile.
    """

    def __init__(  # noqa: PLR0913
        self,
        url: str,
        *,
        durability: Durability = "full",
        readers: int = 4,
        node_id: str | None = None,
        application_name: str = "kora-daemon",
        connect_timeout_s: float = 10,
        statement_timeout_s: float = 30,
        idle_timeout_s: float = 30,
    ) -> None:
        self._wanted_node_id = node_id
        self._node_id = ""
        self._given = 0
        """The largest delivery sequence that this server has seen given."""
        self._schema: Schema | None = None
        self._shapes = ShapeCache()
        self._known = KnownStates()
        session = Session(url, application_name, durability, connect_timeout_s, statement_timeout_s, idle_timeout_s)
        self._connections = Connections(session, self._adopt, readers)

    @property
    def node_id(self) -> str:
        """The server's own node id (UUIDv7), kept in the database."""
        return self._node_id

    def _adopt(self, connection: PatientConnection) -> None:
        self._shapes.forget()
        self._node_id = adopt(connection, self._connections.name, self._wanted_node_id)
        if self._given:
            # A database that has lost its last commits must not give their numbers to others.
            connection.execute(queries.NOT_BELOW.encode(), [self._given])

    def open(self) -> None:
        """Connect, and bring the log tables up to date.

        Raises StoreCorrupt for what is no log of ours, StoreError for one that a newer version has written.
        """
        self._connections.open()

    def close(self) -> None:
        """Close all connections. Reading calls that are under way finish."""
        self._connections.close()

    @contextmanager
    def transaction(self, locks: Sequence[RecordKey] = ()) -> Iterator[PostgresTransaction]:
        """A write transaction; see the contract. Waits for those of other daemons."""
        with self._forgetting(), self._connections.writing(queries.begin_write(locks)) as write:
            transaction = PostgresTransaction(self._connections, write, self._shapes, self._known)
            yield transaction
            transaction.finish()
        self._known.end(transaction.position)
        self._given = max(self._given, transaction.reached)

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """Trust no shapes that a failed transaction has set."""
        try:
            yield
        except BaseException:
            self._shapes.forget()
            raise

    def probe(self) -> None:
        """Make a durable write of a few bytes."""
        with self._connections.writing(queries.BEGIN_PROBE) as write:
            write.send(queries.COUNT_PROBE)

    def checkpoint(self) -> None:
        """Nothing: the database sees to it itself."""
        if not self._connections.is_open:
            raise StoreUnavailable(f"{self._connections.name} is not open")

    def frontier(self) -> int:
        """How far the log reaches: the largest delivery sequence in it, or its floor where that is more."""
        return int(self._connections.fetch(queries.REACH)[0][0])

    def floor(self) -> int:
        """Where watermarks of this log begin; see the contract."""
        return int(self._connections.fetch(queries.FLOOR)[0][0])

    def count_operations(self) -> int:
        """How many operations the log holds; walks an index."""
        return int(self._connections.fetch(queries.COUNT)[0][0])

    def size_bytes(self) -> int:
        """How much room the tables take, with their indexes."""
        return int(self._connections.fetch(queries.SIZE)[0][0])

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log."""
        return {read_name(known) for (known,) in self._connections.fetch(queries.KNOWN_IDS, [names_json(ids)])}

    def version_vector(self, nodes: Iterable[str] | None = None) -> dict[str, int]:
        """Node id -> largest sequence number seen, of these nodes or of all; unknown nodes are left out."""
        query = (queries.VECTOR,) if nodes is None else (queries.VECTOR_OF, [names_json(nodes)])
        return {read_name(node_id): number for node_id, number in self._connections.fetch(*query)}

    def authors_after(self, sequence: int) -> set[str]:
        """Node ids of the entries with a delivery sequence above `sequence`."""
        return {read_name(node_id) for (node_id,) in self._connections.fetch(queries.AUTHORS_AFTER, [sequence])}

    def entries_after(self, sequence: int, limit: int, max_bytes: int | None = None) -> list[LogEntry]:
        """At most `limit` entries above `sequence`, ascending; `max_bytes` as in the contract."""
        with self._connections.undamaged():
            if max_bytes is None:
                rows = self._connections.fetch(queries.ENTRIES_AFTER, [sequence, max(limit, 0)])
            else:
                rows = self._connections.fetch(queries.ENTRIES_WITHIN, [sequence, max(limit, 0), max_bytes])
            return take_bytes(map(read_entry, rows), max_bytes)

    def deliveries_after(self, sequence: int, limit: int, max_bytes: int) -> list[DeliveryEntry]:
        """The same, ready to be sent; see the contract."""
        with self._connections.undamaged():
            rows = self._connections.fetch(queries.DELIVERIES_WITHIN, [sequence, max(limit, 0), max_bytes])
            return take_deliveries(map(read_delivery, rows), max_bytes)

    def deliveries_selected(
        self, selectors: Sequence[Selector], after: int, upto: int, limit: int, max_bytes: int
    ) -> list[DeliveryEntry] | None:
        """The entries in (after, upto] that any of the selectors selects, ascending; see the contract."""
        if not self._index_knows_all():
            return None
        wanted, bindings = selection(stored_selectors(selectors), after, upto, limit)
        rows = self._connections.fetch(queries.numbered(wanted), bindings)
        return take_deliveries(self.deliveries_at([sequence for (sequence,) in rows]), max_bytes)

    def authors_selected(self, selectors: Sequence[Selector], after: int) -> set[str] | None:
        """Node ids of the entries above `after` that any of the selectors selects; see the contract."""
        if not self._index_knows_all():
            return None
        wanted, bindings = selection(stored_selectors(selectors), after, ENDLESS, None)
        rows = self._connections.fetch(queries.numbered(queries.AUTHORS_AT.format(sequences=wanted)), bindings)
        return {read_name(node_id) for (node_id,) in rows}

    def _index_knows_all(self) -> bool:
        """What it has known once it goes on knowing: this may be asked before the index is."""
        return any(knows for (knows,) in self._connections.fetch(queries.INDEX_KNOWS_ALL))

    def blob_references(self, hexadecimal: str, selectors: Sequence[Selector], limit: int) -> list[Mention]:
        """What at most `limit` operations that refer to this hash are about; see the contract."""
        wanted, bindings = selection(with_blob(selectors, hexadecimal), 0, ENDLESS, limit)
        rows = self._connections.fetch(queries.numbered(queries.RECORDS_AT.format(sequences=wanted)), bindings)
        return list(map(read_mention, rows))

    def node_memory(self, node_id: str) -> NodeMemory | None:
        """What is remembered of a device."""
        rows = self._connections.fetch(queries.NODE_MEMORY, [stored_name(node_id)])
        return next(map(read_memory, rows), None)

    def complete_upto(self, node_id: str, known: int = 0) -> int:
        """The sequence number of a node up to which none is missing; see the contract."""
        return int(self._connections.fetch(queries.COMPLETE_UPTO, [stored_name(node_id), known])[0][0])

    def deliveries_at(self, sequences: Sequence[int]) -> list[DeliveryEntry]:
        """The entries with these delivery sequences, in the order given; unknown ones are left out."""
        wanted = f"{{{','.join(map(str, sequences))}}}"
        with self._connections.undamaged():
            rows = self._connections.fetch(queries.ENTRIES_AT, [wanted])
            found = {entry.sequence: entry for entry in map(read_delivery, rows)}
        return [found[sequence] for sequence in sequences if sequence in found]

    def sequence_of(self, operation_id: str) -> int | None:
        """The delivery sequence of an operation, None for one that is not in the log."""
        rows = self._connections.fetch(queries.SEQUENCE_OF, [stored_name(operation_id)])
        return next((int(sequence) for (sequence,) in rows), None)

    def causal_keys_above(self, vector: Mapping[str, int]) -> list[CausalKey]:
        """Keys of all entries above `vector`, in delivery order."""
        with self._connections.undamaged():
            rows = self._connections.fetch(queries.KEYS_ABOVE, [rows_json(vector.items(), (0,))])
            return list(map(read_causal_key, rows))

    def operation_range(self, node_id: str, first: int, last: int) -> list[Operation]:
        """Operations of one author with sequence numbers from `first` to `last`, both included, ascending."""
        with self._connections.undamaged():
            rows = self._connections.fetch(queries.ENTRIES_OF, [stored_name(node_id), first, last])
            return [read_entry(row).operation for row in rows]

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """The log at one moment; the database can't tidy up what is younger meanwhile."""
        with self._connections.reading() as connection:
            connection.execute(queries.BEGIN_SNAPSHOT.encode())
            connection.execute(queries.FRONTIER.encode())  # only a read begins the view of that moment
            yield PostgresSnapshot(connection)
            connection.execute(b"ROLLBACK")

    def channel(self) -> PostgresChannel:
        """A new way to talk to other daemons on the same database."""
        return PostgresChannel(self._connections.session, lambda: self._connections.backend)

    # Records

    def plan_upgrade(self, schema: Schema) -> Upgrade:
        """What brings the tables to a schema; see the contract."""
        with self._connections.reading() as connection:
            connection.execute(queries.BEGIN_SNAPSHOT.encode())
            upgrade = plan(lambda query: connection.execute(query.encode()).fetchall(), schema)
            connection.execute(b"ROLLBACK")
        return upgrade

    def upgrade(self, schema: Schema, *, allow_destructive: bool = False) -> Upgrade:
        """Do that, as one write; see the contract. Daemons that start at the same time do it one after the other."""
        with self._forgetting(), self._connections.writing(queries.BEGIN_UPGRADE, patient=False) as write:
            transaction = PostgresTransaction(self._connections, write, self._shapes, self._known)
            upgrade = plan(write.fetch, schema)
            upgrade.check_consent(self._connections.name, allow_destructive=allow_destructive)
            if upgrade.is_needed:
                for step in upgrade.steps:
                    for statement in step.statements:
                        write.send(statement)
                transaction.set_shapes(upgrade.shapes, upgrade.refills)
            transaction.finish()
        self._schema = schema
        return upgrade

    def use_schema(self, schema: Schema) -> None:
        """Read records by this schema from now on; see the contract."""
        self.plan_upgrade(schema).check_done(self._connections.name)
        self._schema = schema

    def refills(self) -> dict[str, Refill]:
        """The collections with rows that are still to be made again."""
        shapes = ShapeCache()
        shapes.refresh(0, lambda: self._connections.fetch(queries.SHAPES))
        return shapes.refills

    def count_history(self, collection: str, after: str | None = None) -> int:
        """How many operations the records of a collection have, of those with an id above `after`."""
        bounds, bindings = records_above(collection, after)
        return int(self._connections.fetch(queries.COUNT_HISTORY.format(bounds), bindings)[0][0])

    def query_collection(self, collection: str, query: RecordQuery | None = None) -> list[Record]:
        """The records that a query finds. Raises `QueryError`."""
        wanted = record_selection(self._schema, collection, query or RecordQuery())
        if wanted is None:
            return []
        return list(map(wanted.record, self._connections.fetch(wanted.text, wanted.bindings)))

    @contextmanager
    def stream_collection(self, collection: str, query: RecordQuery | None = None) -> Iterator[Iterator[Record]]:
        """The same, one after the other, as of one moment. Raises `QueryError`."""
        wanted = record_selection(self._schema, collection, query or RecordQuery())
        if wanted is None:
            yield iter(())
            return
        with self._connections.streaming(wanted.text, wanted.bindings) as rows:
            yield map(wanted.record, rows)

    def find_record(self, collection: str, record_id: str) -> Record | None:
        """A live record, None where there is none. Raises `QueryError`."""
        return next(iter(self.query_collection(collection, RecordQuery({"id": record_id}))), None)

    def current_fields(self, keys: Iterable[RecordKey], *, deleted: bool = True) -> dict[RecordKey, dict[str, Any]]:
        """The fields that records have now; see the contract."""
        shapes = ShapeCache()
        shapes.refresh(0, lambda: self._connections.fetch(queries.SHAPES))
        with self._connections.undamaged():
            return current_fields(keys, shapes, self._states, self._history, deleted=deleted)

    def _states(self, keys: list[RecordKey]) -> Iterator[tuple[RecordKey, RecordState]]:
        for collection, record_id, text in self._connections.fetch(queries.STATES, [rows_json(keys, (0, 1))]):
            yield RecordKey(read_name(collection), read_name(record_id)), parse_state(text)

    def _history(self, key: RecordKey) -> Iterator[Operation]:
        rows = self._connections.fetch(queries.HISTORY, [*map(stored_name, key), None])
        return (read_entry(row).operation for row in rows)

    def count_collection(self, collection: str, where: Mapping[str, object] | None = None) -> int:
        """How many live records have these values. Raises `QueryError`."""
        statement = record_count(self._schema, collection, where or {})
        return 0 if statement is None else int(self._connections.fetch(*statement)[0][0])

    def materialize_collection(self, collection: str) -> list[Record]:
        """The records of a collection, also without a schema; see the contract."""
        if self._schema is not None and collection in self._schema.collections:
            return self.query_collection(collection)
        with self._connections.undamaged():
            rows = self._connections.fetch(queries.REPLAY, [stored_name(collection)])
            return replayed_records(read_entry(row).operation for row in rows)
