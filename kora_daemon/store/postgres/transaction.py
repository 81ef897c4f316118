"""One atomic write to a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter

from msgspec.structs import replace

from kora_daemon.errors import StoreCorrupt
from kora_daemon.materialization.columns import ColumnValue, Dialect
from kora_daemon.materialization.conditions import Condition
from kora_daemon.materialization.ddl import quoted
from kora_daemon.materialization.fold import RecordState, fold_sorted, parse_state, state_text
from kora_daemon.materialization.scope_keys import index_rows
from kora_daemon.materialization.shape import Refill, RefillSource, Shape, encode_shape
from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.node import NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.store import tables
from kora_daemon.store.postgres import queries
from kora_daemon.store.postgres.connections import Connections
from kora_daemon.store.postgres.histories import Histories
from kora_daemon.store.postgres.names import NAME_COLUMNS, names_json, read_entry, read_name, rows_json, stored_name
from kora_daemon.store.postgres.record_sql import PostgresSql, is_comparable
from kora_daemon.store.postgres.writing import Write
from kora_daemon.store.row_writes import RowWrites
from kora_daemon.store.shapes import ShapeCache
from kora_daemon.store.states import KnownStates

SQL = PostgresSql()
_NAME_PLACES = [place for place, column in enumerate(tables.OPERATIONS.columns) if column.name in NAME_COLUMNS]


class PostgresTransaction:
    """One atomic write to a `PostgresStore`; see the contract.

    Begins with the lock that all writers of all servers take, so they come one after the other: what it reads is what
    all before it have left, and delivery sequences become visible in order.
    """

    dialect = Dialect.POSTGRES

    def __init__(self, connections: Connections, write: Write, shapes: ShapeCache, states: KnownStates) -> None:
        self._connections = connections
        self._write = write
        self._shapes = shapes
        if write.begun is None:
            raise StoreCorrupt(f"{connections.name}: its delivery counter is missing; restart the server")
        self._begun = write.begun
        self._counter, self._materialized, generation = write.begun
        self._next = self._counter + 1
        self._has_news = False
        self._known = states
        self._histories = Histories(write)
        self._restamped: list[tuple[str, str, str, bool]] = []
        shapes.refresh(generation, lambda: self._write.fetch(queries.SHAPES))
        states.begin(self.position)

    def finish(self) -> None:
        """Write what has waited for the end; the counter goes with the commit."""
        self._restamp_all()
        if self._has_news:
            self._write.send(queries.ANNOUNCE, *self.position, str(self._counter))
        elif self.position != self._begun:
            self._write.send(queries.SET_COUNTER, *self.position)

    @property
    def position(self) -> tuple[int, int, int]:
        """The counter's row: it moves with everything that changes states."""
        return self._counter, self._materialized, self._shapes.generation

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The collections that have a table, and what their rows are made of."""
        return self._shapes.shapes

    @property
    def reached(self) -> int:
        """The largest delivery sequence ever given."""
        return int(self._counter)

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log already."""
        return {read_name(known) for (known,) in self._write.fetch(queries.KNOWN_IDS, names_json(ids))}

    def sequence_number_of(self, node_id: str) -> int:
        """The largest sequence number seen from a node, 0 for none."""
        return next((number for (number,) in self._write.fetch(queries.SEQUENCE_NUMBER, stored_name(node_id))), 0)

    def append(
        self, operations: Sequence[Operation], received_at_ms: int, stamps: Sequence[str | None] | None = None
    ) -> list[int]:
        """Append operations with new ids; return their delivery sequences. Raises StoreError for a known id."""
        if not operations:
            return []
        self._restamp_all()
        self._histories.expect(())
        sequences = range(self._next, self._next + len(operations))
        rows = [
            tables.operation_row(one, received_at_ms, n, stamp)
            for one, n, stamp in zip(operations, sequences, stamps or [None] * len(operations), strict=True)
        ]
        vector = tables.vector_rows(operations, received_at_ms)
        self._write.send(queries.APPEND, rows_json(rows, _NAME_PLACES), rows_json(vector, (0,)))
        if stamps is not None:
            self._change_keys(queries.ADD_KEYS, index_rows(self.shapes, map(LogEntry, sequences, operations, stamps)))
        self._materialized = min(self._materialized, self._next - 1)
        self._next = sequences[-1] + 1
        self._counter = max(self._counter, sequences[-1])
        self._has_news = True
        return list(sequences)

    def _change_keys(self, query: str, rows: Sequence[tuple[int, int]]) -> None:
        if rows:
            self._write.send(query, rows_json(rows, ()))

    def claims(self, node_ids: Iterable[str]) -> dict[str, str]:
        """Node id -> who has claimed it, of those of these that are claimed."""
        found = self._write.fetch(queries.CLAIMS, names_json(node_ids))
        return {read_name(node_id): read_name(claimed_by) for node_id, claimed_by in found}

    def remember(self, news: NodeNews, now_ms: int) -> None:
        """Keep this about a device."""
        node_id, claimed_by, *rest = tables.memory_row(news, now_ms)
        claim = None if claimed_by is None else stored_name(claimed_by)
        self._write.send(queries.numbered(tables.REMEMBER), stored_name(node_id), claim, *rest)

    # Records

    def stale_records(self) -> list[RecordKey]:
        """Records with operations that were appended by somebody who did not save their states."""
        if not self.shapes or self._materialized >= self._counter:
            return []
        rows = self._write.fetch(queries.STALE_RECORDS, self._materialized, names_json(self.shapes))
        if not rows:
            self.save({})
        found = [_key_of(*row) for row in rows]
        self._histories.expect(found)
        return found

    def states(self, keys: Iterable[RecordKey]) -> dict[RecordKey, RecordState]:
        """The states of these records; one without operations is left out."""
        saved: list[RecordKey] = []
        unsaved: list[RecordKey] = []
        for key in keys:
            (saved if self._shapes.has_state(key) else unsaved).append(key)
        self._histories.expect(unsaved)
        found = {key: state for key in unsaved if (state := self._folded(key)) is not None}
        found |= {key: state for key in saved if (state := self._known.get(key)) is not None}
        unread = [key for key in saved if key not in found]
        if unread:
            for collection, record_id, text in self._write.fetch(queries.STATES, rows_json(unread, (0, 1))):
                key = _key_of(collection, record_id)
                found[key] = state = parse_state(text)
                self._known.put(key, state, len(text))
        return found

    def _folded(self, key: RecordKey) -> RecordState | None:
        """The state of a record that has none saved yet."""
        history = self.history(key)
        first = next(history, None)
        return None if first is None else fold_sorted(chain([first], history))

    def history(self, key: RecordKey) -> Iterator[Operation]:
        """The operations of a record in clock order, those with equal timestamps in delivery order."""
        with self._connections.undamaged():
            yield from self._histories.of(key)

    def save(self, states: Mapping[RecordKey, RecordState]) -> None:
        """Save states and write the rows that show them. Now no record is stale any more."""
        self._materialized = self._counter
        if not states:
            return
        writes = RowWrites(SQL, self.shapes)
        known: list[tuple[str, str, str]] = []
        others: list[tuple[str, str, str]] = []
        for key, state in states.items():
            before = self._known.get(key)
            writes.add(key, state, before)
            (others if before is None else known).append((*key, state_text(state)))
        for query, texts in ((queries.UPDATE_STATES, known), (queries.SAVE_STATES, others)):
            if texts:
                self._write.send(query, rows_json(texts, (0, 1)))
        for statement, rows in writes.statements():
            id_place = 0 if statement.startswith("INSERT") else len(rows[0]) - 1
            given = rows_json([list(map(_json_value, row)) for row in rows], (id_place,))
            self._write.send(queries.numbered(statement), given)
        for collection, record_id, text in (*known, *others):
            key = RecordKey(collection, record_id)
            self._known.put(key, states[key], len(text))

    def live_ids(self, collection: str, where: Sequence[Condition], limit: int | None = None) -> list[str]:
        """The ids of at most `limit` live records that meet all conditions, ascending by code point."""
        kinds = self.shapes[collection].kinds
        statement = SQL.live_ids(collection, where, limit)
        if statement is None or not all(is_comparable(one, kinds.get(one.column, one.kind)) for one in where):
            return []
        text, bindings = statement
        return [read_name(record_id) for (record_id,) in self._write.fetch(queries.numbered(text), *bindings)]

    # Making rows again

    def set_shapes(self, shapes: Mapping[str, Shape], refills: Mapping[str, Refill]) -> None:
        """Remember what the rows of these collections, and no others, are made of, and which are still to be made."""
        first = not self.shapes
        for name in self.shapes.keys() - shapes.keys():
            self._write.send(queries.FORGET_SHAPE, name)
            self._write.send(queries.FORGET_STATES, name)
        for name, shape in shapes.items():
            refill = refills.get(name)
            text = None if refill is None else encode_shape(refill).decode()
            self._write.send(queries.SAVE_SHAPE, name, encode_shape(shape).decode(), text)
        self._shapes_changed()
        if first:
            # What is in the log so far is the refills' business.
            self.save({})

    def refills(self) -> dict[str, Refill]:
        """The collections with rows that are still to be made."""
        return dict(self._shapes.refills)

    def record_ids(self, collection: str, after: str | None, limit: int, source: RefillSource) -> list[str]:
        """At most `limit` ids of records above `after`, ascending, that the log or the states know."""
        bounds, bindings = records_above(collection, after)
        rows = self._write.fetch(queries.RECORD_IDS[source].format(bounds, max(limit, 0)), *bindings)
        found = [read_name(record_id) for (record_id,) in rows]
        if source == "log":
            self._histories.expect(RecordKey(collection, record_id) for record_id in found)
        return found

    def replace_records(
        self, collection: str, after: str | None, upto: str | None, states: Mapping[RecordKey, RecordState]
    ) -> None:
        """Make these the only records with an id above `after`, and up to `upto` unless that is None."""
        kept = names_json(key.record_id for key in states)
        above, last = (None if bound is None else stored_name(bound) for bound in (after, upto))
        text, bindings = SQL.removal(collection, above, last, queries.LISTED)
        self._write.send(queries.numbered(text), *bindings, kept)
        text, bindings = SQL.between("record_id", above, last)
        self._write.send(queries.numbered(queries.FORGET_RECORDS.format(bounds=text)), collection, *bindings, kept)
        materialized = self._materialized
        self._known.clear()  # whole rows, whatever is there
        self.save(states)
        self._materialized = materialized  # the others are as they were

    def restamp(self, key: RecordKey, stamp: str, *, only_missing: bool) -> None:
        """Give a stamp to the stored operations of a record: to all of them, or to those without."""
        self._restamped.append((*key, stamp, only_missing))

    def _restamp_all(self) -> None:
        """All at once, once it matters: nothing that a transaction is asked depends on stamps."""
        if not self._restamped:
            return
        stamps = {RecordKey(one[0], one[1]): (one[2], one[3]) for one in self._restamped}
        indexed = [
            key for key in stamps if (shape := self.shapes.get(key.collection)) and (shape.scoped or shape.blobs)
        ]
        if indexed:
            entries = list(map(read_entry, self._write.fetch(queries.ENTRIES_OF_RECORDS, rows_json(indexed, (0, 1)))))
            old: list[LogEntry] = []
            new: list[LogEntry] = []
            for one in entries:
                stamp, only_missing = stamps[RecordKey(one.operation.collection, one.operation.record_id)]
                if one.stamp is None or not only_missing:
                    old.append(one)
                    new.append(replace(one, stamp=stamp))
            self._change_keys(queries.REMOVE_KEYS, index_rows(self.shapes, old))
            self._change_keys(queries.ADD_KEYS, index_rows(self.shapes, new))
        self._write.send(queries.RESTAMP, rows_json(self._restamped, (0, 1)))
        self._restamped = []

    def requeue(self, key: RecordKey) -> list[LogEntry]:
        """Move the operations of a record to the end of the log, in their order."""
        self._restamp_all()
        self._histories.expect(())
        rows = self._write.fetch(queries.ENTRIES_OF_RECORDS, rows_json([key], (0, 1)))
        entries = sorted(map(read_entry, rows), key=attrgetter("sequence"))
        if not entries:
            return []
        first = max(self._next, self._counter + 1)
        moved = [replace(one, sequence=number) for number, one in enumerate(entries, start=first)]
        self._change_keys(queries.REMOVE_KEYS, index_rows(self.shapes, entries))
        numbers = [(old.sequence, new.sequence) for old, new in zip(entries, moved, strict=True)]
        self._write.send(queries.RENUMBER, rows_json(numbers, ()))
        self._change_keys(queries.ADD_KEYS, index_rows(self.shapes, moved))
        complete = self._materialized >= self._counter
        self._counter = moved[-1].sequence
        self._next = self._counter + 1
        self._materialized = self._counter if complete else self._materialized
        self._has_news = True
        return moved

    def set_refill(self, collection: str, refill: Refill | None) -> None:
        """Remember how far the rows of a collection are made again; None: all of them are."""
        self._write.send(queries.SAVE_REFILL, None if refill is None else encode_shape(refill).decode(), collection)
        self._shapes_changed()

    def replace_log(self, vector: Mapping[str, int]) -> None:
        """Empty the log, and all records with it; the version vector becomes `vector`."""
        self._write.take_time()
        for name in self.shapes:
            self._write.send(queries.EMPTY.format(table=quoted(name)))
        for table in ("operations", "sync_state", "kora_records", "kora_scopes"):
            self._write.send(queries.EMPTY.format(table=table))
        self._write.send(queries.SET_VECTOR, rows_json(((node, number, 0) for node, number in vector.items()), (0,)))
        # No watermark of old reaches the floor: the new log's own numbers begin below it, and go on above.
        self._counter += 1
        self._write.send(queries.SET_FLOOR, str(self._counter))
        self._next, self._materialized = 1, 0
        self._has_news = True
        self._restamped = []
        self._known.clear()
        self._histories.expect(())

    def _shapes_changed(self) -> None:
        self._shapes.refresh(self._shapes.generation + 1, lambda: self._write.fetch(queries.SHAPES))


def records_above(collection: str, after: str | None) -> tuple[str, list[str]]:
    """The condition that a row is about a record of a collection with an id above `after`, and what is bound to it."""
    if after is None:
        return queries.FROM_THE_FIRST, [stored_name(collection)]
    return queries.ABOVE, [stored_name(collection), stored_name(after)]


def _key_of(collection: str, record_id: str) -> RecordKey:
    return RecordKey(read_name(collection), read_name(record_id))


def _json_value(value: ColumnValue) -> ColumnValue:
    """A column's value as JSON has it."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value
