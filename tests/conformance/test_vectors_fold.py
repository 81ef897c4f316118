"""What operations fold into, as rows and as records: `materialise.json`, `materialise-random.json`, `storage.json`.

The fold itself takes both ways, one operation at a time and all at once; rows pass through the column types of SQLite
(a database in memory) and are compared as values for PostgreSQL. Left to the stores' own suites, since it takes their
statements: log tables and log rows of `storage.json`, and everything of PostgreSQL that needs a server.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kora_daemon.materialization.columns import Dialect, record_of, record_row
from kora_daemon.materialization.ddl import table_columns
from kora_daemon.materialization.fold import RecordState, advance, fold, parse_state, state_text
from kora_daemon.materialization.upgrade import plan_upgrade
from kora_daemon.model.operation import Operation
from kora_daemon.model.schema import Collection, Schema
from kora_daemon.schema_file import load_schema, read_schema
from tests.support.collection_tables import CollectionTables, Record, kinds_of

VECTORS = Path(__file__).parent / "data" / "vectors"
Case = dict[str, Any]
States = dict[str, dict[str, RecordState]]
"""Collection -> record id -> state."""


def read_cases(name: str) -> list[Case]:
    cases: list[Case] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))["cases"]
    return cases


HISTORIES = read_cases("materialise") + read_cases("materialise-random")
STORAGE = read_cases("storage")
TABLES = [case for case in STORAGE if case["kind"] == "tables" and case["schema"]]
ROWS = [case for case in STORAGE if case["kind"] == "rows"]
EVOLUTIONS = [case for case in STORAGE if case["kind"] == "evolve"]
RETYPED = "number becomes text: the column type stays"
"""Here it does not stay, and what is no text is null: section 7, the last sentence."""


def by_name(case: Case) -> str:
    return str(case["name"])


def schema_named(name: str) -> Schema:
    return load_schema(VECTORS / "schemas" / f"{name}.json")


def test_no_case_was_lost() -> None:
    assert len(HISTORIES) == 83 + 30
    assert Counter(case.get("portable", True) for case in HISTORIES) == {True: 103, False: 10}
    assert all("recommended" in case for case in HISTORIES if not case.get("portable", True))
    assert (len(TABLES), len(ROWS), len(EVOLUTIONS)) == (3, 1, 10)
    assert len(STORAGE) - len(TABLES + ROWS + EVOLUTIONS) == 1


# --- the fold


class Log:
    """Operations in the order of arrival, and the states they make, each folded onto the one before."""

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}
        self.states: States = {}

    def apply(self, sent: Case) -> str:
        arrived = msgspec.json.decode(json.dumps(sent, ensure_ascii=False), type=Operation)
        if arrived.id in self.operations:
            return "duplicate"
        self.operations[arrived.id] = arrived
        states = self.states.setdefault(arrived.collection, {})
        before = states.get(arrived.record_id)
        # As a store keeps it: beside the record, as text.
        after = advance(before and parse_state(state_text(before)), arrived)
        states[arrived.record_id] = fold(self._of_record(arrived)) if after is None else after
        return "applied"

    def replayed(self) -> States:
        states: States = {}
        for one in self.operations.values():
            states.setdefault(one.collection, {}).setdefault(one.record_id, fold(self._of_record(one)))
        return states

    def _of_record(self, found: Operation) -> list[Operation]:
        place = (found.collection, found.record_id)
        return [one for one in self.operations.values() if (one.collection, one.record_id) == place]


@pytest.mark.parametrize("case", HISTORIES, ids=by_name)
def test_a_history_folds_into_the_records_of_the_vector(case: Case) -> None:
    expected = case | case.get("recommended", {})
    schema = schema_named(case["schema"])
    log = Log()
    assert [log.apply(sent) for sent in case["operations"]] == expected["results"]
    assert log.states == log.replayed()
    sqlite = sqlite_tables(schema.collections.values(), log.states)
    for name, collection in schema.collections.items():
        states = log.states.get(name, {})
        for deleted, listed in ((False, expected["live"]), (True, expected.get("tombstones"))):
            if listed is None:
                continue
            records = [completed(record, collection) for record in listed.get(name, [])]
            assert sqlite.read(collection, deleted=deleted) == records
            assert postgres_records(collection, states, deleted=deleted) == [in_postgres(record) for record in records]


def sqlite_tables(collections: Iterable[Collection], states: States) -> CollectionTables:
    tables = CollectionTables()
    tables.upgrade(list(collections))
    for collection in collections:
        tables.write(collection, states.get(collection.name, {}))
    return tables


def postgres_records(collection: Collection, states: dict[str, RecordState], *, deleted: bool) -> list[Record]:
    kinds = kinds_of(collection)
    rows = [record_row(kinds, record_id, states[record_id], Dialect.POSTGRES) for record_id in sorted(states)]
    return [record_of(kinds, row) for row in rows if row[-1] == int(deleted)]


def completed(record: Case, collection: Collection) -> Record:
    """The record of a vector with all fields, in schema order; its bytes as bytes."""
    names = ["id", *collection.fields, "_created_at", "_updated_at"]
    assert set(record) <= set(names)
    return {name: decoded(record.get(name)) for name in names}


def decoded(value: Any) -> Any:
    return b64decode(value["$bytes"]) if isinstance(value, dict) and value.keys() == {"$bytes"} else value


def in_postgres(record: Record) -> Record:
    """Text in a richtext field is bytes there; only `kitchen_sink` has one."""
    body = record.get("body")
    return record | {"body": body.encode()} if isinstance(body, str) else record


# --- tables and rows


@pytest.mark.parametrize("case", TABLES, ids=by_name)
def test_tables_in_sqlite_are_those_of_the_reference(case: Case) -> None:
    tables = CollectionTables()
    tables.upgrade(list(schema_named(case["schema"]).collections.values()))
    assert tables.present().keys() == case["sqlite"].keys()
    for name, expected in case["sqlite"].items():
        info = tables.execute('SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)', (name,))
        assert [
            (column, kind, bool(required), default, bool(key)) for column, kind, required, default, key in info
        ] == [
            (column["name"], column["type"], column["not_null"], column["default"], column["pk"])
            for column in expected["columns"]
        ]
        assert tables.indexes(name) == {index["name"]: index["columns"] for index in expected["indexes"]}
        assert tables.present()[name].checks == []


@pytest.mark.parametrize("case", TABLES, ids=by_name)
def test_tables_in_postgresql_are_those_of_the_reference(case: Case) -> None:
    collections = schema_named(case["schema"]).collections
    steps = plan_upgrade(list(collections.values()), {}, Dialect.POSTGRES)
    for name, expected in case["postgres"].items():
        columns = table_columns(collections[name], Dialect.POSTGRES)
        assert [(column.name, column.type.lower()) for column in columns] == [
            (column["name"], column["type"]) for column in expected["columns"]
        ]
        assert ["NOT NULL" in column.constraint for column in columns] == [
            column["not_null"] for column in expected["columns"]
        ]
        # PostgreSQL shows a default with its type, `'x'::text`.
        assert [column.constraint.partition("DEFAULT ")[2] for column in columns] == [
            (column["default"] or "").partition("::")[0] for column in expected["columns"]
        ]
        created = {words[2].strip('"') for step in steps if (words := step.statements[0].split())[1] == "INDEX"}
        assert {index["name"] for index in expected["indexes"]} - created == {f"{name}_pkey"}


@pytest.mark.parametrize("case", ROWS, ids=by_name)
def test_rows_are_those_of_the_reference(case: Case) -> None:
    (collection,) = [one for one in schema_named(case["schema"]).collections.values() if one.name == "items"]
    log = Log()
    for sent in case["operations"]:
        log.apply(sent)
    for dialect, named in ((Dialect.SQLITE, "sqlite"), (Dialect.POSTGRES, "postgres")):
        for expected in case[named]["items"]:
            state = log.states["items"][expected["id"]]
            row = record_row(kinds_of(collection), expected["id"], state, dialect)
            shown = dict(zip(expected, row, strict=True))
            # Ours has the time of the delete where the reference took its clock.
            updated = state.updated_at_ms if expected["_updated_at"] == "<now>" else expected["_updated_at"]
            raw = {name: decoded(value) for name, value in expected.items()} | {"_updated_at": updated}
            assert shown == raw if dialect is Dialect.SQLITE else from_driver(shown) == from_driver(raw)


def from_driver(row: Record) -> Record:
    """The reference's driver hands out JSONB as values and BIGINT as text."""
    read = dict(row)
    for name in ("dueAt", "createdAt", "_created_at", "_updated_at"):
        read[name] = None if row[name] is None else int(row[name])
    for name in ("tags", "scores", "journal", "settings", "metadata", "watchers"):
        read[name] = json.loads(row[name]) if isinstance(row[name], str) else row[name]
    return read


# --- schemas that change


@pytest.mark.parametrize("case", EVOLUTIONS, ids=by_name)
def test_tables_follow_the_schema(case: Case) -> None:
    expected = case | case.get("recommended", {})
    log = Log()
    tables = CollectionTables()
    schema: Schema | None = None
    results = []
    for step in case["steps"]:
        if "setSchema" in step:
            schema = read_schema(step["setSchema"], "the vector")
            tables.upgrade(list(schema.collections.values()))
            results.append("ok")
        else:
            results.append(log.apply(step["apply"]))
    assert results == expected["results"]
    assert schema is not None
    (collection,) = schema.collections.values()
    tables.write(collection, log.states.get(collection.name, {}))
    columns = list(tables.present()[collection.name].columns)
    assert tables.upgrade([collection]) == []
    if case["name"] == RETYPED:
        assert sorted(columns) == sorted(expected["columns"])
        assert [record["title"] for record in tables.read(collection)] == [None, "five"]
        return
    assert columns == (expected["columns"] or ["id", *collection.fields, "_created_at", "_updated_at", "_deleted"])
    if case["portable"]:
        live = [completed(record, collection) for record in expected["live"][collection.name]]
        assert tables.read(collection) == live
