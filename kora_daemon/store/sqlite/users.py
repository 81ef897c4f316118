"""The user tables of `@korajs/auth` in an SQLite file that another program owns (auth.md section 3).

Nothing is created, altered or migrated; all that is ever written is `auth_devices.last_seen_at`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock

import apsw

from kora_daemon.store.pool import ConnectionPool
from kora_daemon.store.sqlite.errors import reaching, translating

BUSY_TIMEOUT_MS = 5_000
_CHUNK = 500
"""Ids in one statement."""
_COLUMNS = {
    "auth_users": ("id", "email", "name"),
    "auth_devices": ("id", "revoked", "last_seen_at"),
}
_USERS = "SELECT id, email, name FROM auth_users WHERE id IN "
_REVOKED = "SELECT id FROM auth_devices WHERE revoked <> 0 AND id IN "


class SqliteUsers:
    """Looks users up in the file `path`, and stamps devices. Every call blocks and may be made from any thread."""

    def __init__(self, path: Path, *, readers: int = 4, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._readers = ConnectionPool(readers, lambda: self._connect(apsw.SQLITE_OPEN_READONLY))
        self._writing = Lock()
        self._identity = (0, 0)

    def missing(self) -> list[str]:
        """The tables and columns that should be there and are not. Raises StoreError."""
        found: list[str] = []
        with self._reading() as connection:
            for table, columns in _COLUMNS.items():
                there = {row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}
                found += [f"{table}.{column}" for column in columns if column not in there] if there else [table]
        return found

    def look_up(
        self, user_ids: Collection[str], device_ids: Collection[str]
    ) -> tuple[Mapping[str, tuple[str, str]], Collection[str]]:
        """E-mail and name of those users that exist, and which of the devices are revoked. Raises StoreError."""
        users: dict[str, tuple[str, str]] = {}
        revoked: set[str] = set()
        with self._reading() as connection:
            for ids in _chunks(user_ids):
                users.update({row[0]: (row[1], row[2]) for row in connection.execute(_USERS + _marks(ids), ids)})
            for ids in _chunks(device_ids):
                revoked.update(row[0] for row in connection.execute(_REVOKED + _marks(ids), ids))
        return users, revoked

    def stamp(self, last_seen_ms: Mapping[str, int]) -> None:
        """Set when devices were last seen, in one transaction. Raises StoreError."""
        stamps = [(at, one, at) for one, at in last_seen_ms.items() if _fits(one)]
        with (
            self._writing,
            reaching(self._path),
            translating(self._path),
            closing(self._connect(apsw.SQLITE_OPEN_READWRITE)) as connection,
        ):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("UPDATE auth_devices SET last_seen_at = ? WHERE id = ? AND last_seen_at < ?", stamps)
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connections."""
        self._readers.drain()

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        with reaching(self._path), translating(self._path):
            found = os.stat(self._path)
            if (found.st_dev, found.st_ino) != self._identity:
                # Another file was put in its place: its rows count, not those of the one that has no name any more.
                self._readers.drain()
                self._identity = found.st_dev, found.st_ino
            with self._readers.borrow() as connection:
                yield connection

    def _connect(self, flags: int) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), flags=flags)
        connection.set_busy_timeout(self._busy_timeout_ms)
        return connection


def _chunks(ids: Collection[str]) -> Iterator[Sequence[str]]:
    """Those of the ids that can be stored, some at a time."""
    remaining = (one for one in ids if _fits(one))
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk


def _marks(ids: Sequence[str]) -> str:
    return f"({','.join('?' * len(ids))})"


def _fits(text: str) -> bool:
    """Whether there is UTF-8 for a text: half a surrogate pair has none."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
