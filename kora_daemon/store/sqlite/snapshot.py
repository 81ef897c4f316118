"""The log of a SQLite file at one moment."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from kora_daemon.model.operation import Operation
from kora_daemon.store import queries, tables


class SqliteSnapshot:
    """The log at one moment, as a connection that has begun to read sees it."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def version_vector(self) -> dict[str, int]:
        """Node id -> largest sequence number seen."""
        return dict(self._connection.execute(queries.VECTOR))

    def operations(self) -> Iterator[Operation]:
        """All operations in delivery order."""
        for row in self._connection.execute(queries.ALL_ENTRIES):
            yield tables.entry_of(row).operation
