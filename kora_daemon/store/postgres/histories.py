"""The operations of records, read ahead for those that are asked for next: a round trip for many of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.store.postgres import queries
from kora_daemon.store.postgres.names import read_entry, rows_json, stored_name
from kora_daemon.store.postgres.writing import STREAMED_ROWS, Write

AHEAD = 50
"""Records that are read together."""
SHORT = 20
"""Operations; the history of a record with more is read when it is its turn."""


class Histories:
    """The histories of records as one write transaction has left them."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._expected: dict[RecordKey, None] = {}
        self._read: dict[RecordKey, list[Operation]] = {}

    def expect(self, keys: Iterable[RecordKey]) -> None:
        """These will be asked for, in this order."""
        self._expected = dict.fromkeys(keys)
        self._read = {}

    def of(self, key: RecordKey) -> Iterator[Operation]:
        """The operations of a record in clock order, those with equal timestamps in delivery order."""
        if key in self._expected:
            self._read_ahead(key)
        if key in self._read:
            return iter(self._read.pop(key))
        return self._one(key)

    def _one(self, key: RecordKey) -> Iterator[Operation]:
        stored = [stored_name(name) for name in key]
        rows = self._write.fetch(queries.HISTORY, *stored, STREAMED_ROWS)
        yield from (read_entry(row).operation for row in rows)
        if len(rows) == STREAMED_ROWS:
            rest = self._write.stream(queries.REST_OF_HISTORY, *stored, STREAMED_ROWS)
            yield from (read_entry(row).operation for row in rest)

    def _read_ahead(self, key: RecordKey) -> None:
        upcoming = list(self._expected)
        first = upcoming.index(key)
        wanted = upcoming[first : first + AHEAD]
        self._expected = dict.fromkeys(upcoming[first + AHEAD :])
        self._read = {one: [] for one in wanted}
        for row in self._write.fetch(queries.HISTORIES, rows_json(wanted, (0, 1)), SHORT + 1):
            operation = read_entry(row).operation
            self._read[RecordKey(operation.collection, operation.record_id)].append(operation)
        self._read = {one: found for one, found in self._read.items() if len(found) <= SHORT}
