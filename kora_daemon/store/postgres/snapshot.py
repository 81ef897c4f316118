"""The log of a PostgreSQL database at one moment."""

from __future__ import annotations

from collections.abc import Iterator

from kora_daemon.model.operation import Operation
from kora_daemon.store.postgres import queries
from kora_daemon.store.postgres.names import read_entry, read_name
from kora_daemon.store.postgres.sessions import PatientConnection

PAGE = 1_000
PAGE_BYTES = 4 << 20
"""What is in memory at a time."""


class PostgresSnapshot:
    """The log at one moment: that of a transaction on a connection of its own."""

    def __init__(self, connection: PatientConnection) -> None:
        self._connection = connection

    def version_vector(self) -> dict[str, int]:
        """Node id -> largest sequence number seen."""
        rows = self._connection.execute(queries.VECTOR.encode())
        return {read_name(node_id): number for node_id, number in rows}

    def operations(self) -> Iterator[Operation]:
        """All operations in delivery order, a page at a time."""
        after = 0
        while True:
            rows = self._connection.execute(queries.ENTRIES_WITHIN.encode(), [after, PAGE, PAGE_BYTES]).fetchall()
            if not rows:
                return
            for entry in map(read_entry, rows):
                after = entry.sequence
                yield entry.operation
