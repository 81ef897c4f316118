"""References to blobs, in records and in manifests, and the keys they are found by (store.md section 4)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from kora_daemon.materialization.fold import read_data
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey

MAX_MANIFEST_BYTES = 4 << 20
MAX_PARTS = 50_000
"""In one manifest. Stock clients cut blobs into parts of 256 KiB."""
_SHA256 = re.compile("[0-9a-f]{64}")
_MARK = b'"hash"'


class Mention(NamedTuple):
    """An operation of this record, by this node, refers to a blob."""

    key: RecordKey
    node_id: str


class _Manifest(Struct):
    parts: list[str] = msgspec.field(name="chunkHashes")


_read_manifest = msgspec.json.Decoder(_Manifest).decode


def is_blob_hash(text: str) -> bool:
    """Whether a text is a SHA-256 in lower case."""
    return _SHA256.fullmatch(text) is not None


def listed_parts(content: bytes) -> list[str]:
    """The hashes of the parts that a manifest lists; nothing when it is none, or too large."""
    if content[:1] != b"{" or len(content) > MAX_MANIFEST_BYTES:
        return []
    try:
        parts = _read_manifest(content).parts
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return [part for part in dict.fromkeys(parts) if is_blob_hash(part)] if len(parts) <= MAX_PARTS else []


def blob_hashes(value: object) -> Iterator[str]:
    """The hashes that a field's value refers to: of the content, and of the manifest that lists its parts."""
    if isinstance(value, dict):
        for hexadecimal in (value.get("hash"), value.get("manifestHash")):
            if isinstance(hexadecimal, str) and is_blob_hash(hexadecimal):
                yield hexadecimal


def refers(fields: Mapping[str, Any], hashes: frozenset[str]) -> bool:
    """Whether a record with these fields refers to one of the hashes. A reference is a field's whole value."""
    return any(not hashes.isdisjoint(blob_hashes(value)) for value in fields.values())


def blob_key(hexadecimal: str) -> int:
    """The key of a hash in the scope index, an integer of 64 bits."""
    name = b"blob\0" + hexadecimal.encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


def referred(operation: Operation) -> set[str]:
    """The hashes that an operation refers to."""
    # Reading costs more than all the rest of an operation's keys; spelt by clients, the name has no escapes.
    if _MARK not in bytes(operation.data):
        return set()
    data = read_data(operation)
    values = data.values() if isinstance(data, dict) else ()
    return {one for value in values for one in blob_hashes(value)}


def blob_keys(operation: Operation) -> set[int]:
    """The keys of what an operation refers to."""
    return set(map(blob_key, referred(operation)))
