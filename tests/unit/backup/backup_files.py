"""Backup files for tests: whole ones, and ones put together from any parts."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from kora_daemon.backup import Backup, export_backup, verify_backup
from kora_daemon.model.operation import Operation
from tests.support.operations import NOON_MS, wire_operation

Sections = list[tuple[str, bytes]]


class Log:
    """A source that holds its operations."""

    def __init__(self, operations: Sequence[Operation], vector: Mapping[str, int] | None = None) -> None:
        self._operations = operations
        self._vector = vector

    def version_vector(self) -> Mapping[str, int]:
        if self._vector is not None:
            return self._vector
        return {operation.node_id: operation.sequence_number for operation in self._operations}

    def operations(self) -> Iterator[Operation]:
        return iter(self._operations)


def exported(*operations: Operation, vector: Mapping[str, int] | None = None, node_id: str = "server-1") -> bytes:
    """The whole backup of a log."""
    return b"".join(export_backup(Log(operations, vector), node_id, NOON_MS))


def verified(file: bytes) -> Backup:
    return verify_backup(io.BytesIO(file))


def section(name: str | bytes, content: bytes) -> bytes:
    name_bytes = name.encode() if isinstance(name, str) else name
    return struct.pack("<II", len(name_bytes), len(content)) + name_bytes + content


def sections_of(file: bytes) -> Sections:
    """The sections of a file that is known to be whole."""
    found: Sections = []
    position = 0
    while position < len(file):
        name_bytes, size = struct.unpack_from("<II", file, position)
        start = position + 8 + name_bytes
        found.append((file[position + 8 : start].decode(), file[start : start + size]))
        position = start + size
    return found


def joined(sections: Sections) -> bytes:
    return b"".join(section(name, content) for name, content in sections)


def sealed(lines: bytes, *, vector: bytes = b"{}", more: Sequence[tuple[str, bytes]] = (), **manifest: Any) -> bytes:
    """A file whose checksum and count are right, whatever it holds; members of the manifest may be overwritten."""
    content = [("version_vector", vector), *more, ("operations", lines)]
    checksum = sha256(joined(content)).hexdigest()
    members = {
        "version": 1,
        "createdAt": NOON_MS,
        "nodeId": "server-1",
        "schemaVersion": 1,
        "operationCount": len([line for line in lines.split(b"\n") if line]),
        "collections": [],
        "includesRecords": False,
        "checksum": checksum,
    } | manifest
    written = {name: value for name, value in members.items() if value is not ...}
    return joined([("manifest", json.dumps(written).encode()), *content, ("checksum", checksum.encode())])


def line(number: int = 1, /, **changes: Any) -> bytes:
    """The line of an operation as a client writes it."""
    return json.dumps(wire_operation(number, **changes), separators=(",", ":")).encode() + b"\n"
