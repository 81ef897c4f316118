"""References to blobs in records: what they look like, and the keys they are found by (store.md section 4)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kora_daemon.materialization.fold import read_data
from kora_daemon.model.operation import Operation

_SHA256 = re.compile("[0-9a-f]{64}")
_MARK = b'"hash"'


def blob_hashes(value: object) -> Iterator[str]:
    """The hashes that a field's value refers to: of the content, and of the manifest that lists its parts."""
    if isinstance(value, dict):
        for hexadecimal in (value.get("hash"), value.get("manifestHash")):
            if isinstance(hexadecimal, str) and _SHA256.fullmatch(hexadecimal):
                yield hexadecimal


def refers(fields: Mapping[str, Any], hashes: frozenset[str]) -> bool:
    """Whether a record with these fields refers to one of the hashes. A reference is a field's whole value."""
    return any(not hashes.isdisjoint(blob_hashes(value)) for value in fields.values())


def blob_key(hexadecimal: str) -> int:
    """The key of a hash in the scope index, an integer of 64 bits."""
    name = b"blob\0" + hexadecimal.encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


def blob_keys(operation: Operation) -> set[int]:
    """The keys of what an operation refers to."""
    # Reading costs more than all the rest of an operation's keys; spelt by clients, the name has no escapes.
    if _MARK not in bytes(operation.data):
        return set()
    data = read_data(operation)
    values = data.values() if isinstance(data, dict) else ()
    return {blob_key(one) for value in values for one in blob_hashes(value)}
