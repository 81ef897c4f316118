"""The connections to one SQLite file: one that writes, a few that read, one now and then that tidies up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

import apsw

from kora_daemon.errors import StoreError, StoreUnavailable
from kora_daemon.store.damage import undamaged
from kora_daemon.store.pool import ConnectionPool
from kora_daemon.store.sqlite import functions
from kora_daemon.store.sqlite.errors import ASK, FULL, reaching, translating

Durability = Literal["full", "normal"]
"""Whether a commit survives a power loss, or only the death of the process."""

BUSY_TIMEOUT_MS = 5_000
WRITER_CACHE_KIB = 32 << 10
READER_CACHE_KIB = 4 << 10
WAL_LONG_PAGES = 1 << 13
"""32 MiB with the usual pages. While commits never pause, `checkpoint` always leaves a rest of the write-ahead log, and
SQLite does not begin it anew; above this length the next write copies the rest first."""
WAL_LIMIT_PAGES = 1 << 16
"""256 MiB: here a commit makes a whole checkpoint, for some 100 ms, should nobody call `checkpoint`."""
WAL_LIMIT_BYTES = WAL_LIMIT_PAGES * 4096
"""To what the file is cut when readers made it grow further. Not less: overwriting is twice as fast as growing."""
LEAST_FREE_BYTES = 1 << 20
"""What a disk has to have, not to count as full."""

Binding = str | int | float | bytes | None
Prepare = Callable[[apsw.Connection], None]


class Connections:
    """Makes, lends and gives up the connections to the file `path`.

    `prepare` is called with a new write connection, inside a transaction, before anything else is changed. A connection
    that failed is given up and the next call makes a new one: the store works again as soon as its medium does. They
    never let go of the file they have opened, though: one that is put in its place is refused.
    """

    def __init__(
        self, path: Path, prepare: Prepare, *, durability: Durability, readers: int, busy_timeout_ms: int
    ) -> None:
        self.path = path
        self._prepare = prepare
        self._durability = durability
        self._busy_timeout_ms = busy_timeout_ms
        self.is_open = False
        self._wal_is_long = False
        self._identity = (0, 0)
        self.writer: apsw.Connection | None = None
        self._readers = ConnectionPool(readers, self._connect_reader)

    def open(self) -> None:
        """Open or create the file, readable for its owner only. Raises what `prepare` raises."""
        if self.is_open:
            return
        with translating(self.path):
            with reaching(self.path):
                _create_missing(self.path)
                self._identity = _identity(self.path)
            self.is_open = True
            try:
                self._writing_connection()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close all connections. Reading calls that are under way finish."""
        self.is_open = False
        self._give_up()

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """The write connection, inside a transaction."""
        with translating(self.path):
            connection = self._writing_connection()
        try:
            with translating(self.path):
                self._shorten_wal(connection)
                connection.execute("BEGIN IMMEDIATE")
            yield connection
            with translating(self.path):
                self._check_in_place()
                connection.execute("COMMIT")
        except BaseException as error:
            if not _rolled_back(connection) or isinstance(error, StoreError):
                self._give_up()
            raise

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """One of the read connections."""
        with self.undamaged(), translating(self.path), self._readers.borrow() as connection:
            yield connection

    @contextmanager
    def rows(self, statement: str, bindings: Sequence[Binding] = ()) -> Iterator[apsw.Cursor]:
        """The rows of a query. A cursor left open would keep the write-ahead log from beginning anew."""
        with self.reading() as connection, closing(connection.execute(statement, bindings)) as rows:
            yield rows

    def undamaged(self) -> AbstractContextManager[None]:
        """Turn what the decoding of a damaged row raises into `StoreCorrupt`."""
        return undamaged(self.path)

    def checkpoint(self) -> None:
        """Copy what was committed from the write-ahead log into the database, as far as nobody has to wait for it."""
        with translating(self.path), closing(self._connect()) as connection:
            # A connection that has read nothing yet has not noticed the write-ahead log.
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            with suppress(apsw.BusyError):  # somebody else's checkpoint is under way
                length, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                self._wal_is_long = length > WAL_LONG_PAGES

    def check_room(self) -> None:
        """Raises StoreUnavailable when the disk has room for hardly anything.

        On a full one small writes still find some in the write-ahead log, for as long as that is not cut.
        """
        with reaching(self.path):
            disk = os.statvfs(self.path)
        blocks = disk.f_bavail if os.geteuid() else disk.f_bfree
        if blocks * disk.f_frsize < LEAST_FREE_BYTES:
            raise StoreUnavailable(f"{self.path}: {FULL}")

    def _shorten_wal(self, connection: apsw.Connection) -> None:
        if self._wal_is_long:
            self._wal_is_long = False
            with suppress(apsw.Error):  # not needed for the write, which will find the same trouble if it matters
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _writing_connection(self) -> apsw.Connection:
        if self.writer is None:
            self.writer = self._connect_writer()
        return self.writer

    def _give_up(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
        self._readers.drain()

    def _connect_writer(self) -> apsw.Connection:
        connection = self._connect()
        try:
            connection.pragma("cache_size", -WRITER_CACHE_KIB)
            connection.pragma("foreign_keys", 0)
            connection.execute("BEGIN IMMEDIATE")
            # Before anything else is changed: a file that is refused is left as it was.
            self._prepare(connection)
            connection.execute("COMMIT")
            if connection.pragma("journal_mode", "wal") != "wal":
                raise StoreUnavailable(f"{self.path}: its file system can't hold a write-ahead log; use a local disk")
            connection.pragma("synchronous", self._durability)
            connection.pragma("journal_size_limit", WAL_LIMIT_BYTES)
            connection.wal_autocheckpoint(WAL_LIMIT_PAGES)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> apsw.Connection:
        connection = self._connect()
        connection.pragma("cache_size", -READER_CACHE_KIB)
        connection.pragma("query_only", 1)
        return connection

    def _connect(self) -> apsw.Connection:
        if not self.is_open:
            raise StoreUnavailable(f"{self.path} is not open")
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(self._busy_timeout_ms)
            self._check_in_place()
            if connection.readonly("main"):
                raise StoreUnavailable(f"{self.path}: it can't be written; {ASK}")
            functions.register(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_in_place(self) -> None:
        """SQLite goes on writing to a file that has no name any more; nobody would find it again."""
        with reaching(self.path):
            found = _identity(self.path)
        if found != self._identity:
            raise StoreUnavailable(
                f"{self.path} is not the file that was opened; put that one back, or restart the server"
            )


def _create_missing(path: Path) -> None:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _rolled_back(connection: apsw.Connection) -> bool:
    """End the transaction, if SQLite has not done so itself."""
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except apsw.Error:
        return False
    return True
