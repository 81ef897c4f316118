"""Bytes inside operations: the forms of a richtext value, and references to blobs (store.md sections 1 and 2)."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TypeGuard

from kora_daemon.errors import KoraError
from kora_daemon.model.jsvalue import as_integer

BYTES_TAG = "$koraBytes"
WIRE_BYTES_TAG = "__kora_bytes__"
"""The same on the wire, as clients write top-level values (wire.md section 2)."""

_BASE64 = re.compile("[A-Za-z0-9+/]*")
_SHA256_HEX = re.compile("[0-9a-f]{64}")


class MalformedBytes(KoraError):
    """A richtext value that is neither text nor one of the forms of bytes."""


def decode_bytes(value: object) -> str | bytes:
    """The text or bytes that a richtext value stands for. Raises `MalformedBytes`.

    Forms of bytes: the tagged object or the wire's, the old index object `{"0": 1, "1": 255}`, a list of bytes, bytes
    themselves.
    """
    if isinstance(value, str | bytes):
        return value
    if is_tagged_bytes(value):
        return _decode_base64(next(iter(value.values())))
    octets = _indexed_bytes(value)
    if octets is not None:
        return octets
    raise MalformedBytes(f"found {type(value).__name__}, expected text or a form of bytes")


def is_tagged_bytes(value: object) -> TypeGuard[dict[str, str]]:
    """Whether a value is `{"$koraBytes": text}`, or the wire's form of it, with this one key.

    The text may still be no base64.
    """
    if not isinstance(value, dict) or len(value) != 1:
        return False
    return isinstance(value.get(BYTES_TAG, value.get(WIRE_BYTES_TAG)), str)


def is_index_bytes(value: object) -> bool:
    """Whether a value, object or list, holds bytes under the keys 0, 1, 2 … without a gap, and at least one."""
    return _indexed_bytes(value) is not None


def is_blob_reference(value: object) -> bool:
    """Whether a value has the shape of a reference to a blob; further keys are fine."""
    if not isinstance(value, dict):
        return False
    size_bytes = as_integer(value.get("size"))
    return (
        _is_sha256_hex(value.get("hash"))
        and size_bytes is not None
        and size_bytes >= 0
        and all(isinstance(value.get(key, ""), str) for key in ("mimeType", "filename"))
        and ("manifestHash" not in value or _is_sha256_hex(value["manifestHash"]))
    )


def _indexed_bytes(value: object) -> bytes | None:
    if isinstance(value, dict):
        found = [value.get(str(index)) for index in range(len(value))]
    elif isinstance(value, list):
        found = value
    else:
        return None
    octets = [octet for octet in map(as_integer, found) if octet is not None and 0 <= octet <= 255]
    return bytes(octets) if octets and len(octets) == len(found) else None


def _decode_base64(text: str) -> bytes:
    digits = text.rstrip("=")
    if not _BASE64.fullmatch(digits):
        raise MalformedBytes(f"found a character that is no base64 in {text[:40]!r}")
    # A single digit left over is less than a byte; clients drop it, and the padding.
    whole = digits[:-1] if len(digits) % 4 == 1 else digits
    return b64decode(whole + "=" * (-len(whole) % 4))


def _is_sha256_hex(value: object) -> bool:
    return isinstance(value, str) and _SHA256_HEX.fullmatch(value) is not None
