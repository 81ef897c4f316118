"""How records follow the schema on every store: upgrades, rows made again, old and new servers side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from kora_daemon.errors import MigrationNeeded, StoreError
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.fold import fold
from kora_daemon.materialization.shape import Refill, shape_of
from kora_daemon.model.record import QueryError, QueryProblem, RecordQuery
from kora_daemon.model.schema import Kind, Schema
from kora_daemon.store.contract import Store
from tests.support.log import log_ids
from tests.support.records import (
    TODOS,
    Node,
    apply,
    bring_to,
    commit,
    fail_after,
    inside,
    key,
    live,
    live_ids,
    schema_of,
    stamps,
    states,
    titles,
    tombstones,
)
from tests.support.stores import DURABLE_STORES, RECORD_STORES, StoreKind, beside, sqlite_path

TITLE: dict[str, Kind] = {"title": "string"}
ONLY_TITLE = schema_of(1, todos=TITLE)
WITH_N = schema_of(2, todos=TITLE | {"n": "number"})
WITH_NOTES = schema_of(2, todos=TITLE, notes=TITLE)


@pytest.fixture(params=RECORD_STORES)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return RECORD_STORES[request.param]


@pytest.fixture
def store(kind: StoreKind, tmp_path: Path) -> Iterator[Store]:
    made = kind(tmp_path)
    made.open()
    yield made
    made.close()


@pytest.fixture
def node() -> Node:
    return Node()


def columns(store: Store, table: str = "todos") -> dict[str, str]:
    """Column -> type, of a SQLite store's file."""
    connection = apsw.Connection(str(sqlite_path(store)))
    found = dict(connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,)))
    connection.close()
    return found


def test_no_case_was_lost() -> None:
    assert (len(QUESTIONS), len(NO_STEPS)) == (18, 5)


# -- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_comes_and_the_second_one_is_empty(kind: StoreKind, store: Store, node: Node) -> None:
    plan = store.plan_upgrade(TODOS)
    assert plan.is_needed
    assert plan.shapes == {"todos": shape_of(TODOS.collections["todos"], 1)}
    assert plan.refills == {"todos": Refill("log")}
    assert plan.current == ({}, {})
    assert [step.summary for step in plan.steps] == (
        ["create table todos", "create index idx_todos__deleted on todos._deleted"] if kind.tables else []
    )
    assert inside(store, lambda tx: dict(tx.shapes)) == {}  # a plan changes nothing
    assert store.upgrade(TODOS) == plan
    pending = store.plan_upgrade(TODOS)
    assert (pending.is_needed, list(pending.steps), pending.refills) == (False, [], {"todos": Refill("log")})
    bring_to(store, TODOS)
    commit(store, node.insert("r", {"title": "x"}))
    done = store.plan_upgrade(TODOS)
    assert (done.is_needed, list(done.steps), done.refills) == (False, [], {})
    assert done.current == (plan.shapes, {})
    assert store.upgrade(TODOS) == done


@pytest.mark.parametrize(
    "newer",
    [
        schema_of(7, todos=TODOS.collections["todos"].kinds),
        schema_of(1, indexes=["n"], todos={"n": "number", "title": "string"}),
    ],
    ids=["another version", "an index and another order"],
)
def test_rows_are_not_made_again_for_what_they_do_not_show(store: Store, node: Node, newer: Schema) -> None:
    bring_to(store, TODOS)
    commit(store, node.insert("r", {"title": "x", "n": 1}))
    assert store.plan_upgrade(newer).refills == {}
    store.upgrade(newer)
    assert inside(store, lambda tx: tx.refills()) == {}
    assert inside(store, lambda tx: {name: shape.version for name, shape in tx.shapes.items()}) == {
        "todos": newer.version
    }
    assert live(store) == [{"id": "r", "title": "x", "n": 1, "_created_at": 1, "_updated_at": 1}]
    assert [*live(store)[0]][1:3] == [*newer.collections["todos"].fields]


def test_shapes_and_refills_are_those_set_last(kind: StoreKind, store: Store) -> None:
    a, b = (shape_of(collection, 3) for collection in WITH_NOTES.collections.values())
    with store.transaction() as tx:
        tx.set_shapes({"todos": a, "notes": b}, {"notes": Refill("states", "x", ["title"])})
        assert dict(tx.shapes) == {"todos": a, "notes": b}
        assert tx.refills() == {"notes": Refill("states", "x", ["title"])}
        tx.set_refill("todos", Refill("log"))
        tx.set_refill("notes", None)
        assert tx.refills() == {"todos": Refill("log")}
    assert inside(store, lambda tx: (dict(tx.shapes), tx.refills())) == (
        {"todos": a, "notes": b},
        {"todos": Refill("log")},
    )
    with store.transaction() as tx:
        tx.set_shapes({"notes": b}, {})
    assert inside(store, lambda tx: (dict(tx.shapes), tx.refills())) == ({"notes": b}, {})
    if kind.another is not None:
        other = kind.another(store)
        other.open()
        assert inside(other, lambda tx: dict(tx.shapes)) == {"notes": b}
        other.close()


# -- fields that come and go ------------------------------------------------------------------------------------------


def test_a_schema_that_comes_late_finds_the_records_in_the_log(store: Store, node: Node) -> None:
    written = [
        node.insert("r", {"title": "a", "n": 1}),
        node.update("r", {"n": 2}),
        node.insert("s", {}),
        node.delete("s"),
    ]
    apply(store, *written, node.insert("x", {}, collection="unlisted"))
    assert stamps(store) == dict.fromkeys(log_ids(store))
    store.upgrade(TODOS)
    assert states(store, [key("r"), key("s")]) == {key("r"): fold(written[:2]), key("s"): fold(written[2:])}
    bring_to(store, TODOS)
    assert live(store) == [{"id": "r", "title": "a", "n": 2, "_created_at": 1, "_updated_at": 2}]
    assert tombstones(store) == [{"id": "s", "title": None, "n": None, "_created_at": 3, "_updated_at": 4}]
    assert states(store, [key("r"), key("s")]) == {key("r"): fold(written[:2]), key("s"): fold(written[2:])}
    late = {"title": "a", "n": 2}
    assert list(stamps(store).values()) == [late, late, {}, {}, None]


def test_a_new_field_shows_what_operations_carried_all_along(store: Store, node: Node) -> None:
    bring_to(store, ONLY_TITLE)
    apply(store, node.insert("a", {"title": "a", "n": 1}), node.insert("b", {"title": "b"}), node.insert("c", {"n": 3}))
    apply(store, node.delete("c"), node.update("a", {"n": 2}, atomic={"n": {"type": "increment", "value": 1}}))
    assert "n" not in live(store)[0]
    assert store.plan_upgrade(WITH_N).refills == {"todos": Refill("states", None, ["n"])}
    store.upgrade(WITH_N)
    apply(
        store, node.update("a", {"n": 0}, atomic={"n": {"type": "increment", "value": 5}}), node.insert("d", {"n": 4})
    )
    assert [record["n"] for record in live(store) if record["id"] in "ad"] == [7, 4]
    bring_to(store, WITH_N)
    assert [(record["id"], record["title"], record["n"]) for record in live(store)] == [
        ("a", "a", 7),
        ("b", "b", None),
        ("d", None, 4),
    ]
    assert [record["n"] for record in tombstones(store)] == [3]
    assert inside(store, lambda tx: live_ids(tx, WITH_N, {"n": 7})) == ["a"]
    assert inside(store, lambda tx: live_ids(tx, WITH_N, {"n": None})) == ["b"]
    assert store.plan_upgrade(WITH_N).refills == {}
    assert stamps(store) == {
        **{"node-a:1": (a := {"title": "a", "n": 7}), "node-a:5": a, "node-a:6": a},
        **{"node-a:3": (c := {"n": 3}), "node-a:4": c},
        **{"node-a:2": {}, "node-a:7": {"n": 4}},
    }


def test_a_field_that_is_gone_is_kept_for_the_day_it_comes_back(kind: StoreKind, store: Store, node: Node) -> None:
    bring_to(store, TODOS)
    apply(store, node.insert("a", {"title": "a", "n": 1}), node.insert("b", {"title": "b", "n": 2}))
    bring_to(store, schema_of(2, todos=TITLE))
    assert live(store) == [
        {"id": one, "title": one, "_created_at": at, "_updated_at": at} for one, at in (("a", 1), ("b", 2))
    ]
    apply(store, node.update("a", {"n": 7}), node.update("b", {"title": "new"}))
    with pytest.raises(QueryError):
        store.count_collection("todos", {"n": 1})
    if kind.tables and kind.dialect is Dialect.SQLITE:
        assert list(columns(store)) == ["id", "title", "n", "_created_at", "_updated_at", "_deleted"]
    bring_to(store, schema_of(3, todos=TITLE | {"n": "number"}))
    assert [(record["title"], record["n"]) for record in live(store)] == [("a", 7), ("new", 2)]


NO_STEPS: list[tuple[Kind, Kind, Any, Any]] = [
    ("string", "enum", "text", "text"),
    ("array", "string", ["a"], None),
    ("string", "json", "[]", "[]"),
    ("json", "object", 5, 5),
    ("timestamp", "boolean", 0, False),
]


@pytest.mark.parametrize(("before", "after", "value", "shown"), NO_STEPS)
def test_another_kind_in_the_same_column_is_no_reason_to_ask(
    kind: StoreKind, store: Store, node: Node, before: Kind, after: Kind, value: Any, shown: Any
) -> None:
    bring_to(store, schema_of(1, todos={"f": before}))
    apply(store, node.insert("r", {"f": value}))
    wanted = schema_of(2, todos={"f": after})
    if kind.dialect is Dialect.SQLITE:
        assert list(store.plan_upgrade(wanted).steps) == []
    bring_to(store, wanted, allow_destructive=kind.dialect is Dialect.POSTGRES)
    assert live(store)[0]["f"] == shown
    assert type(live(store)[0]["f"]) is type(shown)
    assert inside(store, lambda tx: live_ids(tx, wanted, {"f": shown})) == ["r"]


def test_another_type_needs_consent_and_makes_the_rows_again(kind: StoreKind, store: Store, node: Node) -> None:
    as_text = schema_of(2, todos={"title": "string", "n": "string"})
    bring_to(store, TODOS)
    apply(store, node.insert("a", {"n": 5}), node.insert("b", {"n": "five"}), node.insert("c", {"n": "5"}))
    assert [record["n"] for record in live(store)] == [5, None, None]
    plan = store.plan_upgrade(as_text)
    assert plan.is_destructive == kind.tables
    if kind.tables:
        with pytest.raises(MigrationNeeded, match=r"todos\.n .*--allow-destructive"):
            store.upgrade(as_text)
        assert store.plan_upgrade(as_text) == plan
        assert inside(store, lambda tx: (tx.shapes["todos"].kinds["n"], tx.refills())) == ("number", {})
        assert [record["n"] for record in live(store)] == [5, None, None]
        apply(store, node.update("a", {"n": 6}), node.update("a", {"n": 5}))
    bring_to(store, as_text, allow_destructive=True)
    assert [record["n"] for record in live(store)] == [None, "five", "5"]
    apply(store, node.insert("d", {"n": "6"}))
    assert inside(store, lambda tx: live_ids(tx, as_text, {"n": "5"})) == ["c"]
    bring_to(store, schema_of(3, todos={"title": "string", "n": "number"}), allow_destructive=True)
    assert [record["n"] for record in live(store)] == [5, None, None, None]
    assert inside(store, lambda tx: live_ids(tx, TODOS, {"n": 5})) == ["a"]


# -- collections that come and go -------------------------------------------------------------------------------------


def test_a_collection_that_was_gone_is_made_again_from_the_log(kind: StoreKind, store: Store, node: Node) -> None:
    bring_to(store, WITH_NOTES)
    apply(
        store,
        node.insert("a", {"title": "a"}, collection="notes"),
        node.insert("b", {"title": "b"}, collection="notes"),
    )
    apply(store, node.insert("t", {"title": "t"}))
    bring_to(store, schema_of(3, todos=TITLE))
    with pytest.raises(QueryError):
        live(store, "notes")
    apply(store, node.update("a", {"title": "new"}, collection="notes"), node.delete("b", collection="notes"))
    apply(store, node.insert("c", {"title": "c"}, collection="notes", at=3), node.update("t", {"title": "u"}))
    assert inside(store, lambda tx: tx.states([key("a", "notes")])) == {}
    assert [stamps(store)[f"node-a:{number}"] for number in (4, 5, 6)] == [None] * 3
    again = schema_of(4, todos=TITLE, notes=TITLE)
    assert store.plan_upgrade(again).refills == {"notes": Refill("log")}
    bring_to(store, again)
    assert [(record["id"], record["title"]) for record in live(store, "notes")] == [("a", "new"), ("c", "c")]
    assert [(record["id"], record["title"]) for record in tombstones(store, "notes")] == [("b", "b")]
    assert titles(store) == {"t": "u"}
    assert [stamps(store)[f"node-a:{number}"] for number in (1, 4, 5, 6)] == [
        {},
        {"title": "new"},
        {"title": "b"},
        {"title": "c"},
    ]
    if kind.tables and kind.dialect is Dialect.SQLITE:
        assert list(columns(store, "notes")) == ["id", "title", "_created_at", "_updated_at", "_deleted"]


def test_a_new_scope_is_stamped_on_the_log(store: Store, node: Node) -> None:
    """Values of any length, from then on; and older operations know of them too."""
    long = "x" * 300
    bring_to(store, TODOS)
    apply(store, node.insert("r", {"title": long, "n": 1}), node.update("r", {"n": 2}), node.insert("s", {"n": 3}))
    assert list(stamps(store).values()) == [{}, {"": ["title"]}, {}]
    scoped = schema_of(2, scope=["title"], todos={"title": "string", "n": "number"})
    assert store.plan_upgrade(scoped).refills == {"todos": Refill("states", None, ["title"])}
    bring_to(store, scoped)
    assert list(stamps(store).values()) == [{"title": long, "n": 2}, {"title": long, "n": 2}, {"title": None, "n": 3}]
    apply(store, node.update("r", {"n": 4}))
    assert stamps(store)["node-a:4"] == {"title": long}


# -- servers side by side ---------------------------------------------------------------------------------------------

OLD = TODOS
NEW = schema_of(2, scope=["owner"], todos={"title": "string", "n": "number", "owner": "string"}, notes=TITLE)


def test_an_older_schema_adds_and_removes_nothing(kind: StoreKind, store: Store, node: Node) -> None:
    bring_to(store, NEW)
    shapes = inside(store, lambda tx: dict(tx.shapes))
    old = beside(kind, store)
    assert not old.plan_upgrade(OLD).is_needed
    assert not old.upgrade(OLD).is_needed
    old.use_schema(OLD)
    apply(old, node.insert("r", {"title": "t", "owner": "o"}), node.insert("x", {"title": "n"}, collection="notes"))
    assert live(old) == [{"id": "r", "title": "t", "n": None, "_created_at": 1, "_updated_at": 1}]
    store.use_schema(OLD)
    assert "owner" not in live(store)[0]
    store.use_schema(NEW)
    apply(store, node.update("r", {"n": 1}))
    assert (live(store)[0]["owner"], live(store)[0]["n"], live(store, "notes")[0]["title"]) == ("o", 1, "n")
    assert list(stamps(store).values()) == [{}, {}, {"title": "t", "owner": "o"}]
    assert inside(old, lambda tx: (dict(tx.shapes), tx.refills())) == (shapes, {})
    if old is not store:
        assert live(old)[0]["n"] == 1
        old.close()


def test_an_older_schema_adds_what_is_missing(kind: StoreKind, store: Store, node: Node) -> None:
    bring_to(store, NEW)
    apply(store, node.insert("r", {"owner": "o", "legacy": "l"}))
    older = schema_of(1, scope=["legacy"], todos={"title": "string", "legacy": "string"}, more={"legacy": "string"})
    bring_to(store, older)
    new = beside(kind, store)
    assert inside(store, lambda tx: {name: [*shape.kinds] for name, shape in tx.shapes.items()}) == {
        "notes": ["title"],
        "todos": ["title", "n", "owner", "legacy"],
        "more": ["legacy"],
    }
    shape = inside(store, lambda tx: tx.shapes["todos"])
    assert (shape.version, shape.scoped) == (2, ["owner", "legacy"])
    assert live(store)[0]["legacy"] == "l"
    bring_to(new, NEW)
    assert live(new)[0]["owner"] == "o"
    if new is not store:
        new.close()


def test_a_schema_of_the_same_version_decides(store: Store, node: Node) -> None:
    bring_to(store, NEW)
    apply(store, node.insert("r", {"title": "t", "owner": "o"}))
    changed = schema_of(2, todos=TITLE)
    bring_to(store, changed)
    assert inside(store, lambda tx: dict(tx.shapes)) == {"todos": shape_of(changed.collections["todos"], 2)}
    assert live(store) == [{"id": "r", "title": "t", "_created_at": 1, "_updated_at": 1}]


def test_an_older_schema_leaves_another_type_alone(store: Store, node: Node) -> None:
    newer = schema_of(2, todos={"title": "string", "n": "string"})
    bring_to(store, newer)
    apply(store, node.insert("r", {"n": "five"}))
    assert not store.plan_upgrade(OLD).is_needed
    store.use_schema(OLD)
    store.use_schema(newer)
    assert live(store)[0]["n"] == "five"


@pytest.mark.parametrize("other_kind", DURABLE_STORES.values(), ids=DURABLE_STORES)
def test_another_servers_upgrade_counts_from_the_next_write(other_kind: StoreKind, tmp_path: Path, node: Node) -> None:
    old = other_kind(tmp_path)
    old.open()
    bring_to(old, ONLY_TITLE)
    apply(old, node.insert("a", {"title": "a", "n": 1}))
    new = beside(other_kind, old)
    new.upgrade(WITH_N)
    assert inside(old, lambda tx: tx.refills()) == {"todos": Refill("states", None, ["n"])}
    apply(old, node.insert("b", {"title": "b", "n": 2}))
    assert [record["n"] for record in live(new)][1:] == [2]
    bring_to(new, WITH_N)
    assert inside(old, lambda tx: tx.refills()) == {}
    apply(old, node.update("a", {"title": "new"}))
    assert [record["n"] for record in live(new)] == [1, 2]
    bring_to(new, schema_of(3, notes=TITLE))
    apply(old, node.insert("c", {"title": "c", "n": 3}))
    assert inside(old, lambda tx: [*tx.shapes]) == ["notes"]
    for one in (old, new):
        one.close()


@pytest.mark.parametrize("other_kind", DURABLE_STORES.values(), ids=DURABLE_STORES)
def test_shapes_of_a_write_that_failed_are_not_taken_for_another_servers(other_kind: StoreKind, tmp_path: Path) -> None:
    one = other_kind(tmp_path)
    one.open()
    bring_to(one, ONLY_TITLE)
    other = beside(other_kind, one)
    fail_after(one, lambda tx: tx.set_shapes({}, {}))
    with other.transaction() as tx:
        tx.set_refill("todos", Refill("log", "x"))
    assert inside(one, lambda tx: ([*tx.shapes], tx.refills())) == (["todos"], {"todos": Refill("log", "x")})
    other.close()
    one.close()


# -- reading by a schema ----------------------------------------------------------------------------------------------


def test_a_schema_is_used_only_when_the_tables_are_its_own(kind: StoreKind, store: Store, node: Node) -> None:
    with pytest.raises(MigrationNeeded):
        store.use_schema(ONLY_TITLE)
    with pytest.raises(QueryError, match="schema"):
        live(store)
    bring_to(store, ONLY_TITLE)
    apply(store, node.insert("a", {"title": "a", "n": 1}))
    store.use_schema(ONLY_TITLE)
    for other in (
        WITH_N,
        WITH_NOTES,
        schema_of(1, todos={"title": "number"}),
        schema_of(1, scope=["title"], todos=TITLE),
    ):
        with pytest.raises(MigrationNeeded):
            store.use_schema(other)
        assert titles(store) == {"a": "a"}
    if kind.tables:
        with pytest.raises(MigrationNeeded):
            store.use_schema(schema_of(1, indexes=["title"], todos=TITLE))
    store.upgrade(WITH_N)
    store.use_schema(WITH_N)  # its rows are not made again yet
    assert titles(store) == {"a": "a"}


@pytest.mark.parametrize("other_kind", DURABLE_STORES.values(), ids=DURABLE_STORES)
def test_a_store_that_is_opened_again_knows_no_schema_and_all_records(
    other_kind: StoreKind, tmp_path: Path, node: Node
) -> None:
    store = other_kind(tmp_path)
    store.open()
    bring_to(store, TODOS)
    apply(store, node.insert("a", {"title": "a"}))
    again = beside(other_kind, store)
    store.close()
    with pytest.raises(QueryError):
        live(again)
    again.use_schema(TODOS)
    assert titles(again) == {"a": "a"}
    assert not again.plan_upgrade(TODOS).is_needed
    apply(again, node.update("a", {"title": "b"}))
    assert titles(again) == {"a": "b"}
    again.close()


@pytest.mark.parametrize("present", ["id INTEGER PRIMARY KEY", "name TEXT"])
def test_a_table_in_the_way_is_refused_and_nothing_is_done(tmp_path: Path, present: str) -> None:
    store = RECORD_STORES["sqlite"](tmp_path)
    store.open()
    connection = apsw.Connection(str(sqlite_path(store)))
    connection.execute(f"CREATE TABLE todos ({present})")
    for call in (store.plan_upgrade, store.upgrade, store.use_schema):
        with pytest.raises(StoreError, match="todos"):
            call(schema_of(1, aaa=TITLE, todos=TITLE))
    assert connection.execute("SELECT name FROM sqlite_schema WHERE name IN ('aaa', 'todos')").fetchall() == [
        ("todos",)
    ]
    assert inside(store, lambda tx: dict(tx.shapes)) == {}
    connection.close()
    store.close()


def test_a_table_that_is_lost_is_made_again(tmp_path: Path, node: Node) -> None:
    store = RECORD_STORES["sqlite"](tmp_path)
    store.open()
    bring_to(store, TODOS)
    apply(store, node.insert("a", {"title": "a"}), node.insert("b", {"title": "b"}), node.insert("c", {"title": "c"}))
    connection = apsw.Connection(str(sqlite_path(store)))
    connection.execute("DROP TABLE todos")
    connection.close()
    assert store.plan_upgrade(TODOS).refills == {"todos": Refill("states")}
    with pytest.raises(MigrationNeeded):
        store.use_schema(TODOS)
    store.upgrade(TODOS)
    apply(store, node.update("a", {"title": "new"}), node.delete("b"))
    bring_to(store, TODOS)
    assert titles(store) == {"a": "new", "c": "c"}
    assert [record["title"] for record in tombstones(store)] == ["b"]
    store.close()


def test_without_a_schema_a_collection_is_a_plain_replay(store: Store, node: Node) -> None:
    twin = Node("twin")
    operations = [
        node.insert("a", {"title": "a", "n": 1, "id": "?"}),
        node.update("a", {"n": 2}, atomic={"n": {"type": "increment", "value": 1}}),
        node.update("a", {"n": 2}, atomic={"n": {"type": "increment", "value": 1}}),
        node.insert("b", {"title": "late"}, at=9),
        node.insert("b", {"title": "early", "n": 1}, at=8),
        node.insert("c", {}),
        node.delete("c"),
        node.update("d", {"title": "d"}),
        twin.insert("d", {"title": "before"}, at=(8, 0, "zzz")),
        node.insert("x", {}, collection="unlisted"),
    ]
    apply(store, *operations)
    plain = [{"id": "a", "title": "a", "n": 2}, {"id": "b", "title": "late"}, {"id": "d", "title": "d"}]
    assert store.materialize_collection("todos") == plain
    assert store.materialize_collection("unlisted") == [{"id": "x"}]
    assert store.materialize_collection("unknown") == []
    bring_to(store, TODOS)
    assert store.materialize_collection("todos") == store.query_collection("todos")
    assert [record["n"] for record in store.materialize_collection("todos")] == [3, None, None]
    assert store.materialize_collection("unlisted") == [{"id": "x"}]


def test_records_can_be_read_one_after_the_other(store: Store, node: Node) -> None:
    """As of the moment of the question, whatever is written meanwhile."""
    with pytest.raises(QueryError), store.stream_collection("todos"):
        pass
    bring_to(store, TODOS)
    apply(store, *(node.insert(one, {"title": one, "n": place}) for place, one in enumerate("abcd")))
    queries = [None, RecordQuery({"title": "b"}), RecordQuery({"title": 1}), RecordQuery(limit=2, offset=1)]
    for query in [*queries, RecordQuery(order_by="n", descending=True)]:
        with store.stream_collection("todos", query) as found:
            assert list(found) == store.query_collection("todos", query)
    with store.stream_collection("todos") as found:
        assert next(found)["id"] == "a"
        apply(store, node.delete("b"), node.update("c", {"title": "new"}), node.insert("e", {}))
        assert [record["title"] for record in found] == ["b", "c", "d"]
    with store.stream_collection("todos") as found:  # not read to its end
        assert next(found)["id"] == "a"
    apply(store, node.delete("a"))
    assert titles(store) == {"c": "new", "d": "d", "e": None}
    with pytest.raises(QueryError), store.stream_collection("todos", RecordQuery(order_by="m")):
        pass


def test_records_can_be_read_in_parts(store: Store, node: Node) -> None:
    """Each part begins behind the last id of the one before, whatever ids look like."""
    bring_to(store, TODOS)
    ids = ["", "a", "B", "é", "\uff5e", "😀", "a\x00", "a\x01", "\ud7ff", "\ud7ff\x01", "z" * 100]
    apply(store, *(node.insert(one, {"title": "t", "n": place % 3}) for place, one in enumerate(ids)))
    apply(store, node.delete("é"))
    for query in (RecordQuery(), RecordQuery({"n": 1}), RecordQuery({"title": "t"}, include_deleted=True)):
        whole = [record["id"] for record in store.query_collection("todos", query)]
        assert whole == sorted(whole)
        read: list[str] = []
        while part := store.query_collection("todos", replace(query, limit=2, after=read[-1] if read else None)):
            read += [record["id"] for record in part]
        assert read == whole
    assert [one["id"] for one in store.query_collection("todos", RecordQuery(after="\ud800"))][-1] == "😀"


QUESTIONS: list[tuple[str, dict[str, Any], QueryProblem, str]] = [
    ("unknown", {}, "unknown-collection", "todos"),
    ("operations", {}, "unknown-collection", "todos"),
    ("constructor", {}, "unknown-collection", "todos"),
    ("todos", {"where": {"m": 1}}, "unknown-field", "'m'.*title.*n"),
    ("todos", {"where": {"title": "a", "TITLE": "a"}}, "unknown-field", "TITLE"),
    ("todos", {"where": {"_version": 1}}, "unknown-field", "_created_at"),
    ("todos", {"where": {'"': 1}}, "unknown-field", "title"),
    ("todos", {"order_by": "m"}, "unknown-field", "_updated_at"),
    ("todos", {"order_by": "title desc"}, "unknown-field", "title"),
    ("todos", {"limit": -1}, "invalid-limit", "limit is -1"),
    ("todos", {"limit": 1.5}, "invalid-limit", "limit is 1.5"),
    ("todos", {"limit": True}, "invalid-limit", "limit is True"),
    ("todos", {"limit": "1"}, "invalid-limit", "limit is '1'"),
    ("todos", {"offset": -1}, "invalid-limit", "offset is -1"),
    ("todos", {"offset": 0.5}, "invalid-limit", "offset is 0.5"),
    ("todos", {"limit": 0, "offset": -5}, "invalid-limit", "offset is -5"),
    ("todos", {"after": "a", "order_by": "n"}, "invalid-after", "order of the ids"),
    ("todos", {"where": {"title": ["never"], "m": 1}}, "unknown-field", "'m'"),
]


@pytest.mark.parametrize(("collection", "options", "problem", "words"), QUESTIONS)
def test_a_question_that_can_not_be_asked_is_refused(
    store: Store, collection: str, options: dict[str, Any], problem: QueryProblem, words: str
) -> None:
    calls: list[Callable[[], object]] = [lambda: store.query_collection(collection, RecordQuery(**options))]
    if options.keys() <= {"where"}:
        calls.append(lambda: store.count_collection(collection, options.get("where")))
    for call in calls:
        with pytest.raises(QueryError) as refusal:
            call()
        assert refusal.value.problem == "no-schema"
    bring_to(store, TODOS)
    for call in calls:
        with pytest.raises(QueryError, match=words) as refusal:
            call()
        assert refusal.value.problem == problem
    if problem == "unknown-collection":
        with pytest.raises(QueryError):
            store.find_record(collection, "r")
