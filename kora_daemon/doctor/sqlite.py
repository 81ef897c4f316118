"""The SQLite file: who may write it, what holds it, whether there is room."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from kora_daemon.config import Settings
from kora_daemon.doctor.checks import Check, Finding, Severity, failure, fine, warning
from kora_daemon.doctor.places import FLEETING, NETWORK, can_write, free_bytes, mount_of
from kora_daemon.doctor.sizes import size_text

LEAST_FREE_BYTES = 256 << 20
"""What a write-ahead log may take; below it a busy daemon may stop any moment."""
LITTLE_FREE_BYTES = 1 << 30
LONG_WAL_BYTES = 512 << 20
"""Twice what a daemon lets it grow to, unless somebody who reads keeps it from being emptied."""
_BESIDE = ("-wal", "-shm", "-serving")


def sqlite(settings: Settings) -> Iterator[Check]:
    """The file, what is beside it, and what is below it."""
    if settings.store.kind == "sqlite":
        path = settings.store.path
        yield Check("sqlite.files", lambda: _files(path))
        yield Check("sqlite.file_system", lambda: _file_system(path))
        yield Check("sqlite.space", lambda: _space(path))
        yield Check("sqlite.wal", lambda: _wal(path))


def _files(path: Path) -> Finding:
    folder = path.parent
    if not folder.is_dir():
        return failure(f"{folder} is no folder", "make it, or correct store.path")
    if not can_write(folder):
        return failure(f"{user_name(os.geteuid())} may not write in {folder}", f"chown it to the daemon's user: {_RUN}")
    if not path.exists():
        return fine(f"{path} is not there yet; its folder can be written")
    files = [path, *(one for one in (path.with_name(path.name + suffix) for suffix in _BESIDE) if one.exists())]
    for file in files:
        if file.stat().st_uid != path.stat().st_uid:
            owners = f"{file} belongs to {owner(file)}, {path.name} to {owner(path)}"
            return failure(owners, f"chown {owner(path)} {file}")
        if not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
            return failure(f"{user_name(os.geteuid())} may not read and write {file} of {owner(file)}", _RUN)
    open_to_all = [file for file in files if file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH)]
    if open_to_all:
        return warning(f"everybody on this host can read {', '.join(map(str, open_to_all))}", "chmod 600 them")
    return fine(f"{path}, {size_text(path.stat().st_size)}, of {owner(path)}, who alone can read and write it")


_RUN = "run this as the user that the daemon runs as, such as sudo -u kora kora doctor"


def _file_system(path: Path) -> Finding | None:
    mount = mount_of(path)
    if mount is not None and NETWORK.match(mount.kind):
        return failure(
            f"{path} is on {mount.kind} ({mount.point}), a network file system: its locks can't be relied on",
            'use a local disk, or store.kind = "postgres"',
        )
    return staying(path)


def staying(path: Path) -> Finding | None:
    """Whether what holds a path is there to stay."""
    mount = mount_of(path)
    if mount is None:
        return None
    found = f"{path} is on {mount.kind} ({mount.point})"
    if mount.kind in FLEETING:
        return warning(f"{found}: {FLEETING[mount.kind]}", "use a disk; in a container, a volume")
    return fine(found)


def _space(path: Path) -> Finding:
    free, size = free_bytes(path), path.stat().st_size if path.exists() else 0
    return space(free, size, "the database")


def space(free_bytes: int, size_bytes: int, what: str) -> Finding:
    """Whether there is room for more. As much again is needed for a backup, and by changes of whole tables."""
    found = f"{size_text(free_bytes)} are free, {what} has {size_text(size_bytes)}"
    remedy = "make room, or move it to a larger disk"
    if free_bytes < LEAST_FREE_BYTES:
        return failure(found, remedy)
    if free_bytes < max(LITTLE_FREE_BYTES, size_bytes):
        return warning(found, remedy)
    return fine(found)


def _wal(path: Path) -> Finding | None:
    wal = path.with_name(path.name + "-wal")
    if not wal.exists():
        return None
    size_bytes = wal.stat().st_size
    found = f"{wal.name} has {size_text(size_bytes)}"
    if size_bytes > LONG_WAL_BYTES:
        return Finding(Severity.WARNING, found, "look for a program that keeps the database open and reads, and end it")
    return fine(found)


def owner(path: Path) -> str:
    """The user that a file belongs to."""
    return user_name(path.stat().st_uid)


def user_name(user_id: int) -> str:
    """A user by name, where there is one."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
