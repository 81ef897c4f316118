"""One write transaction on its way to the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psycopg
from psycopg import pq

from kora_daemon.errors import StoreError
from kora_daemon.store.postgres.errors import translating
from kora_daemon.store.postgres.sessions import PatientConnection

Binding = str | int | float | bytes | None
Row = tuple[Any, ...]
STREAMED_ROWS = 500
"""How many rows of a long answer are in memory."""


class Write:
    """A write transaction. `begun` is the row that its first statements ended with.

    Statements that bring nothing back are sent without waiting for what becomes of them: the database works on them
    while we prepare the next. Trouble with them comes up later, at the commit at the latest.
    """

    def __init__(self, name: str, connection: PatientConnection) -> None:
        self.begun: Row | None = None
        self._name = name
        self._connection = connection
        self._pipeline = ExitStack()
        self._patience_s = connection.patience_s

    def begin(self, statements: str, *, patient: bool) -> None:
        """Run the statements that begin it. Not `patient`: then, and later on, they take as long as they take."""
        if not patient:
            self._connection.patience_s = None
        with translating(self._name):
            cursor = self._connection.execute(statements.encode())
            while True:
                if cursor.description is not None:
                    self.begun = cursor.fetchone()
                if not cursor.nextset():
                    return

    def send(self, statement: str, *bindings: Binding) -> psycopg.Cursor[Any]:
        """Run a statement sooner or later. The cursor knows its outcome once it is settled."""
        with translating(self._name):
            if self._connection.info.pipeline_status == pq.PipelineStatus.OFF:
                self._pipeline.enter_context(self._connection.pipeline())
            return self._connection.execute(statement.encode(), bindings)

    def fetch(self, statement: str, *bindings: Binding) -> list[Row]:
        """Run a query now; its rows."""
        with translating(self._name):
            return self._connection.execute(statement.encode(), bindings).fetchall()

    def stream(self, statement: str, *bindings: Binding) -> Iterator[Row]:
        """Run a query now; its rows, some at a time."""
        self._settle()
        with translating(self._name), psycopg.RawServerCursor(self._connection, "kora_stream") as rows:
            rows.itersize = STREAMED_ROWS
            rows.execute(statement.encode(), bindings)
            yield from rows

    def take_time(self) -> None:
        """What follows may take as long as it takes."""
        self.send("SET LOCAL statement_timeout = 0")
        self._connection.patience_s = None

    def commit(self) -> None:
        """Make it durable. Raises StoreError when it was not."""
        outcome = self.send("COMMIT")
        self._settle()
        if outcome.statusmessage != "COMMIT":
            # What PostgreSQL makes of a COMMIT behind a statement that has failed, whoever has caught that error.
            raise StoreError(f"{self._name}: a statement of the write has failed, so nothing of it was done")

    def roll_back(self) -> bool:
        """Undo it, if it is not over; False when the connection is of no use any more."""
        with suppress(psycopg.Error):
            self._pipeline.close()
        status = self._connection.info.transaction_status
        if status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
            with suppress(psycopg.Error):
                self._connection.execute(b"ROLLBACK")
        return self._connection.info.transaction_status == pq.TransactionStatus.IDLE

    def leave(self) -> None:
        """Give the connection back as it was."""
        self._connection.patience_s = self._patience_s

    def _settle(self) -> None:
        """Wait for everything that was sent."""
        with translating(self._name):
            self._pipeline.close()
