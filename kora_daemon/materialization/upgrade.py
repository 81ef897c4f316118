"""The plan that brings the tables of a database to those of a schema (store.md section 7)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from kora_daemon.errors import MigrationNeeded, StoreError
from kora_daemon.materialization import ddl
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.shape import Refill, Shape, agreed_shape, planned_refill, shape_of
from kora_daemon.model.schema import Collection, Kind, Schema

_NAME_LENGTH = {Dialect.SQLITE: 100_000, Dialect.POSTGRES: 63}
"""PostgreSQL cuts off what is longer, without an error; SQLite has no limit that a name could reach."""
_CHECK = re.compile(r'CHECK \("((?:[^"]|"")+)" IN \(')
"""As the reference server writes it."""


class PresentTable(NamedTuple):
    """A table as the database has it.

    `columns` maps name -> declared type, `indexes` maps name -> columns. `checks` are conditions to be lifted: in
    PostgreSQL by their names, in SQLite by the columns they are about (`checked_columns`).
    """

    columns: Mapping[str, str]
    indexes: Mapping[str, Sequence[str]] = {}
    checks: Sequence[str] = ()


class Step(NamedTuple):
    """A step of an upgrade; `summary` is for the operator's eyes.

    `refill`: afterwards, in the same transaction, all rows of the collection are to be written from the log again.
    `destructive`: some of what the table shows today, it may not show any more. The log still has it.
    """

    collection: str
    summary: str
    statements: tuple[str, ...]
    refill: bool = False
    destructive: bool = False


class Upgrade(NamedTuple):
    """How the tables get to a schema: the steps, and then what the rows are made of and which are to be made again.

    `current` are the shapes and refills as they are.
    """

    steps: Sequence[Step]
    shapes: Mapping[str, Shape]
    refills: Mapping[str, Refill]
    current: tuple[Mapping[str, Shape], Mapping[str, Refill]]

    @property
    def is_needed(self) -> bool:
        """Whether anything changes by it."""
        return bool(self.steps) or self.current != (self.shapes, self.refills)

    @property
    def is_destructive(self) -> bool:
        """Whether a step needs the operator's consent."""
        return any(step.destructive for step in self.steps)

    def check_consent(self, database: str, *, allow_destructive: bool) -> None:
        """Raise MigrationNeeded where the operator has to be asked first; `database` is its name for the text."""
        if self.is_destructive and not allow_destructive:
            changes = "; ".join(step.summary for step in self.steps if step.destructive)
            raise MigrationNeeded(
                f"{database}: the schema changes what tables show ({changes}); look at `kora migrate --dry-run`, then "
                "run `kora migrate --allow-destructive`"
            )

    def check_done(self, database: str) -> None:
        """Raise MigrationNeeded unless the tables are those of the schema; rows may still have to be made again."""
        if self.steps or self.shapes != self.current[0]:
            raise MigrationNeeded(f"{database}: its tables are not those of the schema; run `kora migrate` first")


def plan_schema(
    schema: Schema,
    tables: Mapping[str, PresentTable],
    current: tuple[Mapping[str, Shape], Mapping[str, Refill]],
    dialect: Dialect,
) -> Upgrade:
    """The upgrade to a schema of a database with these tables, shapes and refills. Raises like `plan_upgrade`."""
    shapes = _agreed_shapes(schema, current[0])
    agreed = [_of_kinds(one, shapes[one.name].kinds) for one in schema.collections.values()]
    steps = plan_upgrade(agreed, tables, dialect, {name: schema.lookups(name) for name in schema.collections})
    return _completed(steps, shapes, current, {step.collection for step in steps if step.refill})


def plan_states(schema: Schema, current: tuple[Mapping[str, Shape], Mapping[str, Refill]]) -> Upgrade:
    """The same for a store without tables, whose records are states that are looked at through their shapes."""
    return _completed([], _agreed_shapes(schema, current[0]), current, set())


def _agreed_shapes(schema: Schema, present: Mapping[str, Shape]) -> dict[str, Shape]:
    # A newer server beside this one knows collections that this schema does not know yet.
    shapes = {name: shape for name, shape in present.items() if shape.version > schema.version}
    for name, collection in schema.collections.items():
        wanted = shape_of(collection, schema.version)
        shapes[name] = agreed_shape(present[name], wanted) if name in present else wanted
    return shapes


def _completed(
    steps: Sequence[Step],
    shapes: Mapping[str, Shape],
    current: tuple[Mapping[str, Shape], Mapping[str, Refill]],
    refilled: set[str],
) -> Upgrade:
    """The upgrade with what has to be made again; `refilled` are the collections whose rows some step has lost."""
    present, pending = current
    refills: dict[str, Refill] = {}
    for name, shape in shapes.items():
        refill = planned_refill(present.get(name), shape, pending.get(name), rows_lost=name in refilled)
        if refill is not None:
            refills[name] = refill
    return Upgrade(steps, shapes, refills, current)


def _of_kinds(collection: Collection, kinds: Mapping[str, Kind]) -> Collection:
    """The collection with fields of the kinds that were agreed upon."""
    fields = {name: replace(field, kind=kinds[name]) for name, field in collection.fields.items()}
    return replace(collection, fields=fields)


def plan_upgrade(
    collections: Sequence[Collection],
    present: Mapping[str, PresentTable],
    dialect: Dialect,
    lookups: Mapping[str, Sequence[tuple[str, ...]]] | None = None,
) -> list[Step]:
    """The steps to be taken in this order; none when nothing is missing. Columns no field has any more stay.

    `present` maps name -> table for all tables of the database, those of the log included; `lookups` maps collection ->
    the columns that the server itself will look records up by, together. Raises StoreError when a
    table of a collection's name is none of ours.
    """
    tables = {_sameness(name, dialect): table for name, table in present.items()}
    names = [collection.name for collection in collections] + [*present]
    taken = {name.lower() for name in itertools.chain(names, *(table.indexes for table in present.values()))}
    steps: list[Step] = []
    for collection in collections:
        table = tables.get(_sameness(collection.name, dialect))
        if table is None:
            steps.append(_creation(collection, dialect))
        else:
            steps.extend(_alterations(collection, table, dialect))
        steps.extend(_index_creations(collection, (lookups or {}).get(collection.name, ()), table, taken, dialect))
    return steps


def checked_columns(table_sql: str) -> list[str]:
    """The columns with a CHECK in a CREATE TABLE statement that the reference server wrote for SQLite."""
    return [name.replace('""', '"') for name in _CHECK.findall(table_sql)]


def _sameness(name: str, dialect: Dialect) -> str:
    """What two names have in common when the database takes them for one."""
    return name.lower() if dialect is Dialect.SQLITE else name[: _NAME_LENGTH[dialect]]


def _creation(collection: Collection, dialect: Dialect) -> Step:
    statement = ddl.table_creation(collection.name, ddl.table_columns(collection, dialect))
    return Step(collection.name, f"create table {collection.name}", (statement,), refill=True)


def _alterations(collection: Collection, table: PresentTable, dialect: Dialect) -> Iterator[Step]:
    name = collection.name
    present = {_sameness(column, dialect): column for column in table.columns}
    id_column, *columns = ddl.table_columns(collection, dialect)
    if table.columns.get(present.get("id", ""), "").upper() != id_column.type:
        raise StoreError(
            f"the database has a table {name} without a text column id, so it can't be that of the collection {name}: "
            "rename one of them, or use another database"
        )
    checked: set[str] = set()
    if dialect is Dialect.SQLITE:
        checked = {_sameness(column, dialect) for column in table.checks}
    else:
        for check in table.checks:
            yield Step(name, f"lift the condition {check} of {name}", (ddl.check_removal(name, check),))
    for column in columns:
        found = present.get(_sameness(column.name, dialect))
        if found is None:
            statements = (ddl.column_addition(name, column),)
            yield Step(name, f"add column {name}.{column.name} ({column.type})", statements, refill=True)
        elif table.columns[found].upper() != column.type:
            summary = f"column {name}.{column.name} becomes {column.type}, is {table.columns[found].upper()}"
            yield Step(name, summary, _replacement(name, table, found, column), refill=True, destructive=True)
        elif _sameness(column.name, dialect) in checked:
            summary = f"lift the condition on column {name}.{column.name}"
            yield Step(name, summary, _replacement(name, table, found, column), refill=True)


def _replacement(name: str, table: PresentTable, found: str, column: ddl.Column) -> tuple[str, ...]:
    """SQLite can change nothing about a column, so a new one takes the place of the one that was `found`."""
    indexes = {index: columns for index, columns in table.indexes.items() if found in columns}
    return (
        *(ddl.index_removal(index) for index in indexes),
        ddl.column_removal(name, found),
        ddl.column_addition(name, column),
        *(ddl.index_creation(index, name, columns) for index, columns in indexes.items()),
    )


def _index_creations(
    collection: Collection,
    lookups: Sequence[tuple[str, ...]],
    table: PresentTable | None,
    taken: set[str],
    dialect: Dialect,
) -> Iterator[Step]:
    """Steps for the columns without an index of their own, whatever its name. Adds the new names to `taken`."""
    present = [] if table is None else [[_sameness(one, dialect) for one in of] for of in table.indexes.values()]
    wanted: list[tuple[str, tuple[str, ...]]] = [
        (f"idx_{collection.name}_{field}", (field,)) for field in (*collection.indexes, "_deleted")
    ]
    wanted += [(f"kora_{collection.name}_{'_'.join(fields)}", fields) for fields in lookups]
    for name, fields in wanted:
        columns = [_sameness(field, dialect) for field in fields]
        if columns not in present:
            present.append(columns)
            index = _free_name(name, taken, dialect)
            taken.add(index.lower())
            statement = ddl.index_creation(index, collection.name, fields)
            summary = f"create index {index} on {collection.name}.{', '.join(fields)}"
            yield Step(collection.name, summary, (statement,))


def _free_name(wanted: str, taken: set[str], dialect: Dialect) -> str:
    """The name as the reference server has it, which PostgreSQL folds to lower case; with a number when taken."""
    stem = wanted if dialect is Dialect.SQLITE else wanted.lower()
    suffixes = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    names = (stem[: _NAME_LENGTH[dialect] - len(suffix)] + suffix for suffix in suffixes)
    return next(name for name in names if name.lower() not in taken)
