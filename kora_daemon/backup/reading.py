"""Reading a line back into an operation whose raw texts are those of the line.

The typed decoder is the common case. What it refuses, or can't answer for, is read again by the standard library, which
takes all of JSON as JavaScript writes it; `model.structure` has the word then.
"""

from __future__ import annotations

import json

import msgspec
from msgspec import UNSET, UnsetType

from kora_daemon.backup.lines import MAX_LINE_BYTES
from kora_daemon.model.clock import InvalidTimestamp, timestamp_text
from kora_daemon.model.json_scan import MAX_NESTING, is_deeper, needs_closer_look, raw_members, read_value
from kora_daemon.model.operation import Operation
from kora_daemon.model.structure import atomic_ops_problem, operation_of, structure_problem

_OBJECT_OR_NULL = (b"{", b"n")
_decode = msgspec.json.Decoder(Operation).decode


def read_operation(line: bytes) -> Operation:
    """The operation of a line. Raises ValueError with a sentence for a line that is no well-formed one."""
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"the line is longer than {MAX_LINE_BYTES} bytes")
    text = line.decode()
    operation = _read_fast(line) or _read_closely(text)
    try:
        timestamp_text(operation.timestamp)
    except InvalidTimestamp as error:
        raise ValueError(f"the timestamp is malformed: {error}") from error
    return operation


def _read_fast(line: bytes) -> Operation | None:
    if needs_closer_look(line):
        return None
    try:
        operation = _decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    for text in (operation.data, operation.previous_data):
        if bytes(text)[:1] not in _OBJECT_OR_NULL:
            return None
    if not isinstance(operation.atomic_ops, UnsetType):
        atomic_ops = json.loads(bytes(operation.atomic_ops))
        if atomic_ops_problem(atomic_ops):
            return None
        if not atomic_ops:
            operation.atomic_ops = UNSET
    if operation.transaction_id is None:
        operation.transaction_id = UNSET
    if operation.mutation_name is None:
        operation.mutation_name = UNSET
    return operation


def _read_closely(text: str) -> Operation:
    try:
        value = read_value(text)
    except RecursionError:
        raise ValueError("the operation is nested too deeply") from None
    problem = structure_problem(value)
    if problem is not None:
        raise ValueError(f"the operation is malformed: {problem}")
    if is_deeper(value, MAX_NESTING + 1):
        raise ValueError(f"the operation is nested more than {MAX_NESTING} levels deep")
    return operation_of(value, raw_members(text))
