"""What `kora_daemon.store.contract` promises about records inside write transactions, held against every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.errors import StoreError
from kora_daemon.materialization.fold import RecordState, fold
from kora_daemon.materialization.scope_keys import Selector, scope_key
from kora_daemon.materialization.shape import Refill
from kora_daemon.store.contract import Store, WriteTransaction
from tests.support.log import RECEIVED_AT_MS, log_ids
from tests.support.records import (
    TODOS,
    Node,
    append,
    apply,
    bring_to,
    commit,
    fail_after,
    inside,
    key,
    live,
    live_ids,
    put,
    schema_of,
    stamps,
    states,
    titles,
    tombstones,
)
from tests.support.stores import RECORD_STORES, StoreKind

NOTES = schema_of(2, todos={"title": "string", "n": "number"}, notes={"title": "string"})


@pytest.fixture(params=RECORD_STORES)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return RECORD_STORES[request.param]


@pytest.fixture
def store(kind: StoreKind, tmp_path: Path) -> Iterator[Store]:
    made = kind(tmp_path)
    made.open()
    bring_to(made, TODOS)
    yield made
    made.close()


@pytest.fixture
def node() -> Node:
    return Node()


def test_no_case_was_lost() -> None:
    assert {"memory", "sqlite"} <= RECORD_STORES.keys()
    assert (len(CHANGES), len(VALUES), len(STRANGE), len(LOOK_ALIKES)) == (11, 5, 7, 5)


# -- history ----------------------------------------------------------------------------------------------------------


def history(store: Store, record_id: str = "r") -> list[str]:
    return inside(store, lambda tx: [one.id for one in tx.history(key(record_id))])


def test_a_history_is_in_clock_order(store: Store) -> None:
    node = Node()
    places = [(5, 0, "b"), (5, 1, "a"), (4, 9, "z"), *((5, 0, one) for one in ("é", "B", "😀", "\uff5e")), (0, 0, "")]
    commit(store, *(node.update("r", {}, at=place) for place in places))
    in_order = sorted(range(len(places)), key=places.__getitem__)
    assert history(store) == [f"node-a:{number + 1}" for number in in_order]
    assert in_order == [7, 2, 4, 0, 3, 6, 5, 1]


def test_operations_with_equal_timestamps_are_in_delivery_order(store: Store) -> None:
    z, a = Node("z"), Node("a")
    place = (5, 0, "m")
    commit(store, z.update("r", {}, at=place), a.update("r", {}, at=place))
    commit(store, z.update("r", {}, at=place), a.update("r", {}, at=4))
    with store.transaction() as tx:
        append(tx, a.update("r", {}, at=place), z.update("r", {}, at=6), z.update("r", {}, at=place))
        assert [one.id for one in tx.history(key("r"))] == ["a:2", "z:1", "a:1", "z:2", "a:3", "z:4", "z:3"]


def test_a_history_is_that_of_one_record_with_all_that_is_written_so_far(store: Store, node: Node) -> None:
    commit(store, node.insert("r", {"title": "a"}), node.insert("s", {}), node.insert("r", {}, collection="notes"))
    with store.transaction() as tx:
        append(tx, node.update("s", {}), node.update("r", {"title": "b"}, at=0))
        append(tx, node.delete("r"))
        found = list(tx.history(key("r")))
        assert [one.id for one in found] == ["node-a:5", "node-a:1", "node-a:6"]
        assert [bytes(one.data) for one in found] == [b'{"title": "b"}', b'{"title": "a"}', b"null"]
        assert [one.id for one in tx.history(key("r", "notes"))] == ["node-a:3"]
        assert list(tx.history(key("unknown"))) == list(tx.history(key("r", "unknown"))) == []


# -- states -----------------------------------------------------------------------------------------------------------

STRANGE = ["é😀", "'; --", "nul\0", "nul", '"', "1", "%"]


def test_states_are_those_saved_for_each_record(store: Store, node: Node) -> None:
    operations = [node.insert(record_id, {"title": record_id}) for record_id in STRANGE]
    commit(store, *operations)
    found = states(store, [key(one) for one in [*STRANGE, "unknown", "nul"]])
    assert found == {key(one.record_id): fold([one]) for one in operations}
    assert states(store, []) == {}


VALUES = {
    "integers": [0, -1, 2**53, 10**30],
    "fractions": [0.1, 1e300, 5e-324],
    "texts": ["", "é東😀", "nul\0", "\ud800", "\udc00\ud83d", '"\\'],
    "nested": {"a": [None, True, {"z": 1, "a": {}}], "": []},
    "null": None,
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_state_comes_back_as_it_was_saved(store: Store, node: Node, value: Any) -> None:
    data = {"title": value, "unknown": value, "n": 1}
    written = [
        node.insert("r", data),
        node.update("r", {"n": 2}, atomic={"n": {"type": "increment", "value": 1}}),
        node.delete("r", at=(9, 3, "é")),
    ]
    commit(store, *written)
    assert states(store, [key("r")]) == {key("r"): fold(written)}
    assert states(store, [key("r")])[key("r")] == RecordState(
        1, (9, 3, "é"), False, data | {"n": 2}, {"n": "increment"}
    )


def test_a_state_is_of_its_collection(store: Store, node: Node) -> None:
    bring_to(store, NOTES)
    commit(store, node.insert("r", {"title": "todo"}), node.insert("r", {"title": "note"}, collection="notes"))
    found = states(store, [key("r"), key("r", "notes")])
    assert [found[one].fields["title"] for one in (key("r"), key("r", "notes"))] == ["todo", "note"]
    commit(store, node.delete("r", collection="notes"))
    assert [one.live for one in states(store, [key("r"), key("r", "notes")]).values()] == [True, False]
    assert (len(live(store)), len(live(store, "notes"))) == (1, 0)


def test_save_shows_the_record_at_once_and_after_the_commit(store: Store, node: Node) -> None:
    with store.transaction() as tx:
        append(tx, node.insert("r", {"title": "a", "n": 1}))
        tx.save({key("r"): RecordState(1, (1, 0, "a"), True, {"title": "first"}, {})})
        tx.save({})
        tx.save({key("r"): (second := RecordState(1, (2, 0, "a"), True, {"title": "second", "n": 2}, {}))})
        assert tx.states([key("r")]) == {key("r"): second}
        assert live_ids(tx, TODOS, {"title": "second"}) == ["r"]
        assert live_ids(tx, TODOS, {"title": "first"}) == []
    assert states(store, [key("r")]) == {key("r"): second}
    assert live(store) == [{"id": "r", "title": "second", "n": 2, "_created_at": 1, "_updated_at": 2}]


LOOK_ALIKES = [[1, True], [0, False, None], [[1], [True], ["1"]], [{"a": 0}, {"a": False}, {}], ["1", 1, "true", True]]


@pytest.mark.parametrize("values", LOOK_ALIKES)
def test_a_row_follows_its_state_where_values_only_look_the_same(store: Store, node: Node, values: list[Any]) -> None:
    bring_to(store, schema_of(2, todos={"meta": "json", "title": "string"}))
    for value in [*values, *reversed(values)]:
        apply(store, node.update("r", {"meta": value, "title": "x"}))
        (record,) = live(store)
        assert repr(record["meta"]) == repr(value)
        apply(store, node.update("r", {"title": "y"}))
        (record,) = live(store)
        assert (repr(record["meta"]), record["title"]) == (repr(value), "y")
    apply(store, node.insert("r", {"title": "new"}))
    assert [(record["meta"], record["title"]) for record in live(store)] == [(None, "new")]


def test_a_row_follows_its_state_within_one_write(store: Store, node: Node) -> None:
    commit(store, node.insert("r", {"title": "a", "n": 1}, at=10))
    with store.transaction() as tx:
        tx.states([key("r")])
        put(tx, node.update("r", {"n": 2}, at=11))
        put(tx, node.delete("r", at=12))
        put(tx, node.update("r", {"title": "early"}, at=3))
        put(tx, node.insert("s", {"n": 1}, at=4))
        put(tx, node.update("s", {"n": None}, at=5))
    assert tombstones(store) == [{"id": "r", "title": "a", "n": 2, "_created_at": 3, "_updated_at": 12}]
    assert live(store) == [{"id": "s", "title": None, "n": None, "_created_at": 4, "_updated_at": 5}]


def test_a_record_that_is_not_live_leaves_a_tombstone(store: Store, node: Node) -> None:
    commit(store, node.insert("r", {"title": "a", "n": 1}), node.delete("r"))
    commit(store, node.delete("never-live"))
    assert live(store) == []
    assert store.find_record("todos", "r") is None
    assert store.count_collection("todos") == 0
    assert tombstones(store) == [
        {"id": "never-live", "title": None, "n": None, "_created_at": 3, "_updated_at": 3},
        {"id": "r", "title": "a", "n": 1, "_created_at": 1, "_updated_at": 2},
    ]
    commit(store, node.update("r", {"n": 2}))
    assert live(store) == [{"id": "r", "title": "a", "n": 2, "_created_at": 1, "_updated_at": 4}]


# -- all or nothing ---------------------------------------------------------------------------------------------------


def other_shapes(tx: WriteTransaction) -> None:
    shapes = dict(tx.shapes)
    tx.set_shapes({}, {})
    tx.set_shapes({"more": shapes["todos"]}, {"more": Refill("log")})


def another_log(tx: WriteTransaction) -> None:
    tx.replace_log({})
    put(tx, Node("b").insert("r", {"title": "b"}))
    tx.restamp(key("r"), "{}", only_missing=False)
    tx.set_refill("todos", Refill("log"))
    tx.set_shapes({}, {})


CHANGES: dict[str, Callable[[WriteTransaction], None]] = {
    "append": lambda tx: put(tx, Node("b").insert("r", {}, collection="notes")),
    "save": lambda tx: put(tx, Node("b").delete("r", at=99), Node("c").insert("new", {"title": "c"})),
    "set_shapes": lambda tx: tx.set_shapes({}, {}),
    "set_shapes twice": other_shapes,
    "set_refill": lambda tx: tx.set_refill("todos", None),
    "set_refill again": lambda tx: tx.set_refill("todos", Refill("log", "m", ["n"])),
    "replace_records": lambda tx: tx.replace_records("todos", None, None, {}),
    "replace one record": lambda tx: tx.replace_records("todos", "a", "r", tx.states([key("s")])),
    "restamp": lambda tx: tx.restamp(key("r"), '{"title":"new"}', only_missing=False),
    "replace_log": lambda tx: tx.replace_log({"z": 9}),
    "everything": another_log,
}


def everything(store: Store) -> dict[str, Any]:
    """All that can be seen of a store from outside, and from the next transaction."""
    with store.transaction() as tx:
        within = {
            "shapes": dict(tx.shapes),
            "refills": tx.refills(),
            "stale": tx.stale_records(),
            "states": tx.states([key("r"), key("s"), key("new")]),
            "history": [one.id for one in tx.history(key("r"))],
            "found": [live_ids(tx, TODOS, {"title": one}) for one in ("b", "x") if "todos" in tx.shapes],
            "ids": [tx.record_ids("todos", None, 9, source) for source in ("log", "states")],
        }
    return within | outside(store)


def outside(store: Store) -> dict[str, Any]:
    return {
        "log": log_ids(store),
        "stamps": stamps(store),
        "vector": store.version_vector(),
        "frontier": store.frontier(),
        "live": live(store),
        "tombstones": tombstones(store),
        "count": store.count_collection("todos"),
        "record": store.find_record("todos", "r"),
        "upgrade": store.plan_upgrade(NOTES),
        "replay": store.materialize_collection("notes"),
    }


@pytest.fixture
def filled(store: Store, node: Node) -> Store:
    apply(store, node.insert("r", {"title": "x", "n": 1}), node.insert("s", {"title": "x"}), node.delete("s"))
    with store.transaction() as tx:
        append(tx, node.insert("q", {"title": "x"}, collection="notes"))
        tx.set_refill("todos", Refill("states", "q", ["n"]))
        tx.save({})
        append(tx, node.update("s", {"n": 5}))
        assert live_ids(tx, TODOS, {"title": "x"}) == ["r"]
    return store


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("failure", [RuntimeError, StoreError])
def test_what_fails_leaves_no_trace(
    filled: Store, change: Callable[[WriteTransaction], None], failure: type[Exception]
) -> None:
    before = everything(filled)
    fail_after(filled, change, failure=failure)
    assert everything(filled) == before
    with filled.transaction() as tx:
        change(tx)
    assert everything(filled) != before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_reader_sees_nothing_of_a_change_before_its_commit(
    filled: Store, change: Callable[[WriteTransaction], None]
) -> None:
    with ThreadPoolExecutor(1) as thread:
        before = thread.submit(outside, filled).result()
        with filled.transaction() as tx:
            change(tx)
            assert thread.submit(outside, filled).result() == before


def test_readers_beside_a_writer_see_records_of_whole_writes(store: Store) -> None:
    """Two records that are always written together are always seen alike."""
    node = Node()
    commit(store, node.insert("a", {"n": 0}), node.insert("b", {"n": 0}))

    def read() -> int:
        reads = 0
        while True:
            records = live(store)
            assert len({record["n"] for record in records}) == 1
            assert len(records) == store.count_collection("todos") == 2
            reads += 1
            if records[0]["n"] == 60:
                return reads

    with ThreadPoolExecutor(3) as threads:
        readers = [threads.submit(read) for _ in range(3)]
        for number in range(1, 61):
            commit(store, node.update("a", {"n": number}), node.update("b", {"n": number}))
        assert all(reader.result(timeout=60) for reader in readers)


# -- stale records ----------------------------------------------------------------------------------------------------


def test_records_are_stale_once_somebody_appended_without_saving(store: Store, node: Node) -> None:
    assert inside(store, lambda tx: tx.stale_records()) == []
    commit(store, node.insert("a", {}))
    assert inside(store, lambda tx: tx.stale_records()) == []
    with store.transaction() as tx:
        append(tx, node.insert("b", {}), node.insert("c", {}, collection="notes"), node.update("a", {}))
        append(tx, node.update("b", {}))
        assert sorted(tx.stale_records()) == [key("a"), key("b")]
    assert sorted(inside(store, lambda tx: tx.stale_records())) == [key("a"), key("b")]
    assert sorted(inside(store, lambda tx: tx.stale_records())) == [key("a"), key("b")]
    with store.transaction() as tx:
        tx.save({one: fold(tx.history(one)) for one in tx.stale_records()})
        assert tx.stale_records() == []
    assert inside(store, lambda tx: tx.stale_records()) == []


def test_operations_of_collections_without_a_table_leave_nothing_stale(store: Store, node: Node) -> None:
    with store.transaction() as tx:
        append(tx, node.insert("a", {}, collection="notes"))
        assert tx.stale_records() == []
    commit(store, node.insert("a", {}, collection="notes"))
    assert inside(store, lambda tx: tx.stale_records()) == []


def test_without_shapes_nothing_is_stale(kind: StoreKind, tmp_path: Path, node: Node) -> None:
    store = kind(tmp_path)
    store.open()
    with store.transaction() as tx:
        append(tx, node.insert("a", {"title": "x"}))
        assert (tx.stale_records(), dict(tx.shapes), tx.refills()) == ([], {}, {})
    store.upgrade(TODOS)
    assert inside(store, lambda tx: tx.stale_records()) == []
    assert inside(store, lambda tx: tx.refills()) == {"todos": Refill("log")}
    store.close()


@pytest.mark.parametrize("earlier", [True, False], ids=["a log with records", "an empty log"])
def test_what_is_stale_stays_so_when_the_schema_changes(store: Store, node: Node, earlier: bool) -> None:
    if earlier:
        commit(store, node.insert("a", {"title": "a"}))
    with store.transaction() as tx:
        append(tx, node.insert("b", {"title": "b"}))
    store.upgrade(NOTES)
    assert inside(store, lambda tx: tx.stale_records()) == [key("b")]
    apply(store, node.insert("c", {"title": "c"}))
    assert titles(store).items() >= {"b": "b", "c": "c"}.items()


def test_making_rows_again_does_not_settle_what_is_stale(store: Store, node: Node) -> None:
    commit(store, node.insert("a", {}))
    with store.transaction() as tx:
        append(tx, node.insert("b", {}))
        tx.replace_records("todos", None, None, tx.states([key("a")]))
        tx.set_refill("todos", None)
        tx.restamp(key("a"), "{}", only_missing=False)
        assert tx.stale_records() == [key("b")]
    assert inside(store, lambda tx: tx.stale_records()) == [key("b")]


def test_the_pipeline_sees_to_what_another_server_has_written(store: Store, node: Node) -> None:
    apply(store, node.insert("a", {"title": "old"}), node.insert("c", {"title": "c"}))
    with store.transaction() as tx:
        append(tx, node.update("a", {"title": "new"}), node.insert("b", {"title": "b"}), node.delete("c", at=1))
        append(tx, node.insert("a", {"title": "before"}, at=0))
    assert titles(store) == {"a": "old", "c": "c"}
    apply(store, node.insert("d", {"title": "d"}))
    assert titles(store) == {"a": "new", "b": "b", "c": "c", "d": "d"}
    assert live(store)[0]["_created_at"] == 0
    assert inside(store, lambda tx: tx.stale_records()) == []


def test_a_state_can_be_saved_for_an_operation_that_has_not_been_appended(store: Store, node: Node) -> None:
    """Order of the two within a transaction is the caller's."""
    with store.transaction() as tx:
        tx.save({key("a"): fold([written := node.insert("a", {"title": "x"})])})
        assert tx.append([written], RECEIVED_AT_MS) == [1]
        assert tx.stale_records() == [key("a")]


# -- late operations --------------------------------------------------------------------------------------------------


def test_a_late_operation_stands_behind_those_with_its_timestamp(store: Store) -> None:
    a, b = Node("a"), Node("b")
    same = (5, 0, "m")
    apply(store, a.update("r", {"title": "first"}, at=same), a.update("r", {"n": 1}, at=9))
    apply(store, b.update("r", {"title": "second"}, at=same))
    assert titles(store) == {"r": "second"}
    apply(store, b.update("r", {"title": "before"}, at=4), a.update("r", {"title": "third"}, at=same))
    assert titles(store) == {"r": "third"}
    assert states(store, [key("r")]) == {key("r"): fold(inside(store, lambda tx: list(tx.history(key("r")))))}


def test_a_late_operation_is_stamped_with_what_the_record_is_with_it(store: Store, node: Node) -> None:
    apply(store, node.update("r", {"title": "gone"}, at=1), node.update("r", {"n": 2}, at=9))
    apply(store, node.insert("r", {}, at=5))
    apply(store, node.delete("r", at=3), node.insert("r", {"n": 1}, at=8))
    assert list(stamps(store).values()) == [{}, {"title": "gone"}, {"n": 2}, {"n": 2}, {"n": 2}]
    assert live(store) == [{"id": "r", "title": None, "n": 2, "_created_at": 1, "_updated_at": 9}]


def test_a_reader_looks_up_what_records_are_now(store: Store, node: Node) -> None:
    insert = node.insert("r1", {"title": "one", "n": 3, "ghost": 1})
    apply(store, insert, node.update("r1", {"title": "two"}), node.insert("r2", {"title": "gone"}), node.delete("r2"))
    with store.transaction() as tx:
        append(tx, node.insert("x1", {"any": [1]}, collection="free"), node.update("x1", {"b": 2}, collection="free"))
    keys = [key("r1"), key("r2"), key("r3"), key("x1", "free"), key("x2", "free"), key("r1")]
    found = store.current_fields(keys)
    assert {one: {n: v for n, v in fields.items() if v is not None} for one, fields in found.items()} == {
        key("r1"): {"id": "r1", "title": "two", "n": 3},
        key("r2"): {"id": "r2", "title": "gone"},
        key("x1", "free"): {"id": "x1", "any": [1], "b": 2},
    }
    assert found[key("r2")]["n"] is None
    assert store.current_fields([]) == {}


def test_a_record_is_moved_to_the_end_of_the_log_whole(store: Store, node: Node) -> None:
    bring_to(store, schema_of(2, scope=["title"], todos={"title": "string", "n": "number"}))
    apply(store, node.insert("r", {"title": "a"}), node.insert("s", {"title": "a"}), node.update("r", {"n": 1}))
    with store.transaction() as tx:
        put(tx, node.update("r", {"title": "b"}))
        tx.restamp(key("r"), '{"title":"b","n":1}', only_missing=False)
        moved = [(one.operation.id, one.sequence) for one in tx.requeue(key("r"))]
    assert moved == [("node-a:1", 5), ("node-a:3", 6), ("node-a:4", 7)]
    apply(store, node.insert("t", {"title": "b"}))
    found = [(one.operation.id, one.sequence) for one in store.entries_after(0, 100)]
    assert found == [("node-a:2", 2), *moved, ("node-a:5", 8)]
    assert store.frontier() == 8
    assert {one.stamp for one in store.deliveries_at([5, 6, 7])} == {'{"title":"b","n":1}'}
    assert [one.id for one in store.operation_range("node-a", 3, 4)] == ["node-a:3", "node-a:4"]
    titled = Selector("todos", (scope_key("todos", "title", "b") or 0,))
    selected = store.deliveries_selected([titled], 0, 99, 10, 1 << 20)
    if selected is not None:
        assert [one.sequence for one in selected] == [5, 6, 7, 8]
    assert inside(store, lambda tx: tx.stale_records()) == []
    assert inside(store, lambda tx: [one.id for one in tx.history(key("r"))]) == ["node-a:1", "node-a:3", "node-a:4"]


def test_what_is_moved_stays_where_it_was_when_the_write_fails(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"title": "a"}), node.insert("s", {"title": "a"}))
    fail_after(store, lambda tx: tx.requeue(key("r")))
    assert log_ids(store) == ["node-a:1", "node-a:2"]
    assert inside(store, lambda tx: tx.requeue(key("nobody"))) == []
