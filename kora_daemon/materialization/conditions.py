"""When a record's value equals a given one: exactly, without coercion between types (store.md section 11)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from kora_daemon.materialization.columns import ColumnValue, Dialect, column_value, field_value
from kora_daemon.materialization.json_text import read_json
from kora_daemon.model.binary import is_index_bytes, is_tagged_bytes
from kora_daemon.model.jsvalue import JsonValue, canonical_json, is_number
from kora_daemon.model.record import QueryError, QueryProblem, RecordQuery
from kora_daemon.model.schema import Collection, Kind, Schema

JSON_KINDS: frozenset[Kind] = frozenset({"array", "object", "json", "blob"})
"""Kinds whose columns hold JSON text and whose values are compared by what they mean."""

_TEXT_KINDS: frozenset[Kind] = frozenset({"string", "enum", "secret"})
_NUMBER_KINDS: frozenset[Kind] = frozenset({"number", "timestamp"})
OWN_COLUMNS: Mapping[str, Kind] = {
    "id": "string",
    "_created_at": "timestamp",
    "_updated_at": "timestamp",
    "_deleted": "timestamp",
}
"""The columns that every collection has besides its fields, and as what they are compared."""


class Special(enum.Enum):
    """What a column is compared with when it is no value."""

    NOTHING = enum.auto()
    """No record matches: the value is of a type that the column never shows."""
    NULL = enum.auto()


class JsonKey(str):
    """The text that equal JSON values have in common; columns are compared by theirs."""

    __slots__ = ()


Operand: TypeAlias = Special | JsonKey | str | int | float | bytes


class Condition(NamedTuple):
    """A column must hold a value. `operand` is what it is compared with in a dialect's columns."""

    column: str
    kind: Kind
    operand: Operand


def checked_collection(schema: Schema | None, name: str) -> Collection:
    """The collection of this name. Raises `QueryError`."""
    if schema is None:
        raise QueryError("no-schema", "there is no schema: records can be read when the configuration names one")
    found = schema.collections.get(name)
    if found is None:
        raise QueryError(
            "unknown-collection", f"there is no collection {name!r}; the schema has {', '.join(schema.collections)}"
        )
    return found


def checked_query(collection: Collection, query: RecordQuery) -> RecordQuery:
    """The query, once its fields and numbers are found to be fine. Raises `QueryError`."""
    for name in (*query.where, *(() if query.order_by is None else (query.order_by,))):
        column_kind(collection, name)
    for word, number in (("limit", query.limit), ("offset", query.offset)):
        if number is not None and (type(number) is not int or number < 0):
            raise QueryError("invalid-limit", f"{word} is {number!r}, expected a whole number from 0 up")
    if query.after is not None and query.order_by is not None:
        raise QueryError("invalid-after", "after goes by the order of the ids, not by one of your own")
    return query


def column_kind(collection: Collection, name: str) -> Kind:
    """The kind of the values in a column. Raises `QueryError` for one that the collection does not have."""
    field = collection.fields.get(name)
    if field is not None:
        return field.kind
    if name in OWN_COLUMNS:
        return OWN_COLUMNS[name]
    problem: QueryProblem = "unknown-field"
    valid = ", ".join((*OWN_COLUMNS, *collection.fields))
    raise QueryError(problem, f"{collection.name} has no field {name!r}; it has {valid}")


def written_value(kind: Kind, text: str) -> JsonValue:
    """The value that a text on a command line or in a URL means for a column of this kind: texts are taken as they are.

    All else is JSON. Raises ValueError for what is none.
    """
    return text if kind in _TEXT_KINDS or kind == "richtext" else read_json(text)


def conditions(collection: Collection, where: Mapping[str, Any], dialect: Dialect) -> list[Condition]:
    """The conditions that `where` puts. Raises `QueryError` for an unknown field."""
    made = []
    for name, value in where.items():
        kind = column_kind(collection, name)
        made.append(Condition(name, kind, operand(kind, value, dialect)))
    return made


def operand(kind: Kind, value: object, dialect: Dialect) -> Operand:
    """What a column of this kind is compared with to find `value`, a JSON value or bytes."""
    if value is None:
        return Special.NULL
    if not is_shown(kind, value):
        return Special.NOTHING
    if kind in JSON_KINDS:
        return JsonKey(canonical_json(value))  # type: ignore[arg-type]
    column = value if isinstance(value, bytes) else column_value(kind, value, dialect)  # type: ignore[arg-type]
    return Special.NOTHING if column is None else column


def holds(wanted: Operand, column: ColumnValue) -> bool:
    """Whether a column's value meets an operand of the same kind and dialect."""
    if isinstance(wanted, Special):
        return wanted is Special.NULL and column is None
    if column is None:
        return False
    if isinstance(wanted, JsonKey):
        return json_key(column) == wanted
    if is_number(wanted) and is_number(column):
        return wanted == column
    return type(wanted) is type(column) and wanted == column


def json_key(column: object) -> str:
    """The text that equal JSON values have in common, from the text in a column."""
    return canonical_json(field_value("json", column))  # type: ignore[arg-type]


def sort_key(column: ColumnValue) -> tuple[int, Any]:
    """Sorts the values of one column as SQLite does: numbers, then texts by code point, then bytes. No nulls."""
    if isinstance(column, str):
        return (1, column)
    return (2, column) if isinstance(column, bytes) else (0, column)


def is_shown(kind: Kind, value: object) -> bool:
    """Whether a field of this kind can show such a value at all."""
    if kind in _TEXT_KINDS:
        return isinstance(value, str)
    if kind in _NUMBER_KINDS:
        return is_number(value)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "richtext":
        return isinstance(value, str | bytes) or is_tagged_bytes(value) or is_index_bytes(value)
    return True


def constraint_operand(kind: Kind, value: JsonValue, dialect: Dialect) -> Operand:
    """Like `operand`, but for a value that is to be stored: it is compared as its column will show it."""
    if kind in JSON_KINDS or value is None:
        return operand(kind, value, dialect)
    column = column_value(kind, value, dialect)
    return Special.NULL if column is None else column
