"""The log in one SQLite file (store.md sections 3 and 10). The only module that knows the SQLite binding."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from json import JSONDecodeError
from pathlib import Path
from typing import Literal

import apsw
import msgspec

from kora_daemon.errors import StoreCorrupt, StoreError, StoreUnavailable
from kora_daemon.model.delivery import CausalKey, LogEntry
from kora_daemon.model.operation import Operation
from kora_daemon.store import queries, tables
from kora_daemon.store.adoption import adopt
from kora_daemon.store.page import take_bytes
from kora_daemon.store.pool import ConnectionPool

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

_ASK = "check that the file and its folder exist and that this user may read and write them"
_UNAVAILABLE: dict[type[apsw.Error], str] = {
    apsw.BusyError: "another process holds its lock; stop that process or wait for it",
    apsw.LockedError: "another process holds its lock; stop that process or wait for it",
    apsw.ProtocolError: "its lock could not be had; stop other processes that use it",
    apsw.FullError: "the disk is full; make room on it",
    apsw.IOError: "reading or writing it failed; check the disk and its file system",
    apsw.CantOpenError: f"it can't be opened; {_ASK}",
    apsw.ReadOnlyError: f"it can't be written; {_ASK}",
    apsw.PermissionsError: f"it can't be written; {_ASK}",
    apsw.NoMemError: "there is not enough memory for it; give the process more",
}
_CORRUPT: dict[type[apsw.Error], str] = {
    apsw.CorruptError: "the database is damaged; stop the server and restore the file from a backup",
    apsw.NotADBError: "this is no SQLite database; check the path, or restore the file from a backup",
}


def store_error(error: apsw.Error, path: Path) -> StoreError:
    """What an exception of the binding means: the file, the trouble, what to do, and SQLite's own words."""
    for known, kind in ((_UNAVAILABLE, StoreUnavailable), (_CORRUPT, StoreCorrupt)):
        if type(error) in known:
            return kind(f"{path}: {known[type(error)]} ({error})")
    return StoreError(f"{path}: {error}")


@contextmanager
def _translating(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise store_error(error, path) from error
    except OSError as error:
        raise StoreUnavailable(f"{path}: {_ASK} ({error.strerror})") from error


class SqliteStore:
    """A `Store` in the file `path`, which may have been written by the reference server.

    One connection writes; up to `readers` threads read beside it, further ones wait. A write waits up to
    `busy_timeout_ms` for a lock that another process holds. A connection that failed is given up and the next call
    makes a new one: the store works again as soon as its medium does. It never lets go of the file it has opened,
    though: one that is put in its place is refused.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        readers: int = 4,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> None:
        self._path = Path(path).absolute()
        self._durability = durability
        self._busy_timeout_ms = busy_timeout_ms
        self._is_open = False
        self._wal_is_long = False
        self._identity = (0, 0)
        self._node_id = ""
        self._writer: apsw.Connection | None = None
        self._readers = ConnectionPool(readers, self._connect_reader)

    @property
    def node_id(self) -> str:
        """The server's own node id (UUIDv7), kept in the database."""
        return self._node_id

    def open(self) -> None:
        """Open or create the file, readable for its owner only, and bring its log tables up to date.

        Raises StoreCorrupt for what is no log of ours, StoreError for one that a newer version has written.
        """
        if self._is_open:
            return
        with _translating(self._path):
            _create_missing(self._path)
            self._identity = _identity(self._path)
            self._is_open = True
            try:
                self._writing_connection()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close all connections. Reading calls that are under way finish."""
        self._is_open = False
        self._give_up_connections()

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        """A write transaction; see the contract."""
        with self._writing() as connection:
            yield SqliteTransaction(connection, self._path)

    def probe(self) -> None:
        """Make a durable write of a few bytes."""
        with self._writing() as connection, _translating(self._path):
            connection.execute(queries.COUNT_PROBE)

    def checkpoint(self) -> None:
        """Copy what was committed from the write-ahead log into the database, as far as nobody has to wait for it.

        To be called a few times a second while there are writes, from any thread; else a commit has to do it now and
        then, and takes long. Raises StoreUnavailable and StoreCorrupt.
        """
        with _translating(self._path), closing(self._connect()) as connection:
            # A connection that has read nothing yet has not noticed the write-ahead log.
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            with suppress(apsw.BusyError):  # somebody else's checkpoint is under way
                length, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                self._wal_is_long = length > WAL_LONG_PAGES

    def frontier(self) -> int:
        """The largest delivery sequence in the log, 0 for an empty one."""
        with self._rows(queries.FRONTIER) as rows:
            return int(next(rows)[0])

    def count_operations(self) -> int:
        """How many operations the log holds; walks an index."""
        with self._rows(queries.COUNT) as rows:
            return int(next(rows)[0])

    def version_vector(self, nodes: Iterable[str] | None = None) -> dict[str, int]:
        """Node id -> largest sequence number seen, of these nodes or of all; unknown nodes are left out."""
        query = (queries.VECTOR, ()) if nodes is None else (queries.VECTOR_OF, (json.dumps(list(nodes)),))
        with self._rows(*query) as rows:
            return dict(rows)

    def authors_after(self, sequence: int) -> set[str]:
        """Node ids of the entries with a delivery sequence above `sequence`."""
        with self._rows(queries.AUTHORS_AFTER, (sequence,)) as rows:
            return {node_id for (node_id,) in rows}

    def entries_after(self, sequence: int, limit: int, max_bytes: int | None = None) -> list[LogEntry]:
        """At most `limit` entries above `sequence`, ascending; `max_bytes` as in the contract."""
        with self._rows(queries.ENTRIES_AFTER, (sequence, max(limit, 0))) as rows:
            return take_bytes(map(tables.entry_of, rows), max_bytes)

    def entries_at(self, sequences: Sequence[int]) -> list[LogEntry]:
        """The entries with these delivery sequences, in the order given; unknown ones are left out."""
        with self._rows(queries.ENTRIES_AT, (json.dumps(list(sequences)),)) as rows:
            found = {entry.sequence: entry for entry in map(tables.entry_of, rows)}
        return [found[sequence] for sequence in sequences if sequence in found]

    def causal_keys_above(self, vector: Mapping[str, int]) -> list[CausalKey]:
        """Keys of all entries above `vector`, in delivery order."""
        with self._reading() as connection, connection:  # one snapshot for both statements
            authors = [
                [node_id, vector.get(node_id, -1)]
                for node_id, last in connection.execute(queries.AUTHORS)
                if last > vector.get(node_id, -1)
            ]
            keys = list(map(tables.causal_key_of, connection.execute(queries.KEYS_ABOVE, (json.dumps(authors),))))
        return keys

    def operation_range(self, node_id: str, first: int, last: int) -> list[Operation]:
        """Operations of one author with sequence numbers from `first` to `last`, both included, ascending."""
        with self._rows(queries.ENTRIES_OF, (node_id, first, last)) as rows:
            return [tables.entry_of(row).operation for row in rows]

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        """The write connection, inside a transaction."""
        with _translating(self._path):
            connection = self._writing_connection()
        try:
            with _translating(self._path):
                self._shorten_wal(connection)
                connection.execute("BEGIN IMMEDIATE")
            yield connection
            with _translating(self._path):
                self._check_in_place()
                connection.execute("COMMIT")
        except BaseException as error:
            if not _rolled_back(connection) or isinstance(error, StoreError):
                self._give_up_connections()
            raise

    def _shorten_wal(self, connection: apsw.Connection) -> None:
        if self._wal_is_long:
            self._wal_is_long = False
            with suppress(apsw.Error):  # not needed for the write, which will find the same trouble if it matters
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        """One of the read connections."""
        try:
            with _translating(self._path), self._readers.borrow() as connection:
                yield connection
        except (UnicodeDecodeError, JSONDecodeError, msgspec.DecodeError) as error:
            raise StoreCorrupt(
                f"{self._path}: a row of the log is damaged; stop the server, restore the file from a backup ({error})"
            ) from error

    @contextmanager
    def _rows(self, statement: str, bindings: Sequence[str | int] = ()) -> Iterator[apsw.Cursor]:
        """The rows of a query. A cursor left open would keep the write-ahead log from beginning anew."""
        with self._reading() as connection, closing(connection.execute(statement, bindings)) as rows:
            yield rows

    def _writing_connection(self) -> apsw.Connection:
        if self._writer is None:
            self._writer = self._connect_writer()
        return self._writer

    def _give_up_connections(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._readers.drain()

    def _connect_writer(self) -> apsw.Connection:
        connection = self._connect()
        try:
            connection.pragma("cache_size", -WRITER_CACHE_KIB)
            connection.pragma("foreign_keys", 0)
            connection.execute("BEGIN IMMEDIATE")
            # Before anything else is changed: a file that is refused is left as it was.
            self._node_id = adopt(connection.execute, str(self._path))
            connection.execute("COMMIT")
            if connection.pragma("journal_mode", "wal") != "wal":
                raise StoreUnavailable(f"{self._path}: its file system can't hold a write-ahead log; use a local disk")
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
        if not self._is_open:
            raise StoreUnavailable(f"{self._path} is not open")
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(self._busy_timeout_ms)
            self._check_in_place()
            if connection.readonly("main"):
                raise StoreUnavailable(f"{self._path}: it can't be written; {_ASK}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_in_place(self) -> None:
        """SQLite goes on writing to a file that has no name any more; nobody would find it again."""
        if _identity(self._path) != self._identity:
            raise StoreUnavailable(
                f"{self._path} is not the file that was opened; put that one back, or restart the server"
            )


class SqliteTransaction:
    """One atomic write to a `SqliteStore`."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log already."""
        with _translating(self._path):
            return {known for (known,) in self._connection.execute(queries.KNOWN_IDS, (json.dumps(list(ids)),))}

    def append(self, operations: Sequence[Operation], received_at_ms: int) -> list[int]:
        """Append operations with new ids; return their delivery sequences. Raises StoreError for a known id."""
        with _translating(self._path):
            ((frontier,),) = self._connection.execute(queries.FRONTIER)
            sequences = range(frontier + 1, frontier + 1 + len(operations))
            self._connection.executemany(
                tables.INSERT_OPERATION,
                (tables.operation_row(one, received_at_ms, n) for one, n in zip(operations, sequences, strict=True)),
            )
            self._connection.executemany(tables.RAISE_VECTOR, tables.vector_rows(operations, received_at_ms))
        return list(sequences)


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
