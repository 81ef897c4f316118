"""The statements about records in PostgreSQL's dialect. Parameters are `?`, as in `record_queries`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kora_daemon.materialization.columns import Dialect, column_names, column_type, column_value
from kora_daemon.materialization.conditions import JSON_KINDS, Condition, Special
from kora_daemon.materialization.ddl import quoted
from kora_daemon.materialization.json_text import read_json
from kora_daemon.model.schema import Kind
from kora_daemon.store.postgres.queries import recordset
from kora_daemon.store.record_queries import Sql, Statement

JSON_KEY = "kora_json_key"
HAS_JSON_KEY = f"SELECT 1 WHERE to_regprocedure('{JSON_KEY}(text)') IS NOT NULL"
CREATE_JSON_KEY = f"""
    CREATE FUNCTION {JSON_KEY}(given text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
    BEGIN
        RETURN given::jsonb;
    EXCEPTION WHEN others THEN
        RETURN to_jsonb(given);
    END
    $$
"""
"""What JSON in a text column is compared by. A text that is none, or not to PostgreSQL, must not fail the query."""

_INDEX_KEYS = {"TEXT": "left({}, 255)", "JSONB": "jsonb_hash_extended({}, 0)", "BYTEA": "md5({})"}
_NUMBERS = {"DOUBLE PRECISION", "BIGINT", "INTEGER"}
_KEPT_TYPES = {"JSONB": "TEXT"}
"""JSON is handed over as text."""


def index_key(column: str, kind: str) -> str | None:
    """What stands in an index for a column, or a value, of a type that may be longer than an index takes (2.7 kB)."""
    key = _INDEX_KEYS.get(kind)
    return None if key is None else key.format(column)


class PostgresSql(Sql):
    """What is different: rows come as one JSON text, and the order of texts has to be told."""

    def __init__(self) -> None:
        super().__init__(Dialect.POSTGRES, lambda column: f"{JSON_KEY}({column})", ' COLLATE "C"')

    def upsert(self, collection: str, fields: Mapping[str, Kind]) -> str:
        """Writes whole rows, as `columns.record_row` makes them."""
        types = ["TEXT", *map(_type, fields.values()), "BIGINT", "BIGINT", "INTEGER"]
        return self._upsert(collection, column_names(fields), f"SELECT {_given(types)}")

    def update(self, collection: str, columns: Mapping[str, Kind]) -> str:
        """Writes these columns of rows that are there; their ids come last."""
        types = [_type(kind) if name != "_deleted" else "INTEGER" for name, kind in columns.items()]
        names = ", ".join(map(quoted, columns))
        return (
            f"UPDATE {quoted(collection)} AS kept SET ({names}) = ROW({_values(types)}) "
            f'FROM {recordset([*_kept(types), "TEXT"], "?")} WHERE kept."id" = c{len(types)}'
        )

    def _shown(self, name: str, kind: Kind) -> str:
        return f"{quoted(name)}::text" if _type(kind) == "JSONB" else quoted(name)

    def _equal(self, column: str, kind: Kind, operand: str | int | float | bytes) -> Statement:
        if column == "id":
            return '"id" = ?', [operand]
        if kind in JSON_KINDS:
            operand = str(column_value("json", read_json(str(operand)), Dialect.POSTGRES))
        if kind == "blob":
            return f"{self._json_key(quoted(column))} = ?::jsonb", [operand]
        value = "?::jsonb" if kind in JSON_KINDS else "?"
        key = index_key(quoted(column), _type(kind))
        if key is None:
            return f"{quoted(column)} = {value}", [operand]
        # Whatever there is of an index is about the key.
        return f"{key} = {index_key(value, _type(kind))} AND {quoted(column)} = {value}", [operand, operand]

    def _place(self, column: str, kind: Kind) -> str:
        shown = self._shown(column, kind)
        return f"{shown}{self._collate}" if _type(kind) in ("TEXT", "JSONB") else shown


def is_comparable(condition: Condition, actual: Kind) -> bool:
    """Whether a column of the kind `actual` can be compared with what a condition, of another schema, takes it for.

    Nothing in such a column would be equal; PostgreSQL raises an error.
    """
    wanted, found = _type(condition.kind), _type(actual)
    return condition.operand is Special.NULL or wanted == found or {wanted, found} <= _NUMBERS


def _type(kind: Kind) -> str:
    return column_type(kind, Dialect.POSTGRES)


def _given(types: Iterable[str]) -> str:
    listed = list(types)
    return f"{_values(listed)} FROM {recordset(_kept(listed), '?')}"


def _kept(types: Iterable[str]) -> list[str]:
    return [_KEPT_TYPES.get(kind, kind) for kind in types]


def _values(types: Iterable[str]) -> str:
    return ", ".join(f"c{place}::jsonb" if kind == "JSONB" else f"c{place}" for place, kind in enumerate(types))
