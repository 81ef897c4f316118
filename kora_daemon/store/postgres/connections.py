"""The connections of one store: one that writes, a few that read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property

import psycopg

from kora_daemon.errors import StoreUnavailable
from kora_daemon.store.damage import undamaged
from kora_daemon.store.pool import ConnectionPool
from kora_daemon.store.postgres import queries
from kora_daemon.store.postgres.errors import ConnectionLost, TimedOut, translating
from kora_daemon.store.postgres.sessions import PatientConnection, Role, Session
from kora_daemon.store.postgres.writing import STREAMED_ROWS, Binding, Row, Write

Prepare = Callable[[PatientConnection], None]


class Connections:
    """Makes, lends and gives up the connections to a database.

    `prepare` is called with each new write connection. A connection that is lost is given up and the next call makes a
    new one: the store works again as soon as its database does. Where nothing has been done yet on a connection that
    lay idle, this is the next call already.
    """

    def __init__(self, session: Session, prepare: Prepare, readers: int) -> None:
        self.session = session
        self._prepare = prepare
        self.is_open = False
        self._writer: PatientConnection | None = None
        self._readers = ConnectionPool(readers, self._connect_reader)

    @cached_property
    def name(self) -> str:
        """The database in messages. Raises StoreError for a malformed URL."""
        return self.session.name

    def open(self) -> None:
        """Connect for writing. Raises what `prepare` raises."""
        if self.is_open:
            return
        self.is_open = True
        try:
            self._writer = self._connect_writer()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections. Reading calls that are under way finish."""
        self.is_open = False
        self._give_up()

    @contextmanager
    def writing(self, begin: str, *, patient: bool = True) -> Iterator[Write]:
        """The write connection, inside the transaction that the statements of `begin` begin; see `Write.begin`."""
        write = self._begin(begin, patient=patient)
        with self._ending(write):
            yield write
            write.commit()
        write.leave()

    def _begin(self, begin: str, *, patient: bool) -> Write:
        if self._writer is not None:
            write = Write(self.name, self._writer)
            with suppress(ConnectionLost):
                return self._begun(write, begin, patient=patient)
        self._writer = self._connect_writer()
        return self._begun(Write(self.name, self._writer), begin, patient=patient)

    def _begun(self, write: Write, begin: str, *, patient: bool) -> Write:
        try:
            with self._ending(write):
                write.begin(begin, patient=patient)
        except TimedOut:
            self._free_lock()
            raise
        return write

    def _free_lock(self) -> None:
        """End the session of a server that was frozen between two statements of a write, and so holds up all others.

        The database itself ends only those that it is not waiting for.
        """
        self.fetch(queries.END_FROZEN, [self.session.idle_timeout_s])

    @contextmanager
    def _ending(self, write: Write) -> Iterator[None]:
        """Undo the write when something goes wrong."""
        try:
            yield
        except BaseException:
            if write.roll_back():
                write.leave()
            else:
                self._give_up()
            raise

    @contextmanager
    def reading(self) -> Iterator[PatientConnection]:
        """One of the read connections."""
        try:
            with self.undamaged(), translating(self.name), self._readers.borrow() as connection:
                yield connection
        except ConnectionLost:
            # So are, most likely, the others.
            self._readers.drain()
            raise

    @contextmanager
    def streaming(self, statement: str, bindings: Sequence[Binding] = ()) -> Iterator[Iterator[Row]]:
        """The rows of a query, some at a time, as of one moment."""
        with self.reading() as connection:
            connection.execute(queries.BEGIN_SNAPSHOT.encode())
            with psycopg.RawServerCursor(connection, "kora_stream") as rows:
                rows.itersize = STREAMED_ROWS
                rows.execute(statement.encode(), bindings)
                yield iter(rows)
            connection.execute(b"ROLLBACK")

    @property
    def backend(self) -> int | None:
        """The process of the database that writes for us, None when there is none just now."""
        writer = self._writer
        # The thread that writes may close it meanwhile.
        with suppress(psycopg.OperationalError):
            return None if writer is None else writer.info.backend_pid
        return None

    def fetch(self, statement: str, bindings: Sequence[Binding] = ()) -> list[Row]:
        """The rows of a query, read in a transaction of their own."""
        try:
            return self._fetch(statement, bindings)
        except ConnectionLost:
            return self._fetch(statement, bindings)

    def _fetch(self, statement: str, bindings: Sequence[Binding]) -> list[Row]:
        with self.reading() as connection:
            return connection.execute(statement.encode(), bindings).fetchall()

    def undamaged(self) -> AbstractContextManager[None]:
        """Turn what the decoding of a damaged row raises into `StoreCorrupt`."""
        return undamaged(self.name)

    def _give_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._readers.drain()

    def _connect_writer(self) -> PatientConnection:
        connection = self._connect("writer")
        try:
            with translating(self.name):
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> PatientConnection:
        return self._connect("reader")

    def _connect(self, role: Role) -> PatientConnection:
        if not self.is_open:
            raise StoreUnavailable(f"{self.name} is not open")
        return self.session.connect(role)
