"""The statements about records that SQL stores have in common: rows by shape, conditions, order. Parameters are `?`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kora_daemon.materialization.columns import ColumnValue, Dialect, column_names, column_value
from kora_daemon.materialization.conditions import JSON_KINDS, Condition, JsonKey, Special, column_kind
from kora_daemon.materialization.ddl import quoted
from kora_daemon.model.record import RecordQuery
from kora_daemon.model.schema import Collection, Kind

Statement = tuple[str, list[ColumnValue]]
"""SQL and what is bound to its parameters."""

SAVE_STATE = """
    INSERT INTO kora_records (collection, record_id, state) VALUES (?, ?, ?)
    ON CONFLICT (collection, record_id) DO UPDATE SET state = excluded.state
"""
SHAPES = "SELECT name, shape, refill FROM kora_collections"
SAVE_SHAPE = """
    INSERT INTO kora_collections (name, shape, refill) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET shape = excluded.shape, refill = excluded.refill
"""
SAVE_REFILL = "UPDATE kora_collections SET refill = ? WHERE name = ?"
SET_META = "INSERT INTO kora_meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


class Sql:
    """The statements in one dialect; `json_key` writes the expression that `JsonKey` operands are compared with."""

    def __init__(self, dialect: Dialect, json_key: Callable[[str], str], collate: str = "") -> None:
        self.dialect = dialect
        self._json_key = json_key
        self._collate = collate

    def upsert(self, collection: str, fields: Mapping[str, Kind]) -> str:
        """Writes whole rows, as `columns.record_row` makes them."""
        names = column_names(fields)
        places = ", ".join("?" for _ in names)
        return self._upsert(collection, names, f"VALUES ({places})")

    def _upsert(self, collection: str, names: Sequence[str], rows: str) -> str:
        columns = ", ".join(map(quoted, names))
        updated = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names[1:])
        return _join(
            f"INSERT INTO {quoted(collection)} ({columns}) {rows}", f'ON CONFLICT ("id") DO UPDATE SET {updated}'
        )

    def update(self, collection: str, columns: Mapping[str, Kind]) -> str:
        """Writes these columns of a row that is there; its id comes last."""
        changed = ", ".join(f"{quoted(name)} = ?" for name in columns)
        return f'UPDATE {quoted(collection)} SET {changed} WHERE "id" = ?'

    def select(self, collection: Collection, query: RecordQuery, where: Sequence[Condition]) -> Statement | None:
        """The rows of a query in the order of `columns.column_names`; None when there can be none."""
        found = self._where(where, include_deleted=query.include_deleted, after=query.after)
        if found is None:
            return None
        clause, bindings = found
        names = ", ".join(self._shown(name, kind) for name, kind in self._columns(collection))
        text = _join(
            f"SELECT {names} FROM {quoted(collection.name)}{clause}", f"ORDER BY {self._order(collection, query)}"
        )
        if query.limit is not None or query.offset:
            text = _join(text, f"LIMIT {self._limit(query.limit)} OFFSET {query.offset}")
        return text, bindings

    def count(self, collection: str, where: Sequence[Condition]) -> Statement | None:
        """How many live rows meet all conditions; None when none can."""
        found = self._where(where, include_deleted=False)
        return None if found is None else (f"SELECT count(*) FROM {quoted(collection)}{found[0]}", found[1])

    def live_ids(self, collection: str, where: Sequence[Condition], limit: int | None) -> Statement | None:
        """The ids of live rows that meet all conditions, ascending; None when none can."""
        found = self._where(where, include_deleted=False)
        if found is None:
            return None
        text = _join(f'SELECT "id" FROM {quoted(collection)}{found[0]}', f'ORDER BY "id"{self._collate}')
        return (text if limit is None else _join(text, f"LIMIT {limit}")), found[1]

    def removal(self, collection: str, after: str | None, upto: str | None, kept: str) -> Statement:
        """Removes the rows with an id in (after, upto] that are not among `kept`, a subquery's text."""
        parts, bindings = self.between('"id"', after, upto)
        return f'DELETE FROM {quoted(collection)} WHERE {parts} AND "id" NOT IN ({kept})', bindings

    def between(self, column: str, after: str | None, upto: str | None) -> Statement:
        """The condition that a column lies in (after, upto]; None is no bound."""
        parts: list[str] = []
        bindings: list[ColumnValue] = []
        for bound, comparison in ((after, ">"), (upto, "<=")):
            if bound is not None:
                parts.append(f"{column}{self._collate} {comparison} ?")
                bindings.append(bound)
        return " AND ".join(parts) or "1 = 1", bindings

    def _columns(self, collection: Collection) -> Iterable[tuple[str, Kind]]:
        return (
            ("id", "string"),
            *collection.kinds.items(),
            ("_created_at", "timestamp"),
            ("_updated_at", "timestamp"),
            ("_deleted", "timestamp"),
        )

    def _shown(self, name: str, _kind: Kind) -> str:
        """What is read of a column."""
        return quoted(name)

    def _where(
        self, where: Sequence[Condition], *, include_deleted: bool, after: str | None = None
    ) -> Statement | None:
        # The plus keeps SQLite from looking for live rows by an index, which are almost all there are.
        plus = "+" if where and self.dialect is Dialect.SQLITE else ""
        parts = [] if include_deleted else [f'{plus}"_deleted" = 0']
        bindings: list[ColumnValue] = []
        for column, kind, operand in where:
            if operand is Special.NOTHING:
                return None
            if operand is Special.NULL:
                parts.append(f"{quoted(column)} IS NULL")
            else:
                part, bound = self._equal(column, kind, operand)
                parts.append(part)
                bindings += bound
        if after is not None:
            start = column_value("string", after, self.dialect)
            part, bound = self.between('"id"', str(start), None)
            parts.append(part)
            bindings += bound
        return (f" WHERE {' AND '.join(parts)}" if parts else ""), bindings

    def _equal(self, column: str, kind: Kind, operand: str | int | float | bytes) -> Statement:
        """The condition that a column holds a value that is not null."""
        if isinstance(operand, JsonKey) or kind in JSON_KINDS:
            return f"{self._json_key(quoted(column))} = ?", [str(operand)]
        return f"{quoted(column)} = ?", [operand]

    def _order(self, collection: Collection, query: RecordQuery) -> str:
        by_id = f'"id"{self._collate}'
        if query.order_by is None:
            return by_id
        direction = " DESC" if query.descending else ""
        place = self._place(query.order_by, column_kind(collection, query.order_by))
        return f"{quoted(query.order_by)} IS NULL, {place}{direction}, {by_id}"

    def _place(self, column: str, _kind: Kind) -> str:
        """What rows are ordered by to be ordered by a column."""
        return quoted(column)

    def _limit(self, limit: int | None) -> str:
        if limit is not None:
            return str(limit)
        return "-1" if self.dialect is Dialect.SQLITE else "ALL"


def _join(*parts: str) -> str:
    return " ".join(parts)
