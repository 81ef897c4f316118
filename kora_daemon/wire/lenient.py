"""The second reading of a text frame, for what the typed decoder refused (see `wire.json`).

It takes all of JSON as JavaScript writes it, half surrogate pairs included, finds out which operation of a batch is
malformed, and cuts the exact text of `data`, `previousData` and `atomicOps` out of the frame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from kora_daemon.errors import ProtocolError
from kora_daemon.model.jsvalue import as_double, as_integer, has_lone_surrogate, is_number
from kora_daemon.model.operation import MAX_SAFE_INTEGER, Operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.structure import atomic_ops_problem, has_fractional_clock, operation_of, structure_problem
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown

ANY_NUMBER = 1 << 62


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_SPACE = re.compile(r"[ \t\n\r]*")
MAX_NESTING = 500
"""Of lists and objects in a member of an operation: what is in the log is read again where the stack is deeper."""
MAX_STATES = 1_000
"""Looked at one by one, of a message that has to be read twice. A client has one to tell."""
_LONG_NUMBER = b"0" * 4_300
"""Longer integers are refused by Python's parser; JavaScript writes 22 digits at most."""
_DIGITS_AS_ZEROS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_MESSAGES: dict[str, type[say.Message]] = {
    "handshake": say.Handshake,
    "acknowledgment": say.Acknowledgment,
    "error": say.ErrorMessage,
    "awareness-update": say.AwarenessUpdate,
    "yjs-doc-update": say.DocumentUpdate,
    "blob-chunk-request": say.BlobRequest,
    "blob-chunk-response": say.BlobResponse,
    "blob-chunk-push": say.BlobPush,
}


class _Part(NamedTuple):
    """A JSON value and where its text stands."""

    value: Any
    start: int
    end: int


def read_leniently(frame: bytes, max_operations: int = ANY_NUMBER) -> say.Message | Malformed | Unknown:
    """Read a text frame; what is no message comes back as `Malformed` with a sentence that says why.

    A batch of more than `max_operations` is not looked into: this way of reading is slow.
    """
    try:
        text = frame.decode()
        message = _DECODER.decode(text)
    except RecursionError:
        return _malformed("The message is nested too deeply")
    except ValueError as error:
        return _malformed(f"The message is no JSON: {error}"[:200])
    if not isinstance(message, dict) or not all(isinstance(message.get(name), str) for name in ("type", "messageId")):
        return _malformed('A message is an object with a text "type" and a text "messageId"')
    if has_lone_surrogate(message["messageId"]):
        return _malformed("A messageId has whole characters only")
    if message["type"] == "operation-batch":
        members = message.get("operations")
        if isinstance(members, list) and len(members) > max_operations:
            return too_large(max_operations)
        return _read_batch(text, len(frame), message)
    return _read_other(text, message)


def _read_other(text: str, message: dict[str, Any]) -> say.Message | Malformed | Unknown:
    kind = message["type"]
    if kind not in _MESSAGES:
        return Unknown(kind[:40])
    if kind == "awareness-update" and isinstance(message.get("states"), dict):
        if len(message["states"]) > MAX_STATES:
            return _malformed(f"An awareness-update has at most {MAX_STATES} states")
        message["states"] = _raw_members(text, _members(text, _space(text, 0))["states"].start)
    try:
        read: say.Message = msgspec.convert(message, _MESSAGES[kind])
        msgspec.json.encode(read)
    except msgspec.ValidationError as error:
        return _malformed(f"A {kind} message is malformed: {error}"[:200])
    except UnicodeEncodeError:
        return _malformed(f"A {kind} message has half a surrogate pair where it can't be kept")
    return read


def _malformed(text: str) -> Malformed:
    return Malformed(ProtocolError(text))


def too_large(max_operations: int) -> Malformed:
    """What a batch with more operations is answered with."""
    return Malformed(ProtocolError(f"A batch holds at most {max_operations} operations", code="BATCH_TOO_LARGE"))


def _read_batch(text: str, size_bytes: int, message: dict[str, Any]) -> say.Message | Malformed:
    members = message.get("operations")
    if not isinstance(members, list):
        return _malformed("An operation-batch has a list of operations")
    if not isinstance(message.get("isFinal"), bool) or not is_number(message.get("batchIndex")):
        return _malformed("An operation-batch has a true or false isFinal and a number batchIndex")
    operations: list[Operation] = []
    malformed: list[Rejection] = []
    start = _members(text, _space(text, 0))["operations"].start
    for part in _elements(text, start):
        read = _read_operation(text, part)
        if isinstance(read, Operation):
            operations.append(read)
        else:
            malformed.append(read)
    last = as_integer(members[-1].get("sequenceNumber")) if members and isinstance(members[-1], dict) else None
    if last is None or not 0 <= last <= MAX_SAFE_INTEGER:
        last = 0
    index = as_double(message["batchIndex"])
    return say.DamagedBatch(message["messageId"], operations, message["isFinal"], index, size_bytes, malformed, last)


def read_operation(text: str) -> Operation | Rejection:
    """Read the text of one operation by itself. Raises ValueError or RecursionError when it is no JSON."""
    return _read_operation(text, _Part(_DECODER.decode(text), 0, len(text)))


def logged_operation(text: str) -> Operation:
    """Read the text of an operation of the log, which was judged when it came."""
    return operation_of(_DECODER.decode(text), _raw_members(text, 0))


def _read_operation(text: str, part: _Part) -> Operation | Rejection:
    value = part.value
    problem = structure_problem(value) or _nesting_problem(value)
    if problem is None:
        return operation_of(value, _raw_members(text, part.start))
    if has_fractional_clock(value):
        return refuse(value, "INVALID_TIMESTAMP", problem)
    return refuse(value, "INVALID_OPERATION", f"The operation is malformed: {problem}")


def refuse(value: object, code: str, message: str) -> Rejection:
    """The refusal of what may be no operation, `value` as JSON has it, under the names that it has."""
    named = value if isinstance(value, dict) else {}
    operation_id, collection, record_id = (_printable(named.get(name)) for name in ("id", "collection", "recordId"))
    return Rejection(operation_id, collection, record_id, code, message)


def _printable(value: object) -> str:
    """The name a client would recognise, "" when there is none that can be sent back."""
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "replace").decode()


def needs_closer_look(text: bytes) -> bool:
    """Whether the text of a value may be hard to read: nested deeply, or with an enormous number. In linear time."""
    if len(text) <= MAX_NESTING:
        return False
    if text.count(b"{") + text.count(b"[") > MAX_NESTING:
        return True
    return len(text) > len(_LONG_NUMBER) and _LONG_NUMBER in text.translate(_DIGITS_AS_ZEROS)


def _nesting_problem(operation: dict[str, Any]) -> str | None:
    for name in ("data", "previousData", "atomicOps"):
        layer, depth = [operation.get(name)], 0
        while layer := [part for part in layer if isinstance(part, dict | list)]:
            depth += 1
            if depth > MAX_NESTING:
                return f"{name} is nested more than {MAX_NESTING} levels deep"
            layer = [child for part in layer for child in (part.values() if isinstance(part, dict) else part)]
    return None


def settle_atomic(operation: Operation) -> bool:
    """Check the `atomic_ops` text of an operation, and unset it when it holds nothing.

    False when it is malformed, or needs a closer look.
    """
    text = bytes(operation.atomic_ops)  # type: ignore[arg-type]
    if needs_closer_look(text):
        return False
    atomic_ops = json.loads(text)
    if not atomic_ops:
        operation.atomic_ops = UNSET
        return isinstance(atomic_ops, dict) or atomic_ops is None
    return atomic_ops_problem(atomic_ops) is None


def _space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _members(text: str, position: int) -> dict[str, _Part]:
    """The members of the object at `position` in `text`, which is known to be JSON. A repeated name: the last one."""
    parts: dict[str, _Part] = {}
    position = _space(text, position + 1)
    while text[position] != "}":
        name, position = _DECODER.raw_decode(text, position)
        start = _space(text, _space(text, position) + 1)
        value, end = _DECODER.raw_decode(text, start)
        parts[name] = _Part(value, start, end)
        position = _after_comma(text, end)
    return parts


def object_members(text: str) -> dict[str, Raw]:
    """The exact text of each member of a JSON object. Raises ValueError or RecursionError when it is none."""
    if not isinstance(_DECODER.decode(text), dict):
        raise ValueError("it is of another type")
    return _raw_members(text, _space(text, 0))


def _raw_members(text: str, position: int) -> dict[str, Raw]:
    """The exact text of each member of the object at `position`."""
    return {name: Raw(text[part.start : part.end].encode()) for name, part in _members(text, position).items()}


def _elements(text: str, position: int) -> Iterator[_Part]:
    """The elements of the list at `position` in `text`, which is known to be JSON."""
    position = _space(text, position + 1)
    while text[position] != "]":
        value, end = _DECODER.raw_decode(text, position)
        yield _Part(value, position, end)
        position = _after_comma(text, end)


def _after_comma(text: str, position: int) -> int:
    position = _space(text, position)
    return _space(text, position + 1) if text[position] == "," else position
