"""Questions about records as PostgreSQL takes them: ids as they are stored, parameters with numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kora_daemon.materialization.columns import ColumnValue, Dialect, record_of
from kora_daemon.materialization.conditions import checked_collection, checked_query, conditions
from kora_daemon.model.record import Record, RecordQuery
from kora_daemon.model.schema import Kind, Schema
from kora_daemon.store.postgres.names import read_name, stored_id, stored_query
from kora_daemon.store.postgres.queries import numbered
from kora_daemon.store.postgres.transaction import SQL
from kora_daemon.store.postgres.writing import Row
from kora_daemon.store.record_queries import Statement


class RecordSelection(NamedTuple):
    """The statement that finds the records of a query, and the kinds of the columns that it brings."""

    text: str
    bindings: list[ColumnValue]
    kinds: Mapping[str, Kind]

    def record(self, row: Row) -> Record:
        """The record in a row that was found."""
        record_id, *columns = row
        return record_of(self.kinds, (read_name(record_id), *columns))


def record_selection(schema: Schema | None, collection: str, query: RecordQuery) -> RecordSelection | None:
    """What finds the records of a query; None when there can be none. Raises `QueryError`."""
    known = checked_collection(schema, collection)
    asked = stored_query(checked_query(known, query))
    statement = SQL.select(known, asked, conditions(known, asked.where, Dialect.POSTGRES))
    return None if statement is None else RecordSelection(numbered(statement[0]), statement[1], known.kinds)


def record_count(schema: Schema | None, collection: str, where: Mapping[str, object]) -> Statement | None:
    """What counts the live records that have these values; None when there can be none. Raises `QueryError`."""
    known = checked_collection(schema, collection)
    statement = SQL.count(collection, conditions(known, stored_id(where), Dialect.POSTGRES))
    return None if statement is None else (numbered(statement[0]), statement[1])
