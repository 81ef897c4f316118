"""One atomic write to a SQLite file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

import apsw
from msgspec.structs import replace

from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.conditions import Condition
from kora_daemon.materialization.ddl import quoted
from kora_daemon.materialization.fold import RecordState, fold_sorted, parse_state, state_text
from kora_daemon.materialization.json_text import write_json
from kora_daemon.materialization.scope_keys import index_rows
from kora_daemon.materialization.shape import Refill, RefillSource, Shape, encode_shape
from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.node import NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.store import queries, tables
from kora_daemon.store import record_queries as records
from kora_daemon.store.row_writes import RowWrites
from kora_daemon.store.shapes import ShapeCache
from kora_daemon.store.sqlite.connections import Binding, Connections
from kora_daemon.store.sqlite.errors import translating
from kora_daemon.store.sqlite.functions import JSON_KEY
from kora_daemon.store.states import KnownStates, Position

SQL = records.Sql(Dialect.SQLITE, lambda column: f"{JSON_KEY}({column})")


class SqliteTransaction:
    """One atomic write to a `SqliteStore`; see the contract."""

    dialect = Dialect.SQLITE

    def __init__(
        self, connections: Connections, connection: apsw.Connection, shapes: ShapeCache, states: KnownStates
    ) -> None:
        self._connections = connections
        self._path = connections.path
        self._connection = connection
        self._shapes = shapes
        self._known = states
        with translating(self._path):
            # One statement for all that a write has to know beforehand.
            ((self._frontier, self._floor, given, self._materialized, generation),) = connection.execute(
                queries.POSITION
            )
            shapes.refresh(generation, lambda: connection.execute(records.SHAPES))
        states.begin(self.position)
        self._next = max(self._frontier, self._floor, given) + 1

    @property
    def position(self) -> Position:
        """Moves with everything that changes states."""
        return self._frontier, self._floor, self._materialized, self._shapes.generation

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The collections that have a table, and what their rows are made of."""
        return self._shapes.shapes

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log already."""
        return {known for (known,) in self._execute(queries.KNOWN_IDS, (_list_text(ids),))}

    def sequence_number_of(self, node_id: str) -> int:
        """The largest sequence number seen from a node, 0 for none."""
        return next((number for (number,) in self._execute(queries.SEQUENCE_NUMBER, (node_id,))), 0)

    def append(
        self, operations: Sequence[Operation], received_at_ms: int, stamps: Sequence[str | None] | None = None
    ) -> list[int]:
        """Append operations with new ids; return their delivery sequences. Raises StoreError for a known id."""
        sequences = range(self._next, self._next + len(operations))
        with translating(self._path):
            self._connection.executemany(
                tables.INSERT_OPERATION,
                (
                    tables.operation_row(one, received_at_ms, n, stamp)
                    for one, n, stamp in zip(operations, sequences, stamps or [None] * len(operations), strict=True)
                ),
            )
            self._connection.executemany(tables.RAISE_VECTOR, tables.vector_rows(operations, received_at_ms))
            if stamps is not None:
                self._connection.executemany(
                    queries.ADD_KEY, index_rows(self.shapes, map(LogEntry, sequences, operations, stamps))
                )
        if operations:
            self._frontier = sequences[-1]
            self._next = self._frontier + 1
        return list(sequences)

    def claims(self, node_ids: Iterable[str]) -> dict[str, str]:
        """Node id -> who has claimed it, of those of these that are claimed."""
        return dict(self._execute(queries.CLAIMS, (_list_text(node_ids),)))

    def remember(self, news: NodeNews, now_ms: int) -> None:
        """Keep this about a device."""
        self._execute(tables.REMEMBER, tables.memory_row(news, now_ms))

    # Records

    def stale_records(self) -> list[RecordKey]:
        """Records with operations that were appended by somebody who did not save their states."""
        if not self.shapes or self._materialized >= self._frontier:
            return []
        names = _list_text(self.shapes)
        found = [RecordKey(*row) for row in self._execute(queries.STALE_RECORDS, (self._materialized, names))]
        if not found:
            self.save({})
        return found

    def states(self, keys: Iterable[RecordKey]) -> dict[RecordKey, RecordState]:
        """The states of these records; one without operations is left out."""
        unread: list[RecordKey] = []
        found: dict[RecordKey, RecordState] = {}
        for key in keys:
            has_state = self._shapes.has_state(key)
            state = self._known.get(key) if has_state else self._folded(key)
            if state is not None:
                found[key] = state
            elif has_state:
                unread.append(key)
        if unread:
            for collection, record_id, text in self._execute(queries.STATES, (_list_text(unread),)):
                key = RecordKey(collection, record_id)
                found[key] = state = parse_state(text)
                self._known.put(key, state, len(text))
        return found

    def _folded(self, key: RecordKey) -> RecordState | None:
        """The state of a record that has none saved yet."""
        history = self.history(key)
        first = next(history, None)
        return None if first is None else fold_sorted(_chain(first, history))

    def history(self, key: RecordKey) -> Iterator[Operation]:
        """The operations of a record in clock order, those with equal timestamps in delivery order."""
        with self._connections.undamaged():
            for row in self._execute(queries.HISTORY, key):
                yield tables.entry_of(row).operation

    def save(self, states: Mapping[RecordKey, RecordState]) -> None:
        """Save states and write the rows that show them. Now no record is stale any more."""
        writes = RowWrites(SQL, self.shapes)
        for key, state in states.items():
            writes.add(key, state, self._known.get(key))
        texts = {key: state_text(state) for key, state in states.items()}
        with translating(self._path):
            self._connection.executemany(records.SAVE_STATE, [(*key, text) for key, text in texts.items()])
            for statement, rows in writes.statements():
                self._connection.executemany(statement, rows)
            for key, text in texts.items():
                self._known.put(key, states[key], len(text))
            if self._materialized != self._frontier:
                self._set_meta("materialized", self._frontier)
                self._materialized = self._frontier

    def live_ids(self, collection: str, where: Sequence[Condition], limit: int | None = None) -> list[str]:
        """The ids of at most `limit` live records that meet all conditions, ascending by code point."""
        statement = SQL.live_ids(collection, where, limit)
        return [] if statement is None else [record_id for (record_id,) in self._execute(*statement)]

    # Making rows again

    def set_shapes(self, shapes: Mapping[str, Shape], refills: Mapping[str, Refill]) -> None:
        """Remember what the rows of these collections, and no others, are made of, and which are still to be made."""
        first = not self.shapes
        for name in self.shapes.keys() - shapes.keys():
            self._execute(queries.FORGET_SHAPE, (name,))
            self._execute(queries.FORGET_STATES, (name,))
        for name, shape in shapes.items():
            refill = refills.get(name)
            text = None if refill is None else encode_shape(refill).decode()
            self._execute(records.SAVE_SHAPE, (name, encode_shape(shape).decode(), text))
        self._shapes_changed()
        if first:
            # What is in the log so far is the refills' business.
            self.save({})

    def refills(self) -> dict[str, Refill]:
        """The collections with rows that are still to be made."""
        return dict(self._shapes.refills)

    def record_ids(self, collection: str, after: str | None, limit: int, source: RefillSource) -> list[str]:
        """At most `limit` ids of records above `after`, ascending, that the log or the states know."""
        bounds, bindings = SQL.between("record_id", after, None)
        query = queries.RECORD_IDS[source].format(bounds=bounds)
        return [record_id for (record_id,) in self._execute(query, (collection, *bindings, limit))]

    def replace_records(
        self, collection: str, after: str | None, upto: str | None, states: Mapping[RecordKey, RecordState]
    ) -> None:
        """Make these the only records with an id above `after`, and up to `upto` unless that is None."""
        kept = _list_text(key.record_id for key in states)
        statement, bindings = SQL.removal(collection, after, upto, queries.LISTED)
        self._execute(statement, (*bindings, kept))
        bounds, bindings = SQL.between("record_id", after, upto)
        self._execute(queries.FORGET_RECORDS.format(bounds=bounds), (collection, *bindings, kept))
        materialized = self._materialized
        self._known.clear()  # whole rows, whatever is there
        self.save(states)
        if materialized != self._materialized:  # the others are as they were
            self._materialized = materialized
            self._set_meta("materialized", materialized)

    def restamp(self, key: RecordKey, stamp: str, *, only_missing: bool) -> None:
        """Give a stamp to the stored operations of a record: to all of them, or to those without."""
        with self._connections.undamaged():
            entries = [tables.entry_of(row) for row in self._execute(queries.HISTORY, key)]
        old = [one for one in entries if one.stamp is None or not only_missing]
        new = [replace(one, stamp=stamp) for one in old]
        with translating(self._path):
            self._connection.executemany(queries.REMOVE_KEY, index_rows(self.shapes, old))
            self._connection.executemany(queries.RESTAMP, [(stamp, one.sequence) for one in old])
            self._connection.executemany(queries.ADD_KEY, index_rows(self.shapes, new))

    def requeue(self, key: RecordKey) -> list[LogEntry]:
        """Move the operations of a record to the end of the log, in their order."""
        with self._connections.undamaged():
            entries = sorted(map(tables.entry_of, self._execute(queries.HISTORY, key)), key=_sequence_of)
        moved = [replace(one, sequence=number) for number, one in enumerate(entries, start=self._next)]
        with translating(self._path):
            self._connection.executemany(queries.REMOVE_KEY, index_rows(self.shapes, entries))
            self._connection.executemany(
                queries.RENUMBER, [(new.sequence, old.sequence) for old, new in zip(entries, moved, strict=True)]
            )
            self._connection.executemany(queries.ADD_KEY, index_rows(self.shapes, moved))
        if moved:
            complete = self._materialized >= self._frontier
            self._frontier = moved[-1].sequence
            self._next = self._frontier + 1
            if complete:
                self._materialized = self._frontier
                self._set_meta("materialized", self._frontier)
        return moved

    def set_refill(self, collection: str, refill: Refill | None) -> None:
        """Remember how far the rows of a collection are made again; None: all of them are."""
        self._execute(records.SAVE_REFILL, (None if refill is None else encode_shape(refill).decode(), collection))
        self._shapes_changed()

    def replace_log(self, vector: Mapping[str, int]) -> None:
        """Empty the log, and all records with it; the version vector becomes `vector`."""
        self._floor = max(self._floor + 1, self._next)
        self._set_meta("floor", self._floor)
        for name in self.shapes:
            self._execute(queries.EMPTY.format(table=quoted(name)))
        for table in ("operations", "sync_state", "kora_records", "kora_scopes"):
            self._execute(queries.EMPTY.format(table=table))
        self._connection.executemany(tables.RAISE_VECTOR, [(node, number, 0) for node, number in vector.items()])
        self._frontier, self._next = 0, 1
        self._known.clear()
        self._set_meta("materialized", 0)
        self._materialized = 0

    def _shapes_changed(self) -> None:
        self._set_meta("shapes", self._shapes.generation + 1)
        self._shapes.refresh(self._shapes.generation + 1, lambda: self._connection.execute(records.SHAPES))

    def _set_meta(self, key: str, value: int) -> None:
        self._execute(records.SET_META, (key, value))

    def _execute(self, statement: str, bindings: Sequence[Binding] = ()) -> apsw.Cursor:
        with translating(self._path):
            return self._connection.execute(statement, bindings)


_sequence_of = attrgetter("sequence")


def _list_text(names: Iterable[object]) -> str:
    return write_json(list(names))


def _chain(first: Operation, rest: Iterator[Operation]) -> Iterator[Operation]:
    yield first
    yield from rest
