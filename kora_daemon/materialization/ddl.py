"""The SQL of collection tables: columns, defaults, indexes (store.md section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kora_daemon.materialization.columns import ColumnValue, Dialect, column_type, column_value
from kora_daemon.model.jsvalue import number_text
from kora_daemon.model.schema import Collection, Field


class Column(NamedTuple):
    """A column. `constraint` is what follows name and type in its declaration."""

    name: str
    type: str
    constraint: str = ""

    @property
    def declaration(self) -> str:
        """As it stands in CREATE TABLE and ADD COLUMN."""
        return " ".join(part for part in (quoted(self.name), self.type, self.constraint) if part)


def table_columns(collection: Collection, dialect: Dialect) -> list[Column]:
    """The columns of a collection's table, in the order of `columns.column_names`. No field's column has a CHECK."""
    time_type = column_type("timestamp", dialect)
    return [
        Column("id", "TEXT", "PRIMARY KEY NOT NULL"),
        *(
            Column(name, column_type(field.kind, dialect), _default(field, dialect))
            for name, field in collection.fields.items()
        ),
        Column("_created_at", time_type, "NOT NULL DEFAULT 0"),
        Column("_updated_at", time_type, "NOT NULL DEFAULT 0"),
        Column("_deleted", "INTEGER", "NOT NULL DEFAULT 0"),
    ]


def table_creation(table: str, columns: Sequence[Column]) -> str:
    """The statement that makes a table."""
    return f"CREATE TABLE {quoted(table)} ({', '.join(column.declaration for column in columns)})"


def column_addition(table: str, column: Column) -> str:
    """The statement that adds a column."""
    return f"ALTER TABLE {quoted(table)} ADD COLUMN {column.declaration}"


def column_removal(table: str, column: str) -> str:
    """The statement that takes a column away; SQLite refuses while an index is on it."""
    return f"ALTER TABLE {quoted(table)} DROP COLUMN {quoted(column)}"


def index_creation(index: str, table: str, columns: Sequence[str]) -> str:
    """The statement that makes an index."""
    return f"CREATE INDEX {quoted(index)} ON {quoted(table)} ({', '.join(map(quoted, columns))})"


def index_removal(index: str) -> str:
    """The statement that takes an index away."""
    return f"DROP INDEX {quoted(index)}"


def check_removal(table: str, check: str) -> str:
    """The statement that takes a CHECK away, in PostgreSQL; SQLite has none."""
    return f"ALTER TABLE {quoted(table)} DROP CONSTRAINT {quoted(check)}"


def quoted(name: str) -> str:
    """An identifier as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _default(field: Field, dialect: Dialect) -> str:
    """Of no effect on rows, which are always written whole; it is there for people who insert by hand."""
    value = column_value(field.kind, field.default, dialect)
    return "" if value is None else f"DEFAULT {_literal(value, dialect)}"


def _literal(value: ColumnValue, dialect: Dialect) -> str:
    match value:
        case str():
            # A statement ends at a NUL.
            text = value.replace("\0", "\ufffd").replace("'", "''")
            return f"'{text}'"
        case bytes():
            return f"X'{value.hex()}'" if dialect is Dialect.SQLITE else f"'\\x{value.hex()}'::bytea"
        case None:
            return "NULL"
    return number_text(value)
