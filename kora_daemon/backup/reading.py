"""Reading a line back into an operation whose raw texts are those of the line.

The typed decoder is the common case. What it refuses, or can't answer for, is read again by the standard library, which
takes all of JSON as JavaScript writes it; `model.structure` has the word then.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from kora_daemon.backup.lines import MAX_LINE_BYTES
from kora_daemon.model.clock import InvalidTimestamp, timestamp_text
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.operation import Operation
from kora_daemon.model.structure import atomic_ops_problem, operation_of, structure_problem


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_VALUES = json.JSONDecoder(parse_constant=_no_constant)
MAX_NESTING = 500
"""Of lists and objects, as on the wire: what is in the log is read again where the stack is deeper."""
_LONG_NUMBER = b"0" * 4_300
"""Longer integers are refused by Python's parser; JavaScript writes 22 digits at most."""
_DIGITS_AS_ZEROS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_SPACE = re.compile(r"[ \t\n\r]*+")
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
    if _needs_closer_look(line):
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


def _needs_closer_look(line: bytes) -> bool:
    """Whether the line may be hard to read: nested deeply, or with an enormous number. In linear time."""
    if line.count(b"{") + line.count(b"[") > MAX_NESTING:
        return True
    return len(line) > len(_LONG_NUMBER) and _LONG_NUMBER in line.translate(_DIGITS_AS_ZEROS)


def _read_closely(text: str) -> Operation:
    try:
        value = _VALUES.decode(text)
    except RecursionError:
        raise ValueError("the operation is nested too deeply") from None
    problem = structure_problem(value)
    if problem is not None:
        raise ValueError(f"the operation is malformed: {problem}")
    if _depth_exceeds(value, MAX_NESTING + 1):
        raise ValueError(f"the operation is nested more than {MAX_NESTING} levels deep")
    return operation_of(value, _raw_members(text))


def _depth_exceeds(value: JsonValue, levels: int) -> bool:
    layer: list[Any] = [value]
    for _ in range(levels + 1):
        layer = [part for part in layer if isinstance(part, dict | list)]
        if not layer:
            return False
        layer = [child for part in layer for child in (part.values() if isinstance(part, dict) else part)]
    return True


def _raw_members(text: str) -> dict[str, Raw]:
    """The exact text of each member of the object in `text`, which is known to be JSON. A repeated name: the last."""
    members: dict[str, Raw] = {}
    position = _after_space(text, _after_space(text, 0) + 1)
    while text[position] != "}":
        name, name_end = _VALUES.raw_decode(text, position)
        start = _after_space(text, _after_space(text, name_end) + 1)
        _, end = _VALUES.raw_decode(text, start)
        members[name] = Raw(text[start:end].encode())
        position = _after_space(text, end)
        if text[position] == ",":
            position = _after_space(text, position + 1)
    return members


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position
