"""What the binding's exceptions mean, in our own (architecture section 6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from kora_daemon.errors import StoreCorrupt, StoreError, StoreLocked, StoreUnavailable

ASK = "check that the file and its folder exist and that this user may read and write them"
FULL = "the disk is full; make room on it"
_UNAVAILABLE: dict[type[apsw.Error], str] = {
    apsw.ProtocolError: "its lock could not be had; stop other processes that use it",
    apsw.FullError: FULL,
    apsw.IOError: "reading or writing it failed; check the disk and its file system",
    apsw.CantOpenError: f"it can't be opened; {ASK}",
    apsw.ReadOnlyError: f"it can't be written; {ASK}",
    apsw.PermissionsError: f"it can't be written; {ASK}",
    apsw.NoMemError: "there is not enough memory for it; give the process more",
}
_LOCKED: dict[type[apsw.Error], str] = dict.fromkeys(
    (apsw.BusyError, apsw.LockedError),
    "another process holds its lock; stop that process (`fuser -v` on the file names it), or wait for it",
)
_CORRUPT: dict[type[apsw.Error], str] = {
    apsw.CorruptError: "the database is damaged; stop the server and restore the file from a backup",
    apsw.NotADBError: "this is no SQLite database; check the path, or restore the file from a backup",
}


def store_error(error: apsw.Error, path: Path) -> StoreError:
    """What an exception of the binding means: the file, the trouble, what to do, and SQLite's own words."""
    for known, kind in ((_LOCKED, StoreLocked), (_UNAVAILABLE, StoreUnavailable), (_CORRUPT, StoreCorrupt)):
        if type(error) in known:
            return kind(f"{path}: {known[type(error)]} ({error})")
    return StoreError(f"{path}: {error}")


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Turn the binding's exceptions about the file `path` into ours."""
    try:
        yield
    except apsw.Error as error:
        raise store_error(error, path) from error


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Turn the system's exceptions about the file `path` into ours."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{path}: {ASK} ({error.strerror})") from error
