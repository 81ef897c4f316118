"""Writing a backup: the log as a stream of bytes (store.md section 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import NamedTuple, Protocol

from kora_daemon.backup.errors import BackupError, BackupTooLarge
from kora_daemon.backup.lines import operation_line
from kora_daemon.backup.manifest import MAX_VECTOR_BYTES, Manifest, manifest_text, read_vector, vector_text
from kora_daemon.backup.reading import read_operation
from kora_daemon.backup.sections import CHUNK_BYTES, MAX_CONTENT_BYTES, section_start
from kora_daemon.model.operation import Operation

NO_OPERATIONS = b"\n"
"""What stands for an empty log."""


class BackupSource(Protocol):
    """A log at one moment."""

    def version_vector(self) -> Mapping[str, int]:
        """Node id -> largest sequence number."""

    def operations(self) -> Iterator[Operation]:
        """All operations in delivery order; another call gives the same ones."""


class _Extent(NamedTuple):
    """How much the log holds when it is written."""

    operation_count: int
    size_bytes: int


def export_backup(source: BackupSource, node_id: str, created_at_ms: int) -> Iterator[bytes]:
    """The bytes of a backup made by the server `node_id`, in chunks of 128 KiB and up to one operation more.

    The log is read three times, for its size, its checksum and its content: each is written before the next, and the
    checksum is over the size too. No operation stays in memory.

    Raises `BackupError` for what `verify_backup` would refuse (an adopted log may hold malformed operations), and
    `BackupTooLarge`; both before the first chunk. After a log that changed while it was read the last chunk is missing
    and `BackupError` is raised: the file is refused as incomplete.
    """
    return _in_chunks(_pieces(source, node_id, created_at_ms))


def _pieces(source: BackupSource, node_id: str, created_at_ms: int) -> Iterator[bytes]:
    vector = _checked_vector(source.version_vector())
    extent = _measure(source.operations())
    before_lines = (
        section_start("version_vector", len(vector)) + vector + section_start("operations", extent.size_bytes)
    )
    checksum = sha256(before_lines)
    for line in _lines(source.operations()):
        checksum.update(line)
    manifest = manifest_text(Manifest(created_at_ms, node_id, extent.operation_count, checksum.hexdigest()))
    yield section_start("manifest", len(manifest)) + manifest
    yield before_lines
    written = sha256(before_lines)
    for line in _lines(source.operations()):
        written.update(line)
        yield line
    if written.digest() != checksum.digest():
        raise BackupError("checksum", "The log changed while it was written, expected the same operations each time")
    yield section_start("checksum", len(checksum.hexdigest())) + checksum.hexdigest().encode()


def _checked_vector(vector: Mapping[str, int]) -> bytes:
    text = vector_text(vector)
    if len(text) > MAX_VECTOR_BYTES:
        raise BackupTooLarge(f"The version vector takes {len(text)} bytes, expected at most {MAX_VECTOR_BYTES}")
    read_vector(text)
    return text


def _measure(operations: Iterable[Operation]) -> _Extent:
    count = size_bytes = 0
    for operation in operations:
        count += 1
        size_bytes += len(_checked_line(operation))
    if size_bytes > MAX_CONTENT_BYTES:
        raise BackupTooLarge(f"The operations take {size_bytes} bytes, expected at most {MAX_CONTENT_BYTES}")
    return _Extent(count, size_bytes or len(NO_OPERATIONS))


def _checked_line(operation: Operation) -> bytes:
    try:
        line = operation_line(operation)
        read_operation(line.removesuffix(b"\n"))
    except ValueError as error:
        raise BackupError(
            "operation", f"The log holds an operation that can't be restored, {operation.id!a}: {error}"
        ) from error
    return line


def _lines(operations: Iterable[Operation]) -> Iterator[bytes]:
    empty = True
    for operation in operations:
        empty = False
        yield operation_line(operation)
    if empty:
        yield NO_OPERATIONS


def _in_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    pending: list[bytes] = []
    pending_bytes = 0
    for piece in pieces:
        pending.append(piece)
        pending_bytes += len(piece)
        if pending_bytes >= CHUNK_BYTES:
            yield b"".join(pending)
            pending.clear()
            pending_bytes = 0
    if pending:
        yield b"".join(pending)
