"""The fold: the state of a record as a function of its operations (store.md section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct, UnsetType

from kora_daemon.materialization.atomic import Intent, compose, read_intents
from kora_daemon.materialization.json_text import read_json, write_json
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.operation import Operation

OrderKey = tuple[int, int, str]
"""Place in the total order: wall time in ms, logical, node id of the timestamp."""


class RecordState(Struct, frozen=True, gc=False, array_like=True):
    """What the operations of a record so far mean for those to come. Never changed, not even inside.

    `created_at_ms` is the wall time of the earliest operation, `last` the place of the latest, whatever they did.
    `fields` survive a delete, fields outside the schema are among them; values are as `read_json` gives them.
    `atomic_writers` holds field -> type where the last write in clock order was an atomic intent, also for a field that
    an insert has removed since. All other fields were last written plainly, or never.
    """

    created_at_ms: int
    last: OrderKey
    live: bool
    fields: dict[str, Any]
    atomic_writers: dict[str, str]

    @property
    def updated_at_ms(self) -> int:
        """Wall time of the latest operation, whatever it did."""
        return self.last[0]


_UNREAD: Any = object()
_parse_fast = msgspec.json.Decoder(RecordState).decode


def fold(operations: Iterable[Operation]) -> RecordState:
    """The state of the record with these operations: all of them, in delivery order, which decides between equals.

    Raises ValueError when there is none, and for a text in them that is no JSON.
    """
    return fold_sorted(sorted(operations, key=clock_order))


def fold_sorted(operations: Iterable[Operation]) -> RecordState:
    """`fold` for operations that come in clock order, equal ones in delivery order. Holds one at a time."""
    state: RecordState | None = None
    for operation in operations:
        state = advance(state, operation)
    if state is None:
        raise ValueError("found no operation, expected all operations of a record")
    return state


def advance(state: RecordState | None, operation: Operation, data: JsonValue = _UNREAD) -> RecordState | None:
    """The state after one more operation of the record; a `state` of None is that of a record without any.

    None for an operation older than the latest: then the state is what `fold` makes of all. Data that is no object
    counts as none, so does data nested too deeply to be read; who has read it already hands it in. Raises ValueError
    for a text that is no JSON.
    """
    place = operation.timestamp.order_key
    if state is None:
        state = RecordState(place[0], place, False, {}, {})
    elif place < state.last:
        return None
    live, fields, writers = state.live, state.fields, state.atomic_writers
    if operation.type == "delete":
        live = False
    elif operation.type in ("insert", "update"):
        data = read_data(operation) if data is _UNREAD else data
        if isinstance(data, dict):
            live = True
            intents = {} if operation.type == "insert" else _intents(operation)
            fields = data if operation.type == "insert" else _updated(state, data, intents)
            writers = _writers_after(writers, data, intents)
    return RecordState(state.created_at_ms, place, live, fields, writers)


def state_text(state: RecordState) -> str:
    """The state as compact JSON, to be kept beside the record."""
    return write_json(list(msgspec.structs.astuple(state)))


def parse_state(text: str | bytes) -> RecordState:
    """Inverse of `state_text`. Raises ValueError or msgspec.ValidationError for a text that is no state."""
    try:
        return _parse_fast(text)
    except msgspec.DecodeError:
        # Halves of surrogate pairs, or damage: the lenient reader tells.
        return msgspec.convert(read_json(text), RecordState)


def clock_order(operation: Operation) -> OrderKey:
    """Sort key: the place of an operation in the total order."""
    return operation.timestamp.order_key


def read_data(operation: Operation) -> JsonValue:
    """An operation's data, None where there is none or it can't be read. Raises ValueError for what is no JSON."""
    return _readable(operation.data)


def _updated(state: RecordState, data: dict[str, Any], intents: Mapping[str, Intent]) -> dict[str, Any]:
    """The fields after an update: a chain of one atomic type composes, everything else takes the author's result."""
    fields = {**state.fields, **data}
    for field, intent in intents.items():
        if field in data and state.atomic_writers.get(field) == intent.type:
            fields[field] = compose(intent, state.fields.get(field))
    return fields


def _writers_after(writers: dict[str, str], data: Mapping[str, Any], intents: Mapping[str, Intent]) -> dict[str, str]:
    if not writers and not intents:
        return writers
    kept = {field: kind for field, kind in writers.items() if field not in data}
    return kept | {field: intent.type for field, intent in intents.items() if field in data}


def _intents(operation: Operation) -> dict[str, Intent]:
    return {} if isinstance(operation.atomic_ops, UnsetType) else read_intents(_readable(operation.atomic_ops))


def _readable(text: Raw) -> JsonValue:
    try:
        return read_json(text)
    except RecursionError:
        # Only in a log from elsewhere: uploads are refused long before.
        return None
