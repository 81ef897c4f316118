"""The keys under which operations stand in the scope index, so that a small scope is found in a large log.

A key is a number made of a collection, a field and a value. Two things may have the same: whatever is found by a key is
judged again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from kora_daemon.materialization.blobs import blob_keys
from kora_daemon.materialization.fold import read_data
from kora_daemon.materialization.json_text import read_json
from kora_daemon.materialization.shape import Shape
from kora_daemon.materialization.stamp import snapshot
from kora_daemon.model.jsvalue import is_number, number_text
from kora_daemon.model.operation import NULL, Operation

MAX_SELECTORS = 100
"""Above them it is as well to look through the log."""


class Selector(NamedTuple):
    """A part of the log: operations of a collection that stand under all of these keys; without keys all of them."""

    collection: str
    keys: tuple[int, ...] = ()


def scope_key(collection: str, field: str, value: Any) -> int | None:  # noqa: ANN401  any JSON value
    """The key of a value, an integer of 64 bits; None for what equals nothing."""
    if isinstance(value, list | dict):
        return None
    text = number_text(value) if is_number(value) else json.dumps(value)
    name = "\0".join((collection, field, text)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


def scope_keys(shape: Shape | None, operation: Operation, stamp: str | None) -> set[int]:
    """The keys of an operation with this stamp: by what it is judged by, what its record is, and what it refers to."""
    found: set[int] = blob_keys(operation)
    if shape is None or stamp is None or not shape.scoped:
        return found
    previous = _previous(shape.scoped, operation)
    carried, stamped = snapshot(operation.record_id, read_data(operation), previous, stamp)
    record = stamped or {}
    keys = {
        scope_key(operation.collection, field, value)
        for field in shape.scoped
        for value in (carried.get(field, record[field]), record[field])
    }
    return found | {key for key in keys if key is not None}


def _previous(fields: Iterable[str], operation: Operation) -> Any:  # noqa: ANN401  a JSON value
    """The previous data, where it may matter."""
    text = operation.previous_data
    if text == NULL:
        return None
    body = bytes(text)
    # A name may be written with escapes.
    if b"\\" not in body and not any(field.encode("utf-8", "surrogatepass") in body for field in fields):
        return None
    try:
        return read_json(text)
    except RecursionError:
        return None
