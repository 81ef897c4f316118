"""Names that are computed: content ids of operations and UUIDv7 (store.md sections 1.1 and 1.3)."""

from __future__ import annotations

import json
import re
from hashlib import sha256

from msgspec import Raw, UnsetType

from kora_daemon.model.clock import timestamp_text
from kora_daemon.model.jsvalue import JsonValue, canonical_json
from kora_daemon.model.operation import Operation

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def operation_id(operation: Operation) -> str:
    """The content id of an operation: 64 lower-case hex digits. Its present `id` does not count.

    Clients that encrypt hash the plaintext, so an id that differs is no reason to refuse an operation. Raises
    `InvalidTimestamp` when the timestamp has no text form and ValueError when a part is no JSON.
    """
    return sha256(content_text(operation).encode()).hexdigest()


def content_text(operation: Operation) -> str:
    """The canonical text that is hashed."""
    content: dict[str, JsonValue] = {
        "type": operation.type,
        "collection": operation.collection,
        "recordId": operation.record_id,
        "data": _decoded(operation.data),
        "timestamp": timestamp_text(operation.timestamp),
        "nodeId": operation.node_id,
    }
    atomic_ops = _decoded(operation.atomic_ops)
    if atomic_ops:
        content["atomicOps"] = atomic_ops
    return canonical_json(content)


def _decoded(text: Raw | UnsetType) -> JsonValue:
    value: JsonValue = None if isinstance(text, UnsetType) else json.loads(bytes(text))
    return value


def uuid7(ms: float, random_bytes: bytes) -> str:
    """A UUIDv7 of the time `ms` (since the epoch, rounded down, at least 0) and 16 random bytes, lower case.

    The last ten of the random bytes are used. Raises ValueError unless there are 16.
    """
    if len(random_bytes) != 16:
        raise ValueError(f"found {len(random_bytes)} random bytes, expected 16")
    octets = bytearray(random_bytes)
    octets[:6] = (max(0, int(ms)) % 2**48).to_bytes(6, "big")
    octets[6] = 0x70 | octets[6] & 0x0F
    octets[8] = 0x80 | octets[8] & 0x3F
    digits = octets.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def is_uuid7(text: str) -> bool:
    """Whether the text is a UUIDv7, in either case."""
    return _UUID7.fullmatch(text) is not None


def uuid7_time_ms(text: str) -> int:
    """The time in a UUIDv7, ms since the epoch. Raises ValueError for a text that is none."""
    if not is_uuid7(text):
        raise ValueError(f"found {text!r}, expected a UUIDv7")
    return int(text[:8] + text[9:13], 16)
