"""The tables of collections in an SQLite database in memory: planned, upgraded, written and read, without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from kora_daemon.materialization.columns import Dialect, column_names, record_of, record_row
from kora_daemon.materialization.ddl import quoted
from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.upgrade import PresentTable, Step, checked_columns, plan_upgrade
from kora_daemon.model.schema import Collection, Kind

Record = dict[str, Any]


def kinds_of(collection: Collection) -> dict[str, Kind]:
    """Field name -> kind."""
    return {name: field.kind for name, field in collection.fields.items()}


class CollectionTables:
    """A database of collection tables."""

    def __init__(self) -> None:
        self._connection = apsw.Connection(":memory:")

    def execute(self, statement: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(statement, bindings))

    def present(self) -> dict[str, PresentTable]:
        tables = self.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
        return {
            name: PresentTable(
                columns=dict(self.execute("SELECT name, type FROM pragma_table_info(?)", (name,))),
                indexes=self.indexes(name),
                checks=checked_columns(sql),
            )
            for name, sql in tables
        }

    def indexes(self, table: str) -> dict[str, list[str]]:
        listed = self.execute("SELECT name FROM pragma_index_list(?) WHERE origin = 'c' ORDER BY name", (table,))
        return {
            index: [column for (column,) in self.execute("SELECT name FROM pragma_index_info(?)", (index,))]
            for (index,) in listed
        }

    def upgrade(self, collections: Sequence[Collection]) -> list[Step]:
        steps = plan_upgrade(collections, self.present(), Dialect.SQLITE)
        for step in steps:
            for statement in step.statements:
                self.execute(statement)
        return steps

    def write(self, collection: Collection, states: Mapping[str, RecordState]) -> None:
        kinds = kinds_of(collection)
        names = ", ".join(map(quoted, column_names(kinds)))
        for record_id, state in states.items():
            row = record_row(kinds, record_id, state, Dialect.SQLITE)
            places = ", ".join("?" for _ in row)
            self.execute(f"INSERT OR REPLACE INTO {quoted(collection.name)} ({names}) VALUES ({places})", row)

    def read(self, collection: Collection, *, deleted: bool = False) -> list[Record]:
        kinds = kinds_of(collection)
        names = ", ".join(map(quoted, column_names(kinds)))
        table = quoted(collection.name)
        rows = self.execute(f"SELECT {names} FROM {table} WHERE _deleted = ? ORDER BY id", (int(deleted),))
        return [record_of(kinds, row) for row in rows]
