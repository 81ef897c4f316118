"""Operations, log entries and uploads for tests; each builder gives something valid and takes what should differ."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw, Struct

from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.operation import NULL, Operation, Timestamp
from kora_daemon.protocol.messages import OperationBatch

NOON_MS = 1_700_000_000_000
"""The wall time of operations, unless a test says otherwise."""


def wire_operation(number: int = 1, /, **changes: Any) -> dict[str, Any]:
    """The JSON value of an operation as a client writes it."""
    return {
        "id": f"op-{number}",
        "nodeId": "node-a",
        "type": "insert",
        "collection": "todos",
        "recordId": f"rec-{number}",
        "data": {"title": "x"},
        "previousData": None,
        "timestamp": {"wallTime": NOON_MS, "logical": 0, "nodeId": "node-a"},
        "sequenceNumber": number,
        "causalDeps": [],
        "schemaVersion": 1,
    } | changes


def operation(number: int = 1, *, wall_time: int = NOON_MS, data: object = None, **changes: Any) -> Operation:
    """An insert of one field. `data` is any JSON value."""
    named: dict[str, Any] = {
        "id": f"op-{number}",
        "node_id": "node-a",
        "type": "insert",
        "collection": "todos",
        "record_id": f"rec-{number}",
        "timestamp": Timestamp(wall_time, 0, "node-a"),
        "sequence_number": number,
        "causal_deps": [],
        "schema_version": 1,
        "data": Raw(json.dumps({"title": "x"} if data is None else data).encode()),
        "previous_data": NULL,
    }
    return Operation(**(named | changes))


def upload(*operations: Operation, message_id: str = "up-1", size_bytes: int = 1_000) -> OperationBatch:
    """An uploaded batch as the codec would hand it in."""
    return OperationBatch(message_id, list(operations), True, 0, size_bytes)


def entry(sequence: int, node_id: str = "node-b", origin: int = 0, body: bytes = b"{}") -> DeliveryEntry:
    """A log entry ready to be sent; its operation's id is "op-<sequence>"."""
    return DeliveryEntry(sequence, f"op-{sequence}", node_id, "todos", body, origin)


def described(value: Any) -> Any:
    """All that a message or an operation says, to be compared: raw members as their text, its size left out."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, list):
        return [described(one) for one in value]
    if isinstance(value, dict):
        return {name: described(one) for name, one in value.items()}
    if not isinstance(value, Struct):
        return value
    names = (name for name in value.__struct_fields__ if name != "size_bytes")
    return {name: described(getattr(value, name)) for name in names}


def frame_text(kind: str, **members: Any) -> bytes:
    """The text frame of a message with these members, `messageId` "m-1" unless given."""
    return json.dumps({"type": kind, "messageId": "m-1"} | members).encode()


def batch_text(*operations: Any, **members: Any) -> bytes:
    """The text frame of an upload."""
    return frame_text("operation-batch", operations=list(operations), isFinal=True, batchIndex=0, **members)
