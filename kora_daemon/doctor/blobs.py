"""The folder of file contents."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from kora_daemon.config import Settings
from kora_daemon.doctor.checks import Check, Finding, failure, fine, warning
from kora_daemon.doctor.places import can_write, free_bytes, nearest
from kora_daemon.doctor.sizes import size_text
from kora_daemon.doctor.sqlite import LITTLE_FREE_BYTES, staying, user_name


def blobs(settings: Settings) -> Iterator[Check]:
    """Whether files can be kept."""
    if settings.blobs.kind == "directory":
        path = settings.blobs.path
        yield Check("blobs.folder", lambda: _folder(path))
        yield Check("blobs.file_system", lambda: staying(path))
        yield Check("blobs.space", lambda: _space(free_bytes(path), settings.blobs.keep_free_bytes))


def _space(free_bytes: int, kept_bytes: int) -> Finding:
    found = f"{size_text(free_bytes)} are free, of which blobs leave {size_text(kept_bytes)} to others"
    remedy = "make room: kora blobs gc, a larger disk; or lower blobs.keep_free_bytes"
    if free_bytes <= kept_bytes:
        return failure(f"{found}: new ones are dropped", remedy)
    return warning(found, remedy) if free_bytes < kept_bytes + LITTLE_FREE_BYTES else fine(found)


def _folder(path: Path) -> Finding:
    there = nearest(path)
    if not there.is_dir():
        return failure(f"{there} is no folder", "make it one, or correct blobs.path")
    if not can_write(there):
        return failure(f"{user_name(os.geteuid())} may not write in {there}", "chown it to the daemon's user")
    return fine(f"{path} can be written" if there == path else f"{path} is not there yet; {there} can be written")
