"""Bringing the log tables of a database up to date, whoever has written it (store.md sections 3 and 10)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from kora_daemon.errors import StoreCorrupt, StoreError
from kora_daemon.model.identity import uuid7
from kora_daemon.store import tables


class Execute(Protocol):
    """Runs one statement and returns its rows."""

    def __call__(self, statement: str, bindings: Sequence[str | int] = (), /) -> Iterable[tables.Row]:
        """Run `statement` with its `?` bound to `bindings`."""
        ...


def adopt(execute: Execute, database: str, node_id: str | None = None) -> str:
    """Create what is missing of tables, columns, indexes and delivery sequences; return the server's node id.

    Runs inside a transaction of the caller, for SQLite. Changes nothing the second time. `database` is its name in
    messages, `node_id` the id for a database that has none yet; without it one is made up. Raises StoreError for tables
    of a newer version and StoreCorrupt for tables that are no log.
    """
    for table in tables.TABLES:
        _complete(execute, table, database)
    _check_version(execute, database)
    if list(execute("SELECT 1 FROM operations WHERE delivery_seq IS NULL LIMIT 1")):
        execute(tables.NUMBER_OLD_ROWS)
    execute(
        "INSERT INTO kora_meta (key, value) VALUES ('format', ?), ('node_id', ?) ON CONFLICT (key) DO NOTHING",
        (tables.FORMAT_VERSION, node_id or uuid7(time.time() * 1000, os.urandom(16))),
    )
    ((known,),) = execute("SELECT value FROM kora_meta WHERE key = 'node_id'")
    return str(known)


def _complete(execute: Execute, table: tables.Table, database: str) -> None:
    execute(table.creation + (" WITHOUT ROWID" if table.is_index else ""))
    present = [name for (name,) in execute("SELECT name FROM pragma_table_info(?)", (table.name,))]
    for column in table.missing_columns(present):
        if not column.can_be_added:
            raise StoreCorrupt(
                f"{database} is no Kora database: its table {table.name} has no column {column.name}; check the path"
            )
        execute(table.addition(column))
    for statement in table.index_creations:
        execute(statement)


def _check_version(execute: Execute, database: str) -> None:
    for (version,) in execute("SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = 'format'"):
        if version > tables.FORMAT_VERSION:
            raise StoreError(
                f"{database} was written by a newer version of this server (format {version}, this one knows "
                f"{tables.FORMAT_VERSION}); run that version, or restore a backup into a new file"
            )
