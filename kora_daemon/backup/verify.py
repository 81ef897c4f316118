"""Reading a backup: nothing of it is used before all of it has been checked (store.md section 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import BinaryIO, NamedTuple

from kora_daemon.backup.errors import BackupError
from kora_daemon.backup.lines import split_lines
from kora_daemon.backup.manifest import (
    MAX_MANIFEST_BYTES,
    MAX_VECTOR_BYTES,
    Manifest,
    read_manifest,
    read_vector,
)
from kora_daemon.backup.reading import read_operation
from kora_daemon.backup.sections import Section, read_content, read_sections, read_span, section_start
from kora_daemon.model.operation import Operation

_CHECKSUM_BYTES = 64
_MAX_SENTENCE = 300
"""Characters of what is said about a line."""
_LINE_SPACE = b" \t\r"
_UNCHECKED = ("manifest", "checksum")
_KNOWN = ("manifest", "version_vector", "operations", "checksum")


class Backup:
    """A backup that has been verified. Its file stays in use, by one thread at a time.

    `created_at_ms` (since the epoch) and `node_id` are what the manifest says; no checksum protects them.
    """

    def __init__(self, file: BinaryIO, manifest: Manifest, vector: dict[str, int], operations: Section) -> None:
        self.created_at_ms = manifest.created_at
        self.node_id = manifest.node_id
        self.operation_count = manifest.operation_count
        self.version_vector = vector
        self._file = file
        self._operations = operations

    def operations(self) -> Iterator[Operation]:
        """All operations in file order, read as they are asked for. Any number of readings may be under way.

        Raises `BackupError` for a file that has changed.
        """
        content = read_span(self._file, self._operations.content_start, self._operations.end)
        for number, line in _numbered_lines(content):
            yield _read_line(number, line)


class _Content(NamedTuple):
    """What the one pass over the contents found. `problem` is that of the first line that has one."""

    checksum: str
    operation_count: int
    problem: BackupError | None


def verify_backup(file: BinaryIO) -> Backup:
    """Check all of a seekable file from its first byte to its last, in bounded memory.

    Raises `BackupError` for the first thing that is wrong, in this order: the sections, the manifest with its version,
    the checksum, the number of operations, their lines, the version vector.
    """
    sections = read_sections(file)
    parts = _known(sections)
    manifest = read_manifest(read_content(file, _required(parts, "manifest"), MAX_MANIFEST_BYTES))
    vector_section, operations = _required(parts, "version_vector"), _required(parts, "operations")
    content = _read_through(file, sections)
    _compare_checksums("manifest", manifest.checksum, content.checksum)
    # A file without this section may have lost others, which the manifest's checksum tells better.
    _compare_checksums("section checksum", _stored_checksum(file, _required(parts, "checksum")), content.checksum)
    if content.operation_count != manifest.operation_count:
        raise BackupError(
            "count",
            f"The section operations has {content.operation_count} operations, "
            f"expected {manifest.operation_count} as the manifest says",
        )
    if content.problem is not None:
        raise content.problem
    vector = read_vector(read_content(file, vector_section, MAX_VECTOR_BYTES))
    return Backup(file, manifest, vector, operations)


def _known(sections: list[Section]) -> dict[str, Section]:
    """The sections that every backup has, as far as they are there."""
    parts: dict[str, Section] = {}
    for section in sections:
        if section.name not in _KNOWN:
            continue
        if section.name in parts:
            first = parts[section.name].start
            raise BackupError(
                "not-a-backup",
                f"The section {section.name} is at byte {first} and again at byte {section.start}, expected one",
            )
        parts[section.name] = section
    if not parts:
        raise BackupError("not-a-backup", f"The file has none of the sections {', '.join(_KNOWN)}")
    return parts


def _required(parts: dict[str, Section], name: str) -> Section:
    if name not in parts:
        raise BackupError("incomplete", f"The file has no section {name}")
    return parts[name]


def _stored_checksum(file: BinaryIO, section: Section) -> str:
    if section.size_bytes != _CHECKSUM_BYTES:
        raise BackupError(
            "checksum",
            f"The section checksum at byte {section.start} has {section.size_bytes} bytes, expected {_CHECKSUM_BYTES}",
        )
    return read_content(file, section, _CHECKSUM_BYTES).decode("ascii", "replace")


def _compare_checksums(place: str, found: str, computed: str) -> None:
    if found != computed:
        raise BackupError(
            "checksum", f"The checksum in the {place} is {found[:_CHECKSUM_BYTES]!a}, expected {computed}"
        )


def _read_through(file: BinaryIO, sections: list[Section]) -> _Content:
    checksum = sha256()
    count, problem = 0, None
    for section in sections:
        if section.name in _UNCHECKED:
            continue
        checksum.update(section_start(section.name, section.size_bytes))
        chunks = _passed_on(read_span(file, section.content_start, section.end), checksum.update)
        if section.name == "operations":
            count, problem = _check_lines(chunks)
        else:
            for _ in chunks:
                pass
    return _Content(checksum.hexdigest(), count, problem)


def _passed_on(chunks: Iterator[bytes], take: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in chunks:
        take(chunk)
        yield chunk


def _check_lines(chunks: Iterator[bytes]) -> tuple[int, BackupError | None]:
    """The number of operations, and what is wrong with the first line that is no operation."""
    count, problem = 0, None
    for number, line in _numbered_lines(chunks):
        count += 1
        if problem is None:
            try:
                _read_line(number, line)
            except BackupError as error:
                problem = error
    return count, problem


def _numbered_lines(chunks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers in the section, from 1."""
    for number, line in enumerate(split_lines(chunks), start=1):
        if line.strip(_LINE_SPACE):
            yield number, line


def _read_line(number: int, line: bytes) -> Operation:
    try:
        return read_operation(line)
    except ValueError as error:
        raise BackupError("operation", f"Section operations, line {number}: {str(error)[:_MAX_SENTENCE]}") from error
