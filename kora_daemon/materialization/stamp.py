"""The stamp: what a record was when one of its operations was stored, kept beside that one (scopes.md section 12).

Whether a session may see an operation depends on its record. With the stamp the log itself says so, and no read ever
has to look a record up. What the operation carries itself outranks its stamp, so that is not repeated here. It is for
reading only: who may write is decided by the record alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from kora_daemon.materialization.columns import Dialect, column_value, field_value
from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.json_text import write_json
from kora_daemon.materialization.shape import Shape
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.schema import Kind

MAX_STAMPED_LENGTH = 255
"""Characters. Longer texts are not what people filter by, and would double the log."""
UNKNOWN = ""
"""Name under which a stamp lists the fields it leaves out for their length; no field is called so."""
EMPTY_STAMP = "{}"

UNEQUAL: Any = []
"""Equal to nothing."""

_SMALL = 2**53
_LEFT_OUT: Any = object()
_WHATEVER: Any = object()
_TEXT_KINDS: frozenset[Kind] = frozenset({"string", "enum"})
_STAMPED_KINDS: frozenset[Kind] = frozenset({"string", "enum", "number", "boolean", "timestamp"})
_WITHOUT_EQUAL: frozenset[Kind] = frozenset({"array", "object", "blob"})
"""Lists and objects equal nothing, not even null (scopes.md section 3): an empty list stands for all of them."""


def stamp_of(shape: Shape, state: RecordState, carried: Mapping[str, Any] | None = None) -> str:
    """The stamp for an operation that carries the fields `carried`, on a record in `state`: JSON, null values left out.

    A field that is neither in the stamp nor in the operation was null. What the operation says and the record is, is
    not repeated.
    """
    values: dict[str, Any] = {}
    unknown: list[str] = []
    kinds = shape.kinds
    fields = state.fields
    said = carried or {}
    for name, value in said.items():
        if value is not None and fields.get(name) is None and name in kinds:
            values[name] = None
    for name, value in fields.items():
        if value is None or (kind := kinds.get(name)) is None or (name in said and _same(said[name], value)):
            continue
        # What most values are, and shown as they are.
        form = type(value)
        if form is str:
            plain = kind in _TEXT_KINDS and len(value) <= MAX_STAMPED_LENGTH and value.isascii()
        elif form is int:
            plain = kind == "number" and -_SMALL < value < _SMALL
        else:
            plain = form is bool and kind == "boolean"
        if plain:
            values[name] = value
            continue
        shown = _shown(shape, name, kind, value)
        if shown is _LEFT_OUT:
            unknown.append(name)
        elif shown is not None:
            values[name] = shown
    if unknown:
        values[UNKNOWN] = unknown
    return write_json(values) if values else EMPTY_STAMP


def stamp_of_any(shape: Shape, state: RecordState, fields: Iterable[str]) -> str:
    """The stamp for any operation of a record in `state`: right about `fields` whatever it carries, null included."""
    return stamp_of(shape, state, dict.fromkeys(fields, _WHATEVER))


def _same(one: JsonValue, other: JsonValue) -> bool:
    return one is other or (type(one) is type(other) and one == other)


def _shown(shape: Shape, name: str, kind: Kind, value: JsonValue) -> Any:  # noqa: ANN401  a JSON value, or `_LEFT_OUT`
    """The value as the record shows it, `_LEFT_OUT` for one that the stamp does not hold."""
    if kind in _WITHOUT_EQUAL or (kind == "json" and isinstance(value, list | dict)):
        return []
    if kind not in _STAMPED_KINDS and name not in shape.scoped:
        return _LEFT_OUT
    shown = field_value(kind, column_value(kind, value, Dialect.SQLITE))
    if isinstance(shown, bytes):
        return []
    if isinstance(shown, str) and len(shown) > MAX_STAMPED_LENGTH and name not in shape.scoped:
        return _LEFT_OUT
    return shown


def needs_new_stamps(state: RecordState, added: Collection[str]) -> bool:
    """Whether older operations of the record should know of fields that were `added` to the schema since."""
    return any(state.fields.get(name) is not None for name in added)


class Snapshot(NamedTuple):
    """What an operation is judged by: what it carries, over what its record is (scopes.md section 3)."""

    carried: dict[str, Any]
    """Its data over its previous data."""
    stamped: Mapping[str, Any] | None
    """Its record as the stamp tells: all fields, null where there was none. None without a stamp."""
    unknown: Collection[str] = ()
    """Fields of which the stamp tells nothing; in `stamped` they equal nothing."""


class _Stamped(dict[str, Any]):
    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> None:
        return None


def snapshot(record_id: str, data: object, previous: object, stamp: str | None) -> Snapshot:
    """Read what an operation is judged by; `data` and `previous` are JSON values of any kind."""
    said, was = _comparable(data), _comparable(previous)
    if stamp is None:
        return Snapshot(was | said, None)
    told = json.loads(stamp) if stamp != EMPTY_STAMP else {}
    unknown = told.pop(UNKNOWN, ())
    stamped = _Stamped({**said, **told, **dict.fromkeys(unknown, UNEQUAL), "id": record_id})
    return Snapshot(was | said, stamped, unknown)


def _comparable(fields: object) -> dict[str, Any]:
    """Lists and objects equal nothing, so nothing of them is kept in memory."""
    if not isinstance(fields, dict):
        return {}
    return {name: UNEQUAL if isinstance(value, list | dict) else value for name, value in fields.items()}
