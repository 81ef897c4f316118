"""The stamp: what a record was when one of its operations was stored, kept beside that one (scopes.md section 12).

Whether a session may see an operation depends on its record. With the stamp the log itself says so, and no read ever
has to look a record up. What the operation carries itself outranks its stamp, so that is not repeated here. It is for
reading only: who may write is decided by the record alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

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

_SMALL = 2**53
_LEFT_OUT: Any = object()
_TEXT_KINDS: frozenset[Kind] = frozenset({"string", "enum"})
_STAMPED_KINDS: frozenset[Kind] = frozenset({"string", "enum", "number", "boolean", "timestamp"})
_WITHOUT_EQUAL: frozenset[Kind] = frozenset({"array", "object", "blob"})
"""Lists and objects equal nothing, not even null (scopes.md section 3): an empty list stands for all of them."""


def stamp_of(shape: Shape, state: RecordState, carried: Collection[str] = ()) -> str:
    """The stamp for an operation that carries the fields `carried`, on a record in `state`: JSON, null values left out.

    A field that is neither in the stamp nor in the operation was null.
    """
    values: dict[str, Any] = {}
    unknown: list[str] = []
    kinds = shape.kinds
    for name, value in state.fields.items():
        if value is None or name in carried or name not in kinds:
            continue
        kind = kinds[name]
        form = type(value)
        # What most values are, and shown as they are.
        if (
            (form is str and kind in _TEXT_KINDS and len(value) <= MAX_STAMPED_LENGTH and value.isascii())
            or (form is bool and kind == "boolean")
            or (form is int and kind == "number" and -_SMALL < value < _SMALL)
        ):
            values[name] = value
        else:
            shown = _shown(shape, name, kind, value)
            if shown is _LEFT_OUT:
                unknown.append(name)
            elif shown is not None:
                values[name] = shown
    if unknown:
        values[UNKNOWN] = unknown
    return write_json(values) if values else EMPTY_STAMP


def _shown(shape: Shape, name: str, kind: Kind, value: JsonValue) -> Any:  # noqa: ANN401  a JSON value, or `_LEFT_OUT`
    """The value as the record shows it, `_LEFT_OUT` for one that the stamp does not hold."""
    if kind in _WITHOUT_EQUAL or (kind == "json" and isinstance(value, list | dict)):
        return []
    if kind not in _STAMPED_KINDS and name not in shape.stamped:
        return _LEFT_OUT
    shown = field_value(kind, column_value(kind, value, Dialect.SQLITE))
    if isinstance(shown, bytes):
        return []
    if isinstance(shown, str) and len(shown) > MAX_STAMPED_LENGTH and name not in shape.stamped:
        return _LEFT_OUT
    return shown


def needs_new_stamps(state: RecordState, added: Collection[str]) -> bool:
    """Whether older operations of the record should know of fields that were `added` to the schema since."""
    return any(state.fields.get(name) is not None for name in added)


def snapshot(
    stamp: Mapping[str, Any] | None, carried: Mapping[str, Any]
) -> tuple[dict[str, Any], Collection[str] | None]:
    """The record that an operation is judged by, and the names of missing fields that are not null but unknown.

    `stamp` is the parsed stamp, `carried` what the operation has itself. Without a stamp nothing is known about any
    missing field: then the names are None.
    """
    if stamp is None:
        return dict(carried), None
    fields = {**stamp, **carried}
    return fields, fields.pop(UNKNOWN, ())
