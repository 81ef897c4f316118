"""The tables of collections as a SQLite file has them, and what brings them to a schema (store.md section 7)."""

from __future__ import annotations

from typing import Any

import apsw

from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.upgrade import PresentTable, Upgrade, checked_columns, plan_schema
from kora_daemon.model.schema import Schema
from kora_daemon.store import queries
from kora_daemon.store import record_queries as records
from kora_daemon.store.shapes import ShapeCache


def plan(connection: apsw.Connection, schema: Schema) -> Upgrade:
    """What brings the tables to a schema. Raises StoreError when one of them is in the way."""
    tables: list[Any] = connection.execute(queries.TABLES).fetchall()
    present = {
        name: PresentTable(
            columns=dict(connection.execute(queries.COLUMNS_OF, (name,))),
            indexes=_indexes(connection, name),
            checks=checked_columns(sql),
        )
        for name, sql in tables
    }
    current = ShapeCache()
    current.refresh(0, lambda: connection.execute(records.SHAPES))
    return plan_schema(schema, present, (current.shapes, current.refills), Dialect.SQLITE)


def _indexes(connection: apsw.Connection, table: str) -> dict[str, list[str]]:
    names: list[Any] = connection.execute(queries.INDEXES_OF, (table,)).fetchall()
    return {
        index: [str(column) for (column,) in connection.execute(queries.INDEX_COLUMNS, (index,))] for (index,) in names
    }
