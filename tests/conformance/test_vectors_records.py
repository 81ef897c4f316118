"""What stores show of operations: `materialise.json`, `materialise-random.json` and `storage.json`, on every store.

As `test_vectors_fold.py`, but through the pipeline, the transaction and the queries of the real stores. Rows are made
as operations arrive one by one, and all in one write, and again from the log, and by a schema that comes afterwards.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from kora_daemon.apply.pipeline import Pipeline
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.shape import Refill
from kora_daemon.materialization.upgrade import checked_columns
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import Record
from kora_daemon.model.schema import Collection, Schema
from kora_daemon.schema_file import load_schema, read_schema
from kora_daemon.store.contract import Store
from tests.support.log import RECEIVED_AT_MS
from tests.support.records import bring_to, live, tombstones
from tests.support.stores import RECORD_STORES, StoreKind, sqlite_path

VECTORS = Path(__file__).parent / "data" / "vectors"
Case = dict[str, Any]


def read_cases(name: str) -> list[Case]:
    cases: list[Case] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))["cases"]
    return cases


HISTORIES = read_cases("materialise") + read_cases("materialise-random")
STORAGE = read_cases("storage")
TABLES = [case for case in STORAGE if case["kind"] == "tables"]
ROWS = [case for case in STORAGE if case["kind"] == "rows"]
EVOLUTIONS = [case for case in STORAGE if case["kind"] == "evolve"]
OURS = {
    # Where this server does not do what the reference's SQLite does, in the words of section 7.
    "wider enum: the old CHECK stays": ["low", "medium"],
    "number becomes text: the column type stays": [None, "five"],
    "default with an apostrophe": [],
    "backfill of a deleted record makes a tombstone, with column defaults": [],
}
"""Evolution that is not portable -> what its live records show in their first field."""


def by_name(case: Case) -> str:
    return str(case["name"])


def schema_named(name: str) -> Schema:
    return load_schema(VECTORS / "schemas" / f"{name}.json")


def test_no_case_was_lost() -> None:
    assert len(HISTORIES) == 83 + 30
    assert Counter(case.get("portable", True) for case in HISTORIES) == {True: 103, False: 10}
    assert all("recommended" in case for case in HISTORIES if not case.get("portable", True))
    assert (len(TABLES), len(ROWS), len(EVOLUTIONS), len(STORAGE)) == (4, 1, 10, 15)
    assert {case["name"] for case in EVOLUTIONS if not case["portable"]} == OURS.keys()


@pytest.fixture(params=RECORD_STORES)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return RECORD_STORES[request.param]


@pytest.fixture
def make_store(kind: StoreKind, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    made: list[Store] = []

    def make() -> Store:
        made.append(kind(tmp_path))
        made[-1].open()
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture(scope="module", params=RECORD_STORES)
def emptied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], tuple[StoreKind, Store, Schema]]]:
    """One store for each schema, with an empty log: tables are made once, not for each of a hundred cases."""
    kind = RECORD_STORES[request.param]
    made: dict[str, tuple[StoreKind, Store, Schema]] = {}

    def empty(schema_name: str) -> tuple[StoreKind, Store, Schema]:
        if schema_name not in made:
            store, schema = kind(tmp_path_factory.mktemp(schema_name)), schema_named(schema_name)
            store.open()
            bring_to(store, schema)
            made[schema_name] = kind, store, schema
        with made[schema_name][1].transaction() as tx:
            tx.replace_log({})
        return made[schema_name]

    yield empty
    for _, store, _ in made.values():
        store.close()


def read_operation(sent: Case) -> Operation:
    return msgspec.json.decode(json.dumps(sent, ensure_ascii=False, separators=(",", ":")), type=Operation)


def apply_batches(store: Store, *batches: list[Case]) -> list[str]:
    """Apply batches in one write, each operation unjudged; what became of each."""
    operations = [[read_operation(one) for one in batch] for batch in batches]
    with store.transaction() as tx:
        outcomes = Pipeline(store.node_id).apply_batches(tx, operations, RECEIVED_AT_MS)
    results = []
    for batch, outcome in zip(operations, outcomes, strict=True):
        assert outcome.rejections == []
        applied = [entry.operation.id for entry in outcome.applied]
        for one in batch:
            results.append("applied" if applied[:1] == [one.id] else "duplicate")
            applied = applied[1:] if applied[:1] == [one.id] else applied
        assert applied == []
    return results


def completed(record: Case, collection: Collection) -> Record:
    """The record of a vector with all fields, in schema order; its bytes as bytes."""
    names = ["id", *collection.fields, "_created_at", "_updated_at"]
    assert set(record) <= set(names)
    return {name: decoded(record.get(name)) for name in names}


def decoded(value: Any) -> Any:
    return b64decode(value["$bytes"]) if isinstance(value, dict) and value.keys() == {"$bytes"} else value


def in_dialect(record: Record, collection: Collection, dialect: Dialect) -> Record:
    """Text in a richtext field is bytes in PostgreSQL."""
    if dialect is Dialect.SQLITE:
        return record
    rich = {name for name, field in collection.fields.items() if field.kind == "richtext"}
    return {name: one.encode() if name in rich and isinstance(one, str) else one for name, one in record.items()}


# -- histories --------------------------------------------------------------------------------------------------------


def assert_shows(kind: StoreKind, store: Store, schema: Schema, expected: Case) -> None:
    for name, collection in schema.collections.items():
        for show, listed in ((live, expected["live"]), (tombstones, expected.get("tombstones"))):
            if listed is None:
                continue
            records = [completed(one, collection) for one in listed.get(name, [])]
            shown = show(store, name)
            assert shown == [in_dialect(one, collection, kind.dialect) for one in records]
            assert all(list(one) == ["id", *collection.fields, "_created_at", "_updated_at"] for one in shown)
        assert store.count_collection(name) == len(expected["live"].get(name, []))


@pytest.mark.parametrize("case", HISTORIES, ids=by_name)
def test_a_history_shows_the_records_of_the_vector(
    emptied: Callable[[str], tuple[StoreKind, Store, Schema]], case: Case
) -> None:
    expected = case | case.get("recommended", {})
    kind, store, schema = emptied(case["schema"])
    sent = case["operations"]
    results = [result for one in sent for result in apply_batches(store, [one])]
    assert results == expected["results"]
    assert store.count_operations() == results.count("applied")
    assert_shows(kind, store, schema, expected)

    with store.transaction() as tx:
        for name in schema.collections:
            tx.replace_records(name, None, None, {})
            tx.set_refill(name, Refill("log"))
    bring_to(store, schema)
    assert_shows(kind, store, schema, expected)

    with store.transaction() as tx:
        tx.replace_log({})
    half = len(sent) // 2
    assert apply_batches(store, sent[:half], sent[half:]) == expected["results"]
    assert_shows(kind, store, schema, expected)


@pytest.mark.parametrize("case", HISTORIES[::4], ids=by_name)
def test_a_schema_that_comes_afterwards_shows_the_same(
    kind: StoreKind, make_store: Callable[[], Store], case: Case
) -> None:
    expected = case | case.get("recommended", {})
    schema = schema_named(case["schema"])
    store = make_store()
    assert apply_batches(store, case["operations"]) == expected["results"]
    bring_to(store, schema)
    assert_shows(kind, store, schema, expected)


# -- tables and rows --------------------------------------------------------------------------------------------------


def ask(store: Store, statement: str, *bindings: str) -> list[Any]:
    """The rows of a SQLite store's file, as another program reads them."""
    connection = apsw.Connection(str(sqlite_path(store)))
    try:
        return connection.execute(statement, bindings).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("case", TABLES, ids=by_name)
def test_the_tables_in_a_file_are_those_of_the_reference(tmp_path: Path, case: Case) -> None:
    store = RECORD_STORES["sqlite"](tmp_path)
    store.open()
    if case["schema"] is not None:
        bring_to(store, schema_named(case["schema"]))
    tables = dict(ask(store, "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"))
    ours = tables.keys() - case["sqlite"].keys() - {"operations", "sync_state"}
    assert all(name.startswith("kora_") for name in ours)
    for name, expected in case["sqlite"].items():
        info = ask(store, 'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)', name)
        columns = [(column, kind, bool(required), default, bool(key)) for column, kind, required, default, key in info]
        wanted = [
            (column["name"], column["type"], column["not_null"], column["default"], column["pk"])
            for column in expected["columns"]
        ]
        more = columns[len(wanted) :]
        assert columns[: len(wanted)] == wanted
        assert all(not required and not key for _, _, required, _, key in more)
        assert not more or case["schema"] is None
        indexes = {
            index: [column for (column,) in ask(store, "SELECT name FROM pragma_index_info(?)", index)]
            for (index,) in ask(store, "SELECT name FROM pragma_index_list(?) WHERE origin = 'c'", name)
        }
        shared = {index: columns for index, columns in indexes.items() if not index.startswith("kora_")}
        assert shared == {index["name"]: index["columns"] for index in expected["indexes"]}
        assert checked_columns(tables[name]) == []
        assert "CHECK" not in tables[name]
    store.close()


@pytest.mark.parametrize("case", ROWS, ids=by_name)
def test_the_rows_in_a_file_are_those_of_the_reference(tmp_path: Path, case: Case) -> None:
    store = RECORD_STORES["sqlite"](tmp_path)
    store.open()
    bring_to(store, schema_named(case["schema"]))
    assert apply_batches(store, case["operations"]) == ["applied"] * len(case["operations"])
    for table, expected in case["sqlite"].items():
        names = list(expected[0])
        columns = ", ".join(f'"{name}"' for name in names)
        found = [
            dict(zip(names, row, strict=True)) for row in ask(store, f'SELECT {columns} FROM "{table}" ORDER BY 1')
        ]
        rows = sorted(expected, key=lambda row: str(row[names[0]]))
        assert len(found) == len(rows)
        for row, wanted in zip(found, rows, strict=True):
            assert row == {name: _by_our_clock(name, decoded(value)) for name, value in wanted.items()}
    store.close()


@pytest.mark.parametrize("case", ROWS, ids=by_name)
def test_the_rows_of_the_reference_are_what_queries_show(
    kind: StoreKind, make_store: Callable[[], Store], case: Case
) -> None:
    schema = schema_named(case["schema"])
    store = make_store()
    bring_to(store, schema)
    apply_batches(store, case["operations"])
    items = schema.collections["items"]
    for deleted, show in ((0, live), (1, tombstones)):
        rows = [row for row in case["sqlite"]["items"] if row["_deleted"] == deleted]
        expected = [in_dialect(_record_of(row, items), items, kind.dialect) for row in rows]
        assert show(store, "items") == expected


def _record_of(row: Case, collection: Collection) -> Record:
    """By hand what a row of the reference means."""
    record = {name: decoded(value) for name, value in row.items() if name != "_deleted"}
    for name, field in collection.fields.items():
        if record[name] is not None and field.kind in ("array", "object", "json", "blob"):
            record[name] = json.loads(record[name])
        elif record[name] is not None and field.kind == "boolean":
            record[name] = record[name] == 1
    return {name: _by_our_clock(name, value) for name, value in record.items()}


def _by_our_clock(column: str, value: Any) -> Any:
    """Where the reference's clock stands in a tombstone, we have the wall time of the delete."""
    if value != "<now>":
        return value
    return 1_700_000_000_050 if column == "_updated_at" else RECEIVED_AT_MS


# -- schemas that change ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False], ids=["rows at once", "rows at the end"])
@pytest.mark.parametrize("case", EVOLUTIONS, ids=by_name)
def test_records_follow_the_schema(kind: StoreKind, make_store: Callable[[], Store], case: Case, at_once: bool) -> None:
    expected = case | case.get("recommended", {})
    store = make_store()
    schema: Schema | None = None
    results = []
    for step in case["steps"]:
        if "setSchema" in step:
            schema = read_schema(step["setSchema"], "the vector")
            store.upgrade(schema, allow_destructive=True)
            if at_once:
                bring_to(store, schema)
            results.append("ok")
        else:
            results += apply_batches(store, [step["apply"]])
    assert schema is not None
    bring_to(store, schema)
    assert results == expected["results"]
    assert not store.plan_upgrade(schema).is_needed
    ((name, collection),) = schema.collections.items()
    if case["name"] in OURS:
        first = next(iter(collection.fields))
        assert [record[first] for record in live(store, name)] == OURS[case["name"]]
    else:
        assert live(store, name) == [completed(one, collection) for one in expected["live"].get(name, [])]
    if case["name"].startswith("backfill of a deleted record"):
        # As the note in the vector recommends: with its last values.
        assert [record["title"] for record in tombstones(store, name)] == ["one"]
    else:
        assert tombstones(store, name) == []
    if kind.tables and kind.dialect is Dialect.SQLITE:
        columns = [column for (column,) in ask(store, "SELECT name FROM pragma_table_info(?)", name)]
        wanted = expected["columns"] or ["id", *collection.fields, "_created_at", "_updated_at", "_deleted"]
        # A column that was made again for another type stands at the end.
        assert sorted(columns) == sorted(wanted) if "becomes" in case["name"] else columns == wanted
