"""A file of revoked token and device ids, one per line; read again when it changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from kora_daemon.errors import AuthUnavailable

LOOKED_AT_EVERY_S: Final = 1.0
_COMMENT = "#"

log = structlog.get_logger("kora.auth")


class RevocationList:
    """The ids in a file. Blank lines and those that begin with # count for nothing.

    A file that can't be read any more leaves the list as it was: what is revoked stays so.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._ids: frozenset[str] = frozenset()
        self._version: tuple[int, int, int] | None = None
        self._looked_at: float | None = None
        self._is_lost = False

    def revokes(self, *ids: str) -> bool:
        """Whether one of these ids is listed. Raises AuthUnavailable as long as the file was never read."""
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= LOOKED_AT_EVERY_S:
            self._looked_at = now
            self._read()
        return any(one in self._ids for one in ids)

    def _read(self) -> None:
        try:
            found = os.stat(self._path)
            version = (found.st_mtime_ns, found.st_size, found.st_ino)
            if version != self._version:
                lines = self._path.read_text("utf-8").splitlines()
                self._ids = frozenset(line.strip() for line in lines if line.strip() and not line.startswith(_COMMENT))
                self._version = version
                log.info("auth.revocations_read", ids=len(self._ids))
            self._is_lost = False
        except (OSError, UnicodeDecodeError) as error:
            if self._version is None:
                self._looked_at = None
                raise AuthUnavailable(f"{self._path} can't be read: {type(error).__name__}") from None
            if not self._is_lost:
                self._is_lost = True
                log.error("auth.revocations_unreadable", path=str(self._path), problem=type(error).__name__)
