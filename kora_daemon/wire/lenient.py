"""The second reading of a text frame, for what the typed decoder refused (see `wire.json`).

It takes all of JSON as JavaScript writes it, half surrogate pairs included, finds out which operation of a batch is
malformed, and cuts the exact text of `data`, `previousData` and `atomicOps` out of the frame.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import UNSET

from kora_daemon.errors import ProtocolError
from kora_daemon.model.json_scan import (
    MAX_NESTING,
    Part,
    is_deeper,
    member_start,
    needs_closer_look,
    raw_members,
    read_value,
    scan_elements,
)
from kora_daemon.model.jsvalue import as_double, as_integer, has_lone_surrogate, is_number
from kora_daemon.model.operation import MAX_SAFE_INTEGER, Operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.structure import atomic_ops_problem, has_fractional_clock, operation_of, structure_problem
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown

ANY_NUMBER = 1 << 62
MAX_STATES = 1_000
"""Looked at one by one, of a message that has to be read twice. A client has one to tell."""
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


def read_leniently(frame: bytes, max_operations: int = ANY_NUMBER) -> say.Message | Malformed | Unknown:
    """Read a text frame; what is no message comes back as `Malformed` with a sentence that says why.

    A batch of more than `max_operations` is not looked into: this way of reading is slow.
    """
    try:
        text = frame.decode()
        message = read_value(text)
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
        message["states"] = raw_members(text, member_start(text, "states"))
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
    for part in scan_elements(text, member_start(text, "operations")):
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
    return _read_operation(text, Part(read_value(text), 0, len(text)))


def logged_operation(text: str) -> Operation:
    """Read the text of an operation of the log, which was judged when it came."""
    return operation_of(read_value(text), raw_members(text))


def _read_operation(text: str, part: Part) -> Operation | Rejection:
    value = part.value
    problem = structure_problem(value) or _nesting_problem(value)
    if problem is None:
        return operation_of(value, raw_members(text, part.start))
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


def _nesting_problem(operation: dict[str, Any]) -> str | None:
    for name in ("data", "previousData", "atomicOps"):
        if is_deeper(operation.get(name), MAX_NESTING):
            return f"{name} is nested more than {MAX_NESTING} levels deep"
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
