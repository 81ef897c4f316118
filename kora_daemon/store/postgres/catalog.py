"""The tables of collections as the database has them, and what brings them to a schema (store.md section 7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from kora_daemon.materialization.columns import Dialect, column_type
from kora_daemon.materialization.ddl import index_removal, quoted
from kora_daemon.materialization.upgrade import PresentTable, Step, Upgrade, plan_schema
from kora_daemon.model.schema import Kind, Schema
from kora_daemon.store.postgres.queries import ROOM
from kora_daemon.store.postgres.record_sql import index_key
from kora_daemon.store.postgres.writing import Row
from kora_daemon.store.shapes import ShapeCache

Fetch = Callable[[str], Sequence[Row]]
"""Runs a query and returns its rows."""

_HERE = "relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
_COLUMNS = f"""
    SELECT relname::text, attname::text, format_type(atttypid, atttypmod), collname::text
    FROM pg_class LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE {_HERE} AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY relname, attnum
"""
_INDEXES = f"""
    SELECT indexed.relname::text, pg_class.relname::text, indpred IS NULL AND indisvalid, NOT indisunique,
        array(SELECT pg_get_indexdef(indexrelid, key, true) FROM generate_series(1, indnkeyatts) AS key ORDER BY key)
    FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid JOIN pg_class AS indexed ON indexed.oid = indrelid
    WHERE pg_class.{_HERE} ORDER BY 1, 2
"""
"""Table, index, whether it has all rows, whether several of them may be the same, keys."""
_CHECKS = f"""
    SELECT relname::text, conname::text FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    WHERE {_HERE} AND contype = 'c' ORDER BY conname
"""
_SHAPES = "SELECT name, shape, refill FROM kora_collections"
_NEW_TABLE = re.compile(r'^(CREATE TABLE "(?:[^"]|"")+" \("id" TEXT) (PRIMARY KEY.*)$', re.DOTALL)
_NEW_INDEX = re.compile(r'^(CREATE INDEX "(?:[^"]|"")+" ON "(?:[^"]|"")+") \((".*")\)$')
_QUOTED = re.compile(r'"((?:[^"]|"")+)"')
_KEY = re.compile(r'^(?:"left"\((.+), 255\)|jsonb_hash_extended\((.+), .*0.*\)|md5\((.+)\))$')
"""What `record_sql.index_key` has made, as PostgreSQL prints it."""


def plan(fetch: Fetch, schema: Schema) -> Upgrade:
    """What brings the tables to a schema. Raises StoreError when a table in the database is in the way."""
    present, collations = _present_tables(fetch(_COLUMNS))
    outgrown: list[tuple[str, str, str]] = []
    for table, index, whole, plain, keys in fetch(_INDEXES):
        of_table = present[table]
        columns = [_column_of(key) for key in keys]
        indexes = {**of_table.indexes, index: columns if whole else []}
        present[table] = of_table._replace(indexes=indexes)
        kind = of_table.columns.get(columns[0], "").upper()
        if whole and plain and len(keys) == 1 and _KEY.match(keys[0]) is None and index_key("", kind) is not None:
            outgrown.append((table, index, columns[0]))
    for table, check in fetch(_CHECKS):
        present[table] = present[table]._replace(checks=[*present[table].checks, check])
    current = ShapeCache()
    current.refresh(0, lambda: fetch(_SHAPES))
    planned = plan_schema(schema, present, (current.shapes, current.refills), Dialect.POSTGRES)
    steps = [_in_our_way(step, planned.shapes[step.collection].kinds) for step in planned.steps]
    return planned._replace(steps=[*steps, *_amendments(planned, schema, collations, outgrown)])


def _present_tables(rows: Iterable[Row]) -> tuple[dict[str, PresentTable], dict[str, str]]:
    """All tables, and table -> collation of its ids."""
    columns: dict[str, dict[str, str]] = {}
    collations: dict[str, str] = {}
    for table, column, kind, collation in rows:
        of_table = columns.setdefault(table, {})
        if column is not None:
            of_table[column] = kind
        if column == "id":
            collations[table] = collation
    return {name: PresentTable(of_table) for name, of_table in columns.items()}, collations


def _column_of(key: str) -> str:
    """The column in the key of an index."""
    ours = _KEY.match(key)
    name = next(filter(None, ours.groups())) if ours is not None else key
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _in_our_way(step: Step, kinds: Mapping[str, Kind]) -> Step:
    """Ids are kept in the order in which we read them; indexes are such that no value is too long for them."""

    def keyed(found: re.Match[str]) -> str:
        keys = ", ".join(_key(name.replace('""', '"'), kinds) for name in _QUOTED.findall(found[2]))
        return f"{found[1]} ({keys})"

    statements = (_NEW_INDEX.sub(keyed, _NEW_TABLE.sub(rf'\1 COLLATE "C" \2{ROOM}', one)) for one in step.statements)
    return step._replace(statements=tuple(statements))


def _amendments(
    planned: Upgrade, schema: Schema, collations: Mapping[str, str], outgrown: Iterable[tuple[str, str, str]]
) -> Iterator[Step]:
    """What else is different about tables that the reference server has made."""
    for name in schema.collections:
        if collations.get(name, "C") not in ("C", "POSIX"):
            statement = f'ALTER TABLE {quoted(name)} ALTER COLUMN "id" TYPE TEXT COLLATE "C"'
            yield Step(name, f"the ids of {name} are ordered by code point", (statement,))
    done = " ".join(statement for step in planned.steps for statement in step.statements)
    for table, index, column in outgrown:
        kinds = planned.shapes[table].kinds if table in schema.collections else {}
        named_by_the_reference = index == f"idx_{table}_{column}".lower()[:63]
        if named_by_the_reference and column in kinds and index_removal(index) not in done:
            made = f"CREATE INDEX {quoted(index)} ON {quoted(table)} ({_key(column, kinds)})"
            yield Step(table, f"index {index} takes texts of any length", (index_removal(index), made))


def _key(column: str, kinds: Mapping[str, Kind]) -> str:
    """What an index holds of a column."""
    kind = "" if column not in kinds else column_type(kinds[column], Dialect.POSTGRES)
    return index_key(quoted(column), kind) or quoted(column)
