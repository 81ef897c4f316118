"""The records of the memory store: states by collection, looked up through hash indexes made when first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from kora_daemon.materialization.columns import ColumnValue, Dialect, column_value, record_of, record_row
from kora_daemon.materialization.conditions import (
    JSON_KINDS,
    OWN_COLUMNS,
    Condition,
    JsonKey,
    Operand,
    Special,
    holds,
    json_key,
    sort_key,
)
from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.shape import Refill, Shape
from kora_daemon.model.record import Record, RecordKey, RecordQuery
from kora_daemon.model.schema import Collection, Kind

_Values = tuple[Operand, ...]


class MemoryRecords:
    """States and shapes. Not shared while it is changed: a write works on an overlay, or on a copy."""

    def __init__(self) -> None:
        self.shapes: dict[str, Shape] = {}
        self.refills: dict[str, Refill] = {}
        self.materialized = 0
        self._states: dict[str, dict[str, RecordState]] = {}
        self._indexes: dict[str, dict[tuple[str, ...], dict[_Values, set[str]]]] = {}

    def copy(self) -> MemoryRecords:
        """The same, to be changed while this one is read."""
        made = MemoryRecords()
        made.shapes, made.refills, made.materialized = dict(self.shapes), dict(self.refills), self.materialized
        made._states = {name: dict(states) for name, states in self._states.items()}
        return made

    def state(self, key: RecordKey) -> RecordState | None:
        """The state of a record, if it has one."""
        return self._states.get(key.collection, {}).get(key.record_id)

    def ids(self, collection: str) -> Iterable[str]:
        """The ids of all records that have a state."""
        return self._states.get(collection, {})

    def save(self, states: Mapping[RecordKey, RecordState]) -> None:
        """Keep these states."""
        for key, state in states.items():
            self._reindex(key, state)
            self._states.setdefault(key.collection, {})[key.record_id] = state

    def remove(self, key: RecordKey) -> None:
        """Forget a record."""
        self._reindex(key, None)
        self._states.get(key.collection, {}).pop(key.record_id, None)

    def forget(self, collection: str) -> None:
        """Forget all records of a collection."""
        self._states.pop(collection, None)
        self._indexes.pop(collection, None)

    def live_ids(self, collection: str, where: Sequence[Condition]) -> set[str]:
        """The ids of the live records that meet all conditions."""
        if any(condition.operand is Special.NOTHING for condition in where):
            return set()
        columns = tuple(condition.column for condition in where)
        indexes = self._indexes.setdefault(collection, {})
        index = indexes.get(columns)
        if index is None:
            index = indexes[columns] = {}
            kinds = self._kinds(collection)
            for record_id, state in self._states.get(collection, {}).items():
                if state.live:
                    index.setdefault(_values(kinds, columns, record_id, state), set()).add(record_id)
        return set(index.get(tuple(condition.operand for condition in where), ()))

    def meets(self, key: RecordKey, state: RecordState, where: Sequence[Condition]) -> bool:
        """Whether a record, were it in this state, would be live and meet all conditions."""
        kinds = self._kinds(key.collection)
        return state.live and all(
            holds(one.operand, _column(one.kind, one.column, kinds, key.record_id, state)) for one in where
        )

    def select(self, collection: Collection, query: RecordQuery, where: Sequence[Condition]) -> list[Record]:
        """The records that a query finds, as `collection` shows them."""
        kinds = collection.kinds
        found = [
            row
            for record_id, state in self._states.get(collection.name, {}).items()
            if state.live or query.include_deleted
            if query.after is None or record_id > query.after
            if all(holds(one.operand, _column(one.kind, one.column, kinds, record_id, state)) for one in where)
            for row in [record_row(kinds, record_id, state, Dialect.SQLITE)]
        ]
        found.sort(key=lambda row: str(row[0]))
        if query.order_by is not None:
            place = ("id", *kinds, "_created_at", "_updated_at", "_deleted").index(query.order_by)
            empty = [row for row in found if row[place] is None]
            found = [row for row in found if row[place] is not None]
            # A reversed sort keeps the order of equals: ids ascend in both directions.
            found.sort(key=lambda row: sort_key(row[place]), reverse=query.descending)
            found += empty
        end = None if query.limit is None else query.offset + query.limit
        return [record_of(kinds, row) for row in found[query.offset : end]]

    def count(self, collection: Collection, where: Sequence[Condition]) -> int:
        """How many live records meet all conditions."""
        states = self._states.get(collection.name, {})
        return sum(self.meets(RecordKey(collection.name, one), state, where) for one, state in states.items())

    def _kinds(self, collection: str) -> Mapping[str, Kind]:
        shape = self.shapes.get(collection)
        return {} if shape is None else shape.kinds

    def _reindex(self, key: RecordKey, state: RecordState | None) -> None:
        before = self.state(key)
        kinds = self._kinds(key.collection)
        for columns, index in self._indexes.get(key.collection, {}).items():
            if before is not None and before.live:
                values = _values(kinds, columns, key.record_id, before)
                index[values].discard(key.record_id)
                if not index[values]:
                    del index[values]
            if state is not None and state.live:
                index.setdefault(_values(kinds, columns, key.record_id, state), set()).add(key.record_id)


def _values(kinds: Mapping[str, Kind], columns: Sequence[str], record_id: str, state: RecordState) -> _Values:
    return tuple(_operands(kinds, columns, record_id, state))


def _operands(
    kinds: Mapping[str, Kind], columns: Sequence[str], record_id: str, state: RecordState
) -> Iterator[Operand]:
    for name in columns:
        kind = kinds.get(name) or OWN_COLUMNS[name]
        column = _column(kind, name, kinds, record_id, state)
        if column is None:
            yield Special.NULL
        else:
            yield JsonKey(json_key(column)) if kind in JSON_KINDS else column


def _column(kind: Kind, name: str, kinds: Mapping[str, Kind], record_id: str, state: RecordState) -> ColumnValue:
    if name in kinds:
        return column_value(kind, state.fields.get(name), Dialect.SQLITE)
    own: dict[str, ColumnValue] = {
        "id": record_id,
        "_created_at": state.created_at_ms,
        "_updated_at": state.updated_at_ms,
        "_deleted": 0 if state.live else 1,
    }
    return own[name]
