"""The tables of collections in PostgreSQL: what its types, indexes and order would do to records."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from kora_daemon.errors import MigrationNeeded, StoreError
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.conditions import conditions
from kora_daemon.model.record import RecordQuery
from kora_daemon.model.schema import Kind, Schema
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.postgres.queries import numbered
from kora_daemon.store.postgres.transaction import SQL
from tests.support.postgres import server
from tests.support.records import Node, apply, bring_to, inside, live, live_ids, schema_of, titles

EVERYTHING: dict[str, Kind] = {
    "title": "string",
    "n": "number",
    "done": "boolean",
    "due": "timestamp",
    "tags": "array",
    "body": "richtext",
    "file": "blob",
    "any": "json",
}
ALL_INDEXED = schema_of(1, indexes=list(EVERYTHING), todos=EVERYTHING)


@pytest.fixture
def url() -> str:
    return server().schema()


@pytest.fixture
def database(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    made = PostgresStore(url)
    made.open()
    yield made
    made.close()


@pytest.fixture
def node() -> Node:
    return Node()


def indexes(database: psycopg.Connection[Any], table: str = "todos") -> dict[str, str]:
    """Name -> keys."""
    found = database.execute(
        """SELECT indexname, regexp_replace(indexdef, '^.* USING btree ', '') FROM pg_indexes
        WHERE tablename = %s AND schemaname = current_schema""",
        [table],
    )
    return dict(found.fetchall())


# -- indexes ----------------------------------------------------------------------------------------------------------


def test_no_value_is_too_long_for_an_index(store: PostgresStore, node: Node, database: psycopg.Connection[Any]) -> None:
    """An index takes 2.7 kB; a longer text would be refused for ever, and its device with it."""
    bring_to(store, ALL_INDEXED)
    text = "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(20_000))
    data = {
        "title": text,
        "tags": [text, 1],
        "body": text,
        "file": {"hash": text},
        "any": {"deep": text},
        "n": 1,
        "due": 2,
        "done": True,
    }
    apply(store, node.insert("long", data), node.insert("other", {**data, "title": text + "!", "tags": [text, 2]}))
    assert live(store)[0]["title"] == text
    for name, value in data.items():
        found = [record["id"] for record in store.query_collection("todos", RecordQuery({name: value}))]
        assert found == (["long"] if name in ("title", "tags") else ["long", "other"]), name
    assert indexes(database) == {
        "todos_pkey": "(id)",
        "idx_todos_title": '("left"(title, 255))',
        "idx_todos_n": "(n)",
        "idx_todos_done": "(done)",
        "idx_todos_due": "(due)",
        "idx_todos_tags": "(jsonb_hash_extended(tags, (0)::bigint))",
        "idx_todos_body": "(md5(body))",
        "idx_todos_file": '("left"(file, 255))',
        "idx_todos_any": '(jsonb_hash_extended("any", (0)::bigint))',
        "idx_todos__deleted": "(_deleted)",
    }
    assert list(store.plan_upgrade(ALL_INDEXED).steps) == []


@pytest.mark.parametrize("field", ["title", "tags", "body", "n"])
def test_look_ups_use_the_index(
    store: PostgresStore, node: Node, database: psycopg.Connection[Any], field: str
) -> None:
    bring_to(store, ALL_INDEXED)
    values: dict[str, Any] = {"title": "x", "tags": ["x"], "body": "x", "n": 1}
    apply(store, *(node.insert(str(number), {"title": str(number)}) for number in range(300)))
    apply(store, node.insert("r", values))
    database.execute("ANALYZE todos")
    where = conditions(ALL_INDEXED.collections["todos"], {field: values[field]}, Dialect.POSTGRES)
    with store.transaction() as tx:
        assert tx.live_ids("todos", where) == ["r"]
        text, bindings = SQL.live_ids("todos", where, None) or ("", [])
        plan = "".join(row[0] for row in tx._write.fetch(f"EXPLAIN {numbered(text)}", *bindings))
    assert f"idx_todos_{field}" in plan


def test_indexes_of_the_reference_are_made_anew(
    store: PostgresStore, node: Node, database: psycopg.Connection[Any]
) -> None:
    """And those of the operator are left alone."""
    database.execute(
        """CREATE TABLE "userNotes" (id TEXT PRIMARY KEY NOT NULL, "ownerId" TEXT, n DOUBLE PRECISION,
            status TEXT DEFAULT 'a' CHECK (status IN ('a', 'b')), single TEXT CHECK (single IN ('a')),
            _created_at BIGINT NOT NULL DEFAULT 0, _updated_at BIGINT NOT NULL DEFAULT 0,
            _deleted INTEGER NOT NULL DEFAULT 0);
        CREATE INDEX idx_usernotes_ownerid ON "userNotes" ("ownerId");
        CREATE INDEX idx_usernotes_n ON "userNotes" (n);
        CREATE INDEX idx_usernotes__deleted ON "userNotes" (_deleted);
        CREATE INDEX my_own ON "userNotes" ("ownerId");
        CREATE UNIQUE INDEX mine_too ON "userNotes" ("ownerId") WHERE n > 5;
        INSERT INTO "userNotes" (id) VALUES ('from elsewhere')"""
    )
    kinds: dict[str, Kind] = {"ownerId": "string", "n": "number", "status": "enum", "single": "enum"}
    schema = schema_of(1, indexes=["ownerId", "n"], userNotes=kinds)
    assert [step.summary for step in store.plan_upgrade(schema).steps] == [
        "lift the condition userNotes_single_check of userNotes",
        "lift the condition userNotes_status_check of userNotes",
        "the ids of userNotes are ordered by code point",
        "index idx_usernotes_ownerid takes texts of any length",
    ]
    assert not store.plan_upgrade(schema).is_destructive
    bring_to(store, schema)
    assert list(store.plan_upgrade(schema).steps) == []
    assert indexes(database, "userNotes") == {
        "userNotes_pkey": "(id)",
        "idx_usernotes_ownerid": '("left"("ownerId", 255))',
        "idx_usernotes_n": "(n)",
        "idx_usernotes__deleted": "(_deleted)",
        "my_own": '("ownerId")',
        "mine_too": '("ownerId") WHERE (n > (5)::double precision)',
    }
    apply(store, node.insert("r", {"status": "c", "single": "b"}, collection="userNotes"))
    assert [record["status"] for record in live(store, "userNotes")] == ["c"]


def test_a_name_that_is_too_long_for_postgres(store: PostgresStore, node: Node) -> None:
    """It cuts it off, without a word."""
    table, field = "t" * 80, "f" * 80
    collections: dict[str, Any] = {table: {field: "string"}}
    schema = schema_of(1, indexes=[field], **collections)
    bring_to(store, schema)
    apply(store, node.insert("r", {field: "x"}, collection=table))
    apply(store, node.update("r", {field: "y"}, collection=table))
    assert [record[field] for record in live(store, table)] == ["y"]
    assert list(store.plan_upgrade(schema).steps) == []


# -- types ------------------------------------------------------------------------------------------------------------


def test_a_value_that_postgres_can_not_hold_never_fails_a_write_or_a_question(store: PostgresStore, node: Node) -> None:
    bring_to(store, ALL_INDEXED)
    strange = "a\0b\ud800c"
    apply(
        store,
        node.insert("r", {"title": strange, "body": strange, "tags": [strange], "any": {strange: strange}}),
        node.insert("s", {"file": {"hash": strange}, "any": 1e300, "due": 1e300, "n": 1e308}),
        node.insert("t", {"title": "x" * 100_000, "due": -0.5, "n": -0.0}),
    )
    found = {record["id"]: record for record in live(store)}
    shown = "a\ufffdb\ufffdc"
    assert found["r"]["title"] == shown
    assert found["r"]["body"] == shown.encode() or found["r"]["body"] == "a\0b\ufffdc".encode()
    assert found["r"]["tags"] == [shown]
    assert found["r"]["any"] == {shown: shown}
    assert found["s"]["file"] == {"hash": strange}
    assert (found["s"]["due"], found["s"]["any"], found["t"]["due"]) == (None, 10**300, -1)
    for name in EVERYTHING:
        for value in (strange, [strange], {strange: strange}, {"hash": strange}, 1e300, 5, None, True):
            store.query_collection("todos", RecordQuery({name: value}, order_by=name))
            store.count_collection("todos", {name: value})
    assert store.count_collection("todos", {"tags": [strange]}) == 1
    assert store.count_collection("todos", {"title": strange}) == 1


def test_text_in_a_blob_column_that_is_no_json_fails_no_question(
    store: PostgresStore, node: Node, database: psycopg.Connection[Any]
) -> None:
    bring_to(store, ALL_INDEXED)
    apply(store, node.insert("r", {"file": {"hash": "x"}}), node.insert("s", {"file": {"hash": "y"}}))
    database.execute("UPDATE todos SET file = 'no json' WHERE id = 's'")
    assert [record["id"] for record in store.query_collection("todos", RecordQuery({"file": {"hash": "x"}}))] == ["r"]


def test_a_server_with_an_older_schema_finds_nothing_where_types_differ(store: PostgresStore, node: Node) -> None:
    """It goes on writing beside a newer one; its questions must not fail its writes."""
    older, newer = schema_of(1, todos={"f": "string"}), schema_of(2, todos={"f": "number"})
    bring_to(store, newer)
    apply(store, node.insert("r", {"f": 5}), node.insert("s", {}))
    assert inside(store, lambda tx: live_ids(tx, older, {"f": "5"})) == []
    assert inside(store, lambda tx: live_ids(tx, older, {"f": None})) == ["s"]
    assert inside(store, lambda tx: live_ids(tx, schema_of(1, todos={"f": "timestamp"}), {"f": 5})) == ["r"]


def test_a_table_of_somebody_else_is_in_the_way(store: PostgresStore, database: psycopg.Connection[Any]) -> None:
    database.execute("CREATE TABLE todos (id INTEGER PRIMARY KEY)")
    with pytest.raises(StoreError, match="the database has a table todos"):
        store.upgrade(ALL_INDEXED)
    with pytest.raises(StoreError):
        store.use_schema(ALL_INDEXED)
    assert inside(store, lambda tx: dict(tx.shapes)) == {}


def test_a_destructive_upgrade_that_is_not_allowed_leaves_everything(store: PostgresStore, node: Node) -> None:
    bring_to(store, schema_of(1, indexes=["f"], todos={"f": "string"}))
    apply(store, node.insert("r", {"f": "5"}), node.insert("s", {"f": 6}))
    wanted = schema_of(2, indexes=["f"], todos={"f": "number"})
    with pytest.raises(MigrationNeeded):
        store.upgrade(wanted)
    assert [record["f"] for record in live(store)] == ["5", None]
    bring_to(store, wanted, allow_destructive=True)
    assert [record["f"] for record in live(store)] == [None, 6]
    assert list(store.plan_upgrade(wanted).steps) == []


# -- order ------------------------------------------------------------------------------------------------------------


def test_texts_are_ordered_by_code_point(store: PostgresStore, node: Node) -> None:
    bring_to(store, schema_of(1, todos={"title": "string"}))
    names = ["10", "9", "A", "Z", "a", "a b", "ab", "z", "Ä", "ä", "\uff5e", "😀"]
    apply(store, *(node.insert(one, {"title": one}) for one in reversed(names)))
    assert list(titles(store)) == names
    for descending in (False, True):
        found = store.query_collection("todos", RecordQuery(order_by="title", descending=descending))
        assert [record["title"] for record in found] == (names[::-1] if descending else names)
    assert inside(store, lambda tx: tx.live_ids("todos", [])) == names


# -- several servers --------------------------------------------------------------------------------------------------


def test_servers_that_migrate_at_once_do_it_once(url: str, store: PostgresStore, node: Node) -> None:
    stores = [PostgresStore(url) for _ in range(4)]
    with ThreadPoolExecutor(len(stores)) as threads:

        def start(one: PostgresStore) -> int:
            one.open()
            return len(one.upgrade(ALL_INDEXED).steps)

        done = list(threads.map(start, stores))
        assert sorted(done)[:3] == [0, 0, 0]
        assert max(done) > 0
    for number, one in enumerate(stores):
        bring_to(one, ALL_INDEXED)
        apply(one, node.insert(str(number), {"title": "x"}))
        one.close()
    bring_to(store, ALL_INDEXED)
    assert len(live(store)) == 4


def test_a_server_notices_that_another_one_has_migrated(url: str, store: PostgresStore, node: Node) -> None:
    before, after = schema_of(1, todos={"f": "string"}), schema_of(2, todos={"f": "string", "g": "number"})
    bring_to(store, before)
    apply(store, node.insert("r", {"f": "x", "g": 1}))
    other = PostgresStore(url)
    other.open()
    bring_to(other, after)
    apply(store, node.update("r", {"g": 2}))
    assert [record["g"] for record in live(other)] == [2]
    other.close()


def test_records_are_streamed_as_of_one_moment(store: PostgresStore, node: Node) -> None:
    schema: Schema = schema_of(1, todos={"title": "string"})
    bring_to(store, schema)
    apply(store, *(node.insert(f"{number:04}", {"title": "x"}) for number in range(1_200)))
    with store.stream_collection("todos", RecordQuery({"title": "x"})) as records:
        first = next(records)
        apply(store, node.delete("1100"), node.insert("9999", {"title": "x"}))
        assert [first["id"], *(record["id"] for record in records)] == [f"{number:04}" for number in range(1_200)]
    assert len(live(store)) == 1_200
