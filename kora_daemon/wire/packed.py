"""Operations in their protobuf form (wire.md section 8).

Inside they are JSON: data travel as text, and what has no field of its own (atomic intents, transaction, mutation name)
rides in that text as members with reserved names. So every rule for operations is that of `wire.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf
from msgspec import UNSET, Raw

from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.json_scan import object_members
from kora_daemon.model.operation import MAX_SAFE_INTEGER, Operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.wire.envelope import PackedOperation
from kora_daemon.wire.json import settle
from kora_daemon.wire.lenient import logged_operation, read_operation, refuse

_RIDERS = {"__kora_atomic_ops__": "atomicOps", "__kora_tx_id__": "transactionId", "__kora_mutation__": "mutationName"}
"""Reserved member of the data -> the operation's own member that it stands for."""
_TEXTS = ("transactionId", "mutationName")
_NULL = b"null"
_INT32, _INT64, _UINT32 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1), (0, 2**32 - 1)

_encode_json = msgspec.json.encode
_decode_json = msgspec.json.decode
_quoted = json.JSONEncoder().encode
"""In ASCII, which has a way to write halves of surrogate pairs."""
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_body = msgspec.json.Decoder(Operation).decode

_ReadMembers = Callable[[str], dict[str, Raw]]


def unpack(packed_bytes: bytes) -> Operation | Rejection:
    """Read one operation of an upload. Never raises: what is none comes back as the refusal of it."""
    try:
        packed = PackedOperation.FromString(packed_bytes)
    except DecodeError:
        return _refuse({}, "it is no protobuf message")
    members = _own_members(packed)
    try:
        content: dict[str, Any] = _content(packed, _decode_members)
        content |= {name: _decode_json(content[name]) for name in _TEXTS if name in content}
        operation = msgspec.convert(members | content, Operation)
    except (msgspec.DecodeError, RecursionError):
        return _unpack_closely(packed, members)
    return operation if settle(operation) else _unpack_closely(packed, members)


def _unpack_closely(packed: Protobuf, members: dict[str, Any]) -> Operation | Rejection:
    """The second reading, for what the typed decoder refused, see `wire.lenient`."""
    try:
        content = _content(packed, object_members)
        return read_operation(_encode_json(members | content).decode())
    except RecursionError:
        return _refuse(members, "its data are nested too deeply")
    except ValueError as error:
        return _refuse(members, f"its data are no JSON object: {error}"[:200])


def _refuse(members: Mapping[str, Any], problem: str) -> Rejection:
    return refuse(members, "INVALID_OPERATION", f"The operation is malformed: {problem}")


def sequence_number_of(packed_bytes: bytes) -> int:
    """The sequence number of what may be no operation, 0 when it has none that could be acknowledged."""
    try:
        number: int = PackedOperation.FromString(packed_bytes).sequence_number
    except DecodeError:
        return 0
    return number if 0 <= number <= MAX_SAFE_INTEGER else 0


def _own_members(packed: Protobuf) -> dict[str, Any]:
    timestamp = packed.timestamp
    return {
        "id": packed.id,
        "nodeId": packed.node_id,
        "type": packed.type or "insert",
        "collection": packed.collection,
        "recordId": packed.record_id,
        "timestamp": {"wallTime": timestamp.wall_time, "logical": timestamp.logical, "nodeId": timestamp.node_id},
        "sequenceNumber": packed.sequence_number,
        "causalDeps": packed.causal_deps[:],
        "schemaVersion": packed.schema_version,
    }


def _content(packed: Protobuf, read_members: _ReadMembers) -> dict[str, Raw]:
    """The members of an operation that are JSON texts, as far as it has them."""
    content: dict[str, Raw] = {}
    text, has_data = packed.data_json, packed.has_data
    if text or has_data:
        members = read_members(text)
        if not _RIDERS.keys().isdisjoint(members):
            content = {own: members.pop(name) for name, own in _RIDERS.items() if name in members}
            text = _object_text(members)
        # Clients take data without a member for none at all.
        if has_data and members:
            content["data"] = Raw(text.strip())
    if packed.has_previous_data:
        text = packed.previous_data_json
        read_members(text)
        content["previousData"] = Raw(text.strip())
    return content


def _object_text(members: Mapping[str, Raw]) -> str:
    return "{" + ",".join([f"{_quoted(name)}:{bytes(text).decode()}" for name, text in members.items()]) + "}"


def pack_entry(entry: DeliveryEntry) -> bytes:
    """The operation as it stands in a batch; packed when the first session needs it."""
    if entry.packed is None:
        entry.packed = _pack(_operation_of(entry.body))
    return entry.packed


def _operation_of(body: bytes) -> Operation:
    try:
        return _decode_body(body)
    except msgspec.DecodeError:
        # Halves of surrogate pairs, or what was in the log before there were limits.
        return logged_operation(body.decode())


def _pack(operation: Operation) -> bytes:
    data, previous_data = bytes(operation.data), bytes(operation.previous_data)
    has_data, has_previous_data = data != _NULL, previous_data != _NULL
    timestamp = operation.timestamp
    packed = PackedOperation(
        id=operation.id,
        node_id=operation.node_id,
        type=operation.type,
        collection=operation.collection,
        record_id=operation.record_id,
        data_json=_with_riders(data if has_data else b"", operation),
        previous_data_json=previous_data if has_previous_data else b"",
        timestamp={
            "wall_time": _fit(timestamp.wall_time, _INT64),
            "logical": _fit(timestamp.logical, _UINT32),
            "node_id": timestamp.node_id,
        },
        sequence_number=operation.sequence_number,
        causal_deps=operation.causal_deps,
        schema_version=_fit(operation.schema_version, _INT32),
        has_data=has_data,
        has_previous_data=has_previous_data,
    )
    text: bytes = packed.SerializeToString()
    return text


def _fit(number: int, bounds: tuple[int, int]) -> int:
    """The nearest number that has a place: what one client wrote in JSON must not keep others from hearing of it."""
    low, high = bounds
    return max(low, min(number, high))


def _with_riders(data: bytes, operation: Operation) -> bytes:
    """The text of the data with what rides in it; without data, atomic intents have nothing to be about."""
    riders = [operation.atomic_ops if data else UNSET, operation.transaction_id, operation.mutation_name]
    if all(rider is UNSET for rider in riders):
        return data
    inside = [] if not data[1:-1].strip() else [data[1:-1]]
    for name, rider in zip(_RIDERS, riders, strict=True):
        if rider is not UNSET:
            inside.append(b'"%s":%s' % (name.encode(), _encode_json(rider)))
    return b"{" + b",".join(inside) + b"}"
