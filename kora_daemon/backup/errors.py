"""What can be wrong with a backup."""

from __future__ import annotations

from typing import Literal, TypeAlias

from kora_daemon.errors import KoraError

Trouble: TypeAlias = Literal["not-a-backup", "incomplete", "version", "checksum", "count", "operation"]
"""The kinds of trouble.

    not-a-backup  no sections, or one whose content is not what its name promises
    incomplete    cut short, or without a section that every backup has
    version       of a format that this server does not know
    checksum      not the bytes that were written
    count         more or fewer operations than the manifest says
    operation     a line that is no well-formed operation
"""


class BackupError(KoraError):
    """A file that can't be restored, or a log that can't be written as one that could.

    The message says what is wrong, where (byte, section, line) and what would be right; `kind` sorts it.
    """

    def __init__(self, kind: Trouble, message: str) -> None:
        super().__init__(message)
        self.kind: Trouble = kind


class BackupTooLarge(KoraError):
    """The log does not fit into the format, whose sections hold less than 4 GiB."""
