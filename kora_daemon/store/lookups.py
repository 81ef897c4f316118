"""What records are now, for readers beside the writes: states where they are kept, else folded from the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kora_daemon.materialization.columns import shown_fields
from kora_daemon.materialization.fold import RecordState, fold_sorted
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.store.shapes import ShapeCache

Fields = dict[str, Any]


def current_fields(
    keys: Iterable[RecordKey],
    shapes: ShapeCache,
    states: Callable[[list[RecordKey]], Iterable[tuple[RecordKey, RecordState]]],
    history: Callable[[RecordKey], Iterable[Operation]],
    *,
    deleted: bool,
) -> dict[RecordKey, Fields]:
    """The fields of these records, see `Store.current_fields`.

    `states` reads those that are saved, all in one go; `history` the operations of a record in clock order.
    """
    saved: list[RecordKey] = []
    found: dict[RecordKey, Fields] = {}

    def show(key: RecordKey, state: RecordState) -> None:
        if deleted or state.live:
            shape = shapes.shapes.get(key.collection)
            found[key] = shown_fields(None if shape is None else shape.kinds, key.record_id, state)

    for key in dict.fromkeys(keys):
        if key.collection in shapes.shapes and shapes.has_state(key):
            saved.append(key)
        elif operations := list(history(key)):
            show(key, fold_sorted(operations))
    if saved:
        for key, state in states(saved):
            show(key, state)
    return found
