"""Bringing the log tables of a PostgreSQL database up to date, whoever has written it (store.md sections 3 and 10)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from kora_daemon.errors import StoreCorrupt, StoreError
from kora_daemon.model.identity import uuid7
from kora_daemon.store import tables
from kora_daemon.store.postgres import queries
from kora_daemon.store.postgres.record_sql import CREATE_JSON_KEY, HAS_JSON_KEY
from kora_daemon.store.postgres.sessions import PatientConnection
from kora_daemon.store.tables import Column, Table

_TYPES = {"INTEGER": "BIGINT", "TEXT": 'TEXT COLLATE "C"'}
"""Ours for those of `tables`: text is compared by code point whatever the database does, and numbers have 64 bits."""
WIDENED_BYTES = 64 << 20
"""A log up to this size gets wider numbers when it is adopted: a second or two, in which nobody can use it."""


def _table(table: Table) -> Table:
    columns = [Column(name, _TYPES[kind], constraint) for name, kind, constraint in table.columns]
    return table._replace(columns=columns)


COUNTER = Table(
    "delivery_counter",
    (
        Column("id", "INTEGER", "PRIMARY KEY"),
        Column("value", "BIGINT", "NOT NULL"),
        # Ours. Kept in the row that every write locks and reads anyway.
        Column("materialized", "BIGINT"),
        Column("shapes", "BIGINT"),
    ),
)
"""One row, id 1. Its lock orders all writes of all servers.

`value` is the largest delivery sequence ever given; `materialized` its value when the states of all records with a
table were last saved; `shapes` a number that changes with the shapes and refills.
"""
TABLES = (COUNTER, *map(_table, tables.TABLES))
_NARROW = [("operations", "sequence_number"), ("operations", "schema_version"), ("sync_state", "max_sequence_number")]
"""32 bits wide in a database of the reference: a number beyond them would be refused for ever."""

Rows = list[tuple[Any, ...]]


def adopt(connection: PatientConnection, database: str, node_id: str | None = None) -> str:
    """Create what is missing of tables, columns, indexes and delivery sequences; return the server's node id.

    One transaction, one server at a time. Changes nothing, and locks no table, where nothing is missing. `database`
    is its name in messages, `node_id` the id for a database that has none yet; without it one is made up. Raises
    StoreError for tables of a newer version and StoreCorrupt for tables that are no log.
    """
    patience_s, connection.patience_s = connection.patience_s, None
    with connection.transaction():
        connection.execute(queries.BEGIN_ADOPTION.encode())
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreError(
                f"{database} has the encoding {encoding}, which can't hold all texts; create it with ENCODING 'UTF8'"
            )
        known = _Adoption(connection, database).run(node_id)
    connection.patience_s = patience_s
    return known


class _Adoption:
    """What is there, and what comes of it."""

    def __init__(self, connection: PatientConnection, database: str) -> None:
        self._connection = connection
        self._database = database
        self._columns: dict[str, dict[str, str]] = {}
        names = [*(table.name for table in TABLES), queries.WORDS]
        for table, column, kind in self._execute(queries.LOG_COLUMNS, [names]):
            self._columns.setdefault(table, {})[column] = kind

    def run(self, node_id: str | None) -> str:
        self._check_version()
        missing = [*self._tables(), *self._widening(), *self._indexes()]
        if missing and COUNTER.name in self._columns:
            # Before any table is locked, as writers do it. Not when all is well: a lost connection is made again at
            # once, whoever holds the lock.
            self._execute(queries.LOCK_COUNTER)
        for statement in missing:
            self._execute(statement)
        if not self._execute(HAS_JSON_KEY):
            self._execute(CREATE_JSON_KEY)
        self._execute(queries.FIRST_COUNTER)
        if self._execute(queries.HAS_OLD_ROWS):
            self._execute(queries.LOCK_COUNTER)
            self._execute(queries.NUMBER_OLD_ROWS)
        self._execute(queries.RAISE_COUNTER)
        made_up = node_id or uuid7(time.time() * 1000, os.urandom(16))
        self._execute(queries.INITIAL_META, [str(tables.FORMAT_VERSION), made_up])
        ((found,),) = self._execute(queries.NODE_ID)
        return str(found)

    def _check_version(self) -> None:
        if "kora_meta" not in self._columns:
            return
        for (version,) in self._execute("SELECT value::bigint FROM kora_meta WHERE key = 'format'"):
            if version > tables.FORMAT_VERSION:
                raise StoreError(
                    f"{self._database} was written by a newer version of this server (format {version}, this one knows "
                    f"{tables.FORMAT_VERSION}); run that version, or restore a backup into another database"
                )

    def _tables(self) -> Iterator[str]:
        """What makes the tables and columns that are missing."""
        for table in TABLES:
            present = self._columns.get(table.name)
            if present is None:
                yield table.creation + (queries.ROOM if table.name == tables.RECORDS.name else "")
                continue
            for column in table.missing_columns(present):
                if not column.can_be_added:
                    raise StoreCorrupt(
                        f"{self._database} is no Kora database: its table {table.name} has no column {column.name}; "
                        "check the URL"
                    )
                yield table.addition(column)
        if queries.WORDS not in self._columns:
            yield queries.CREATE_WORDS

    def _widening(self) -> Iterator[str]:
        """What makes room for numbers of 64 bits."""
        narrow = [(table, column) for table, column in _NARROW if self._columns.get(table, {}).get(column) == "integer"]
        if narrow and self._execute(queries.LOG_SIZE)[0][0] <= WIDENED_BYTES:
            for table, column in narrow:
                yield f"ALTER TABLE {table} ALTER COLUMN {column} TYPE BIGINT"

    def _indexes(self) -> Iterator[str]:
        """What makes the indexes that are missing. Collections of the reference's may have taken their names."""
        present = self._execute(queries.INDEXES)
        taken = {index for _, index, _ in present}
        of_log = [(table, columns) for table, _, columns in present]
        for table in TABLES:
            for name, columns in table.indexes.items():
                if (table.name, list(columns)) not in of_log:
                    free = f"kora_{name}" if name in taken else name
                    yield f"CREATE INDEX {free} ON {table.name} ({', '.join(columns)})"
        is_theirs = tables.OPERATIONS.name in self._columns and not self._execute(queries.HAS_CODE_POINT_ORDER)
        if is_theirs and queries.RECORD_INDEX not in taken:
            yield queries.CREATE_RECORD_INDEX

    def _execute(self, statement: str, bindings: Sequence[Any] = ()) -> Rows:
        cursor = self._connection.execute(statement.encode(), bindings)
        return [] if cursor.description is None else cursor.fetchall()
