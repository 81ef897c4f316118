"""Sections: a header, a name and a content, back to back from the first byte to the last (store.md section 9)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from kora_daemon.backup.errors import BackupError

_HEADER = struct.Struct("<II")
MAX_CONTENT_BYTES = 2**32 - 1
"""What the header can say."""
MAX_NAME_BYTES = 1_024
"""A client has one section for each collection and puts the collection's name into the section's."""
MAX_SECTIONS = 10_000
"""The table of sections is held in memory."""
CHUNK_BYTES = 128 * 1_024


class Section(NamedTuple):
    """Where a section stands in the file, in bytes."""

    name: str
    start: int
    content_start: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The byte after the last one."""
        return self.content_start + self.size_bytes


def section_start(name: str, size_bytes: int) -> bytes:
    """Header and name of a section whose content has `size_bytes`."""
    name_bytes = name.encode()
    return _HEADER.pack(len(name_bytes), size_bytes) + name_bytes


def read_sections(file: BinaryIO) -> list[Section]:
    """The table of a file's sections, in file order; their contents are not read.

    Raises `BackupError` when they don't fill the file exactly.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    if size_bytes == 0:
        raise BackupError("not-a-backup", "The file is empty")
    sections: list[Section] = []
    position = 0
    while position < size_bytes:
        if len(sections) == MAX_SECTIONS:
            raise BackupError("not-a-backup", f"The file has more than {MAX_SECTIONS} sections, up to byte {position}")
        section = _section_at(file, position, size_bytes)
        sections.append(section)
        position = section.end
    return sections


def read_span(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` up to `end`, in chunks. Others may move the file's position between two of them."""
    position = start
    while position < end:
        file.seek(position)
        chunk = file.read(min(CHUNK_BYTES, end - position))
        if not chunk:
            raise BackupError("incomplete", f"The file ended at byte {position} while it was read, expected {end}")
        position += len(chunk)
        yield chunk


def read_content(file: BinaryIO, section: Section, max_bytes: int) -> bytes:
    """The content of a section that is small. Raises `BackupError` for one with more than `max_bytes`."""
    if section.size_bytes > max_bytes:
        raise BackupError(
            "not-a-backup",
            f"The section {section.name} at byte {section.start} has {section.size_bytes} bytes, "
            f"expected at most {max_bytes}",
        )
    return b"".join(read_span(file, section.content_start, section.end))


def _section_at(file: BinaryIO, start: int, file_bytes: int) -> Section:
    name_start = start + _HEADER.size
    if name_start > file_bytes:
        raise BackupError(
            "incomplete" if start else "not-a-backup",
            f"The file has {file_bytes - start} bytes from byte {start} on, expected a section's header of "
            f"{_HEADER.size} bytes",
        )
    name_bytes, size_bytes = _HEADER.unpack(b"".join(read_span(file, start, name_start)))
    if not 1 <= name_bytes <= MAX_NAME_BYTES:
        raise BackupError(
            "not-a-backup",
            f"The bytes from byte {start} on are no section: its name would have {name_bytes} bytes, "
            f"expected 1 to {MAX_NAME_BYTES}",
        )
    content_start = name_start + name_bytes
    if content_start + size_bytes > file_bytes:
        raise BackupError(
            "incomplete",
            f"The section at byte {start} ends at byte {content_start + size_bytes}, but the file has {file_bytes}",
        )
    try:
        name = b"".join(read_span(file, name_start, content_start)).decode()
    except UnicodeDecodeError as error:
        raise BackupError("not-a-backup", f"The name of the section at byte {start} is no UTF-8: {error}") from error
    return Section(name, start, content_start, size_bytes)
