"""The protobuf frames of a stock client, written and read by hand as it does; nothing of the server's is used here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_TEXT, _NUMBER, _FLAG, _TEXTS = "text", "number", "flag", "texts"
_ENVELOPE: dict[str, tuple[int, str]] = {
    "type": (1, _TEXT),
    "messageId": (2, _TEXT),
    "nodeId": (3, _TEXT),
    "versionVector": (4, "vector"),
    "schemaVersion": (5, _NUMBER),
    "authToken": (6, _TEXT),
    "supportedWireFormats": (7, _TEXTS),
    "accepted": (8, _FLAG),
    "rejectReason": (9, _TEXT),
    "selectedWireFormat": (10, _TEXT),
    "operations": (11, "operations"),
    "isFinal": (12, _FLAG),
    "batchIndex": (13, _NUMBER),
    "acknowledgedMessageId": (14, _TEXT),
    "lastSequenceNumber": (15, _NUMBER),
    "code": (16, _TEXT),
    "message": (17, _TEXT),
    "retriable": (18, _FLAG),
    "serverTime": (19, _NUMBER),
    "requestId": (20, _TEXT),
    "hash": (21, _TEXT),
    "bytes": (22, _TEXT),
    "hasBytes": (23, _FLAG),
    "blobStorageEnabled": (25, _FLAG),
    "operationId": (26, _TEXT),
    "collection": (27, _TEXT),
    "recordId": (28, _TEXT),
    "lastDeliverySequence": (29, _NUMBER),
    "baseDeliverySequence": (30, _NUMBER),
    "maxDeliverySequence": (31, _NUMBER),
    "deliverySequence": (32, _NUMBER),
    "serverMaxDeliverySequence": (33, _NUMBER),
}
_OPERATION: dict[str, tuple[int, str]] = {
    "id": (1, _TEXT),
    "nodeId": (2, _TEXT),
    "type": (3, _TEXT),
    "collection": (4, _TEXT),
    "recordId": (5, _TEXT),
    "dataJson": (6, _TEXT),
    "previousDataJson": (7, _TEXT),
    "timestamp": (8, "timestamp"),
    "sequenceNumber": (9, _NUMBER),
    "causalDeps": (10, _TEXTS),
    "schemaVersion": (11, _NUMBER),
    "hasData": (12, _FLAG),
    "hasPreviousData": (13, _FLAG),
}
_TIMESTAMP: dict[str, tuple[int, str]] = {"wallTime": (1, _NUMBER), "logical": (2, _NUMBER), "nodeId": (3, "always")}
_RIDERS = {"atomicOps": "__kora_atomic_ops__", "transactionId": "__kora_tx_id__", "mutationName": "__kora_mutation__"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXT_ONLY = ("awareness-update", "yjs-doc-update")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "handshake": {"nodeId": "", "versionVector": {}, "schemaVersion": 0},
    "handshake-response": {"nodeId": "", "versionVector": {}, "schemaVersion": 0, "accepted": False},
    "operation-batch": {"operations": [], "isFinal": False, "batchIndex": 0},
    "acknowledgment": {"acknowledgedMessageId": "", "lastSequenceNumber": 0},
    "error": {"code": "UNKNOWN", "message": "Unknown error", "retriable": False},
    "operation-rejected": {"operationId": "", "collection": "", "recordId": "", "retriable": False},
    "blob-chunk-request": {"requestId": "", "hash": ""},
    "blob-chunk-response": {"requestId": ""},
    "blob-chunk-push": {"hash": "", "bytes": ""},
}


def to_binary(message: dict[str, Any]) -> bytes:
    """The frame of a message as a stock client writes it; what has no field is lost."""
    if message["type"] in _TEXT_ONLY:
        message = {name: message[name] for name in ("type", "messageId")}
    if message["type"] == "blob-chunk-response":
        message = message | {"hasBytes": message["bytes"] is not None}
    return _written(message, _ENVELOPE)


def from_binary(frame: bytes) -> dict[str, Any]:
    """The message in a frame. Raises ValueError where a stock client refuses it."""
    found = _read(frame, _ENVELOPE)
    kind = found.pop("type", "error")
    if kind not in _DEFAULTS:
        raise ValueError(f"unknown type {kind}")
    if kind == "blob-chunk-response":
        found["bytes"] = found.get("bytes", "") if found.pop("hasBytes", False) else None
    if "supportedWireFormats" in found:
        found["supportedWireFormats"] = [f for f in found["supportedWireFormats"] if f in ("json", "protobuf")]
    return {"type": kind, "messageId": "", **_DEFAULTS[kind], **found}


def packed_operation(operation: dict[str, Any]) -> bytes:
    """An operation as it stands in a batch."""
    return _written(_with_texts(operation), _OPERATION)


def varint(number: int) -> bytes:
    """A number as protobuf has it; negative ones in 64 bits."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def chunk(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def _written(message: dict[str, Any], fields: dict[str, tuple[int, str]]) -> bytes:
    present = ((name, message[name]) for name in fields if message.get(name) is not None)
    return b"".join(part for name, value in present for part in _parts(*fields[name], value))


def _parts(number: int, kind: str, value: Any) -> Iterator[bytes]:  # noqa: ANN401  as JSON has it
    if kind in (_NUMBER, _FLAG):
        yield varint(number << 3) + varint(int(value))
    elif kind == "vector":
        for key, sequence in value.items():
            yield chunk(number, chunk(1, key.encode()) + varint(2 << 3) + varint(sequence))
    elif kind == "operations":
        for operation in value:
            yield chunk(number, packed_operation(operation))
    elif kind == "timestamp":
        yield chunk(number, _written(value, _TIMESTAMP))
    elif kind == _TEXTS:
        for text in value:
            yield chunk(number, text.encode())
    elif value or kind == "always":
        yield chunk(number, value.encode())


def _with_texts(operation: dict[str, Any]) -> dict[str, Any]:
    data, previous = operation["data"], operation["previousData"]
    inside = dict(data or {})
    for name, rider in _RIDERS.items():
        value = operation.get(name)
        if value is not None and not (name == "atomicOps" and (data is None or not value)):
            inside[rider] = value
    return operation | {
        "dataJson": "" if data is None and not inside else json_text(inside),
        "previousDataJson": "" if previous is None else json_text(previous),
        "hasData": data is not None,
        "hasPreviousData": previous is not None,
    }


def json_text(value: object) -> str:
    """JSON as JavaScript prints it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _read(content: bytes, fields: dict[str, tuple[int, str]]) -> dict[str, Any]:
    named = {number: (name, kind) for name, (number, kind) in fields.items()}
    found: dict[str, Any] = {}
    for number, value in _fields_of(content):
        if number not in named:
            continue
        name, kind = named[number]
        if kind == _FLAG:
            found[name] = bool(value)
        elif kind == _NUMBER:
            found[name] = value - (1 << 64) if value >> 63 else value
        elif kind == _TEXTS:
            found.setdefault(name, []).append(value.decode())
        elif kind == "operations":
            found.setdefault(name, []).append(_without_texts(_read(value, _OPERATION)))
        elif kind == "vector":
            entry = _read(value, {"key": (1, _TEXT), "value": (2, _NUMBER)})
            found.setdefault(name, {})[entry["key"]] = entry["value"]
        else:
            found[name] = _read(value, _TIMESTAMP) if kind == "timestamp" else value.decode()
    return found


def _fields_of(content: bytes) -> Iterator[tuple[int, Any]]:
    position = 0
    while position < len(content):
        tag, position = _varint_at(content, position)
        value: Any
        if tag & 7 == 0:
            value, position = _varint_at(content, position)
        else:
            size = {1: 8, 5: 4}.get(tag & 7)
            if size is None:
                size, position = _varint_at(content, position)
            value, position = content[position : position + size], position + size
        if position > len(content):
            raise ValueError("it ends inside a field")
        yield tag >> 3, value


def _varint_at(content: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if position >= len(content):
            raise ValueError("it ends inside a number")
        byte = content[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position


def _without_texts(found: dict[str, Any]) -> dict[str, Any]:
    text, previous = found.pop("dataJson", ""), found.pop("previousDataJson", "")
    has_data, has_previous = found.pop("hasData", False), found.pop("hasPreviousData", False)
    inside = json.loads(text) if has_data or text else {}
    riders = {name: inside.pop(rider) for name, rider in _RIDERS.items() if rider in inside}
    plain = {"id": "", "nodeId": "", "type": "insert", "collection": "", "recordId": ""} | found
    return {
        **plain,
        "data": inside if has_data and inside else None,
        "previousData": json.loads(previous) if has_previous else None,
        "timestamp": {"wallTime": 0, "logical": 0, "nodeId": ""} | found.get("timestamp", {}),
        "sequenceNumber": found.get("sequenceNumber", 0),
        "causalDeps": found.get("causalDeps", []),
        "schemaVersion": found.get("schemaVersion", 0),
        **riders,
    }
