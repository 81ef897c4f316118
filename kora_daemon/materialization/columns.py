"""Records as rows: the columns of each kind of field, and what they hold (store.md sections 3, 4 and 11)."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.json_text import plain_number, read_json, write_json
from kora_daemon.model.binary import MalformedBytes, decode_bytes
from kora_daemon.model.jsvalue import JsonValue, as_double, is_number
from kora_daemon.model.schema import Kind

ColumnValue: TypeAlias = str | int | float | bytes | None
"""What is bound to a parameter."""
FieldValue: TypeAlias = JsonValue | bytes
"""What a reader of a record is shown: bytes in richtext fields, a JSON value everywhere else."""

_INT64_END = 2**63
_ESCAPE = re.compile(r"\\(?:ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|u[0-9a-f]{4}|.)")
"""An escape in a JSON text, those of a whole surrogate pair together."""


class Dialect(enum.Enum):
    """Whose SQL and whose columns."""

    SQLITE = enum.auto()
    POSTGRES = enum.auto()


# To look a member up takes longer than all else that is done for most values.
_SQLITE = Dialect.SQLITE


def column_names(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of a table in the order of `record_row`; `fields` has the collection's fields in schema order."""
    return ("id", *fields, "_created_at", "_updated_at", "_deleted")


def column_type(kind: Kind, dialect: Dialect) -> str:
    """The declared type of a field's column."""
    form = _FORMS[kind]
    return form.sqlite_type if dialect is _SQLITE else form.postgres_type


def column_value(kind: Kind, value: JsonValue, dialect: Dialect) -> ColumnValue:
    """A field's value as its column holds it, None where it does not fit: the log has it all the same."""
    if value is None:
        return None
    form = _FORMS[kind]
    return form.to_sqlite(value) if dialect is _SQLITE else form.to_postgres(value)


def field_value(kind: Kind, column: object) -> FieldValue:
    """The value that a column shows, in either dialect; PostgreSQL's JSONB is to be read as its text.

    Never raises: what no column of the kind should hold (databases from elsewhere) is None, and text that is no JSON in
    a JSON column is that text.
    """
    return None if column is None else _FORMS[kind].from_column(column)


def record_row(
    kinds: Mapping[str, Kind], record_id: str, state: RecordState, dialect: Dialect
) -> tuple[ColumnValue, ...]:
    """The row of a record in the order of `column_names`. `kinds` maps the schema's fields to their kinds.

    A record that is not live is a tombstone: it keeps its values, `_deleted` is 1.
    """
    values = [column_value(kind, state.fields.get(name), dialect) for name, kind in kinds.items()]
    return (record_id, *values, state.created_at_ms, state.updated_at_ms, 0 if state.live else 1)


def shown_fields(kinds: Mapping[str, Kind] | None, record_id: str, state: RecordState) -> dict[str, FieldValue]:
    """The fields of a record as a query shows them, its id among them; without kinds as they were written."""
    if kinds is None:
        return {**state.fields, "id": record_id}
    shown = {name: shown_value(kind, state.fields.get(name)) for name, kind in kinds.items()}
    return {**shown, "id": record_id}


def shown_value(kind: Kind, value: JsonValue) -> FieldValue:
    """A field's value as a query shows it."""
    return field_value(kind, column_value(kind, value, _SQLITE))


def record_of(kinds: Mapping[str, Kind], row: Sequence[object]) -> dict[str, FieldValue]:
    """The record in a row of `column_names`, as readers see it: id, fields in schema order, the two times in ms."""
    record_id, *columns, created_at_ms, updated_at_ms, _ = row
    return {
        "id": field_value("string", record_id),
        **{name: field_value(kind, column) for (name, kind), column in zip(kinds.items(), columns, strict=True)},
        "_created_at": field_value("timestamp", created_at_ms),
        "_updated_at": field_value("timestamp", updated_at_ms),
    }


class _Form(NamedTuple):
    """How a kind of field stands in a row. The functions are given no null."""

    sqlite_type: str
    postgres_type: str
    to_sqlite: Callable[[JsonValue], ColumnValue]
    to_postgres: Callable[[JsonValue], ColumnValue]
    from_column: Callable[[object], FieldValue]


def _sqlite_text(value: JsonValue) -> str | None:
    return _whole_characters(value) if isinstance(value, str) else None


def _postgres_text(value: JsonValue) -> str | None:
    text = _sqlite_text(value)
    return None if text is None else text.replace("\0", "\ufffd")


def _whole_characters(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _text_of(column: object) -> FieldValue:
    return column if isinstance(column, str) else None


def _number(value: JsonValue) -> float | None:
    double = as_double(value) if is_number(value) else math.nan
    return double if math.isfinite(double) else None


def _number_of(column: object) -> FieldValue:
    if isinstance(column, float):
        return plain_number(column) if math.isfinite(column) else None
    return column if is_number(column) else None


def _sqlite_time(value: JsonValue) -> float | None:
    ms = _number(value)
    return int(ms) if ms is not None and ms.is_integer() and _fits_int64(ms) else ms


def _postgres_time(value: JsonValue) -> int | None:
    ms = _number(value)
    return math.floor(ms) if ms is not None and _fits_int64(ms) else None


def _fits_int64(number: float) -> bool:
    return -_INT64_END <= number < _INT64_END


def _truth(value: JsonValue) -> int:
    """As in JavaScript, where an empty list or object is true."""
    return 0 if value in (0, "") else 1


def _truth_of(column: object) -> FieldValue:
    return column == 1


def _jsonb_text(value: JsonValue) -> str:
    """JSONB takes neither NUL nor halves of surrogate pairs, not even as escapes."""
    text = write_json(value)
    return _ESCAPE.sub(_storable, text) if "\\u" in text else text


def _storable(escape: re.Match[str]) -> str:
    unwanted = escape[0] == "\\u0000" or (escape[0].startswith("\\ud") and len(escape[0]) == 6)
    return "\ufffd" if unwanted else escape[0]


def _json_of(column: object) -> FieldValue:
    if not isinstance(column, str):
        return None
    try:
        return read_json(column)
    except ValueError:
        return column


def _sqlite_richtext(value: JsonValue) -> str | bytes | None:
    try:
        found = decode_bytes(value)
    except MalformedBytes:
        return None
    return _whole_characters(found) if isinstance(found, str) else found


def _postgres_richtext(value: JsonValue) -> bytes | None:
    found = _sqlite_richtext(value)
    return found.encode() if isinstance(found, str) else found


def _richtext_of(column: object) -> FieldValue:
    return column if isinstance(column, str | bytes) else None


_TEXT = _Form("TEXT", "TEXT", _sqlite_text, _postgres_text, _text_of)
_JSON = _Form("TEXT", "JSONB", write_json, _jsonb_text, _json_of)
_FORMS: Mapping[Kind, _Form] = {
    "string": _TEXT,
    "enum": _TEXT,
    "secret": _TEXT,
    "number": _Form("REAL", "DOUBLE PRECISION", _number, _number, _number_of),
    "boolean": _Form("INTEGER", "INTEGER", _truth, _truth, _truth_of),
    "timestamp": _Form("INTEGER", "BIGINT", _sqlite_time, _postgres_time, _number_of),
    "array": _JSON,
    "object": _JSON,
    "json": _JSON,
    "blob": _Form("TEXT", "TEXT", write_json, write_json, _json_of),
    "richtext": _Form("BLOB", "BYTEA", _sqlite_richtext, _postgres_richtext, _richtext_of),
}
