"""The row writes of one save, gathered by statement.

A row that is there gets only the columns that have changed: SQL databases then leave the indexes on all others alone,
which is where most of the cost of writing a row is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kora_daemon.materialization.columns import ColumnValue, column_value, record_row
from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.shape import Shape
from kora_daemon.model.record import RecordKey
from kora_daemon.store.record_queries import Sql

Rows = list[tuple[ColumnValue, ...]]


class RowWrites:
    """Statements, each with the rows that it is to be run with."""

    def __init__(self, sql: Sql, shapes: Mapping[str, Shape]) -> None:
        self._sql = sql
        self._shapes = shapes
        self._whole: dict[str, Rows] = {}
        self._partial: dict[tuple[str, tuple[str, ...]], Rows] = {}

    def add(self, key: RecordKey, state: RecordState, before: RecordState | None) -> None:
        """Write the row of a record; `before` is the state that its row shows now, None when there may be no row."""
        kinds, dialect = self._shapes[key.collection].kinds, self._sql.dialect
        if before is None:
            row = record_row(kinds, key.record_id, state, dialect)
            self._whole.setdefault(key.collection, []).append(row)
            return
        old, new = before.fields, state.fields
        # Unchanged values are the same objects, unless a replay has made them anew.
        changed = {
            name: column_value(kinds[name], new.get(name), dialect)
            for name in kinds
            if old.get(name) is not new.get(name)
        }
        own: dict[str, ColumnValue] = {"_updated_at": state.updated_at_ms}
        if before.created_at_ms != state.created_at_ms:
            own["_created_at"] = state.created_at_ms
        if before.live != state.live:
            own["_deleted"] = 0 if state.live else 1
        columns = (*changed, *own)
        self._partial.setdefault((key.collection, columns), []).append(
            (*changed.values(), *own.values(), key.record_id)
        )

    def statements(self) -> Iterator[tuple[str, Rows]]:
        """SQL, and the rows of its parameters."""
        for collection, rows in self._whole.items():
            yield self._sql.upsert(collection, self._shapes[collection].kinds), rows
        for (collection, columns), rows in self._partial.items():
            kinds = self._shapes[collection].kinds
            yield self._sql.update(collection, {name: kinds.get(name, "timestamp") for name in columns}), rows
