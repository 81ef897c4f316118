"""The keys under which operations stand in the scope index, so that a small scope is found in a large log.

A key is a number made of a collection, a field and a value. Two things may have the same: whatever is found by a key is
judged again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from kora_daemon.materialization.blobs import blob_keys
from kora_daemon.materialization.fold import read_data
from kora_daemon.materialization.json_text import read_json
from kora_daemon.materialization.shape import Shape
from kora_daemon.materialization.stamp import EMPTY_STAMP, MAX_STAMPED_LENGTH
from kora_daemon.model.delivery import LogEntry
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
    if isinstance(value, str) and len(value) > MAX_STAMPED_LENGTH:
        return _hashed(collection, field, value)
    return _often_hashed(collection, field, value)


def _hashed(collection: str, field: str, value: str | float | None) -> int:
    text = number_text(value) if is_number(value) else json.dumps(value)
    name = "\0".join((collection, field, text)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


# By types, since True is not 1. What scopes are about are few values that come again and again.
_often_hashed = lru_cache(maxsize=4096, typed=True)(_hashed)


def scope_keys(shape: Shape | None, operation: Operation, stamp: str | None) -> set[int]:
    """The keys of an operation with this stamp: by what it is judged by, what its record is, and what it refers to."""
    blobs = blob_keys(operation)
    if shape is None or stamp is None or not shape.scoped:
        return blobs
    found: set[int | None] = {*blobs}
    said, was = _members(read_data(operation)), _members(_previous(shape.scoped, operation))
    told = {} if stamp == EMPTY_STAMP else _members(read_json(stamp))
    for field in shape.scoped:
        # As `stamp.snapshot` has it, for these fields alone: every write passes here.
        record = told[field] if field in told else said.get(field)
        carried = said[field] if field in said else was.get(field, record)
        found.add(scope_key(operation.collection, field, record))
        found.add(scope_key(operation.collection, field, carried))
    return {key for key in found if key is not None}


def index_rows(shapes: Mapping[str, Shape], entries: Iterable[LogEntry]) -> list[tuple[int, int]]:
    """The rows of the scope index for these entries: keys and delivery sequences."""
    return [
        (key, one.sequence)
        for one in entries
        for key in scope_keys(shapes.get(one.operation.collection), one.operation, one.stamp)
    ]


def _members(value: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON value
    return value if isinstance(value, dict) else {}


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
