"""Rows that are made again on every store: in steps, beside live writes, and whatever was there before."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from kora_daemon.apply import refill as refilling
from kora_daemon.apply.refill import Progress, refill
from kora_daemon.materialization.fold import fold
from kora_daemon.materialization.shape import Refill
from kora_daemon.model.operation import Operation
from kora_daemon.model.schema import Kind, Schema
from kora_daemon.store.contract import Store
from tests.support.records import (
    Node,
    append,
    apply,
    bring_to,
    inside,
    key,
    live,
    live_ids,
    refill_all,
    schema_of,
    states,
    tombstones,
)
from tests.support.stores import RECORD_STORES, StoreKind, beside

TITLE: dict[str, Kind] = {"title": "string"}


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


def test_no_case_was_lost() -> None:
    assert (len(IDS), len(WAYS_BACK), len(INTERRUPTIONS)) == (7, 3, 11)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refilling, "MAX_RECORDS", 2)
    monkeypatch.setattr(refilling, "MAX_OPERATIONS", 3)


IDS = ["a", "b", "c", "d", "é", "\uff5e", "😀"]


def long_history(node: Node) -> list[Operation]:
    """Of each record some operations, in no order; of "c" more than fit into a step."""
    written = [node.insert(one, {"title": one, "n": place}, at=20 + place) for place, one in enumerate(IDS)]
    written += [node.update("c", {"n": at}, at=at) for at in (50, 40, 60, 30)]
    written += [node.delete("b", at=70), node.update("a", {"title": "older"}, at=1), node.delete("d", at=2)]
    return written + [node.insert(one, {"title": one}, collection="notes") for one in ("x", "y")]


BOTH = schema_of(1, todos={"title": "string", "n": "number"}, notes=TITLE)


def assert_all_is_there(store: Store, operations: list[Operation]) -> None:
    """Rows, states and what is found are those of a replay of the whole log."""
    expected = {one: fold([it for it in operations if it.record_id == one]) for one in IDS}
    assert states(store, map(key, IDS)) == {key(one): state for one, state in expected.items()}
    shown = {
        one: {"id": one, "title": state.fields.get("title"), "n": state.fields.get("n")}
        | {"_created_at": state.created_at_ms, "_updated_at": state.updated_at_ms}
        for one, state in expected.items()
    }
    assert live(store) == [shown[one] for one in IDS if expected[one].live]
    assert tombstones(store) == [shown[one] for one in IDS if not expected[one].live]
    with store.transaction() as tx:
        for one in IDS:
            assert live_ids(tx, BOTH, {"title": one}) == [
                it for it in IDS if expected[it].live and expected[it].fields.get("title") == one
            ]
        assert tx.record_ids("todos", None, 99, "states") == IDS
        assert tx.refills() == {}


WAYS_BACK = ["log", "states", "a new field"]


def begin(store: Store, way: str, operations: list[Operation]) -> None:
    """Leave the store with the operations and all rows still to be made."""
    if way == "log":
        apply(store, *operations)
        store.upgrade(BOTH)
        return
    bring_to(store, schema_of(1, todos=TITLE, notes=TITLE) if way == "a new field" else BOTH)
    apply(store, *operations)
    if way == "a new field":
        store.upgrade(schema_of(2, todos={"title": "string", "n": "number"}, notes=TITLE))
    else:
        with store.transaction() as tx:
            tx.set_refill("todos", Refill("states"))


INTERRUPTIONS = [
    *((2, 3, steps) for steps in range(6)),
    *((99, 3, steps) for steps in (0, 2, 3)),
    *((3, 1, steps) for steps in (0, 4)),
]


@pytest.mark.parametrize("way", WAYS_BACK)
@pytest.mark.parametrize(("max_records", "max_operations", "steps"), INTERRUPTIONS)
def test_rows_are_made_again_in_steps_that_may_be_interrupted(
    kind: StoreKind,
    store: Store,
    node: Node,
    way: str,
    max_records: int,
    max_operations: int,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refilling, "MAX_RECORDS", max_records)
    monkeypatch.setattr(refilling, "MAX_OPERATIONS", max_operations)
    operations = long_history(node)
    begin(store, way, operations)
    list(islice(refill(store), steps))
    other = beside(kind, store)
    if other is not store:
        store.close()
    bring_to(other, inside_schema(other))
    assert_all_is_there(other, operations)
    other.close()


def inside_schema(store: Store) -> Schema:
    version = inside(store, lambda tx: tx.shapes["todos"].version)
    return schema_of(version, todos=BOTH.collections["todos"].kinds, notes=TITLE)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("way", WAYS_BACK)
def test_the_same_schema_leaves_rows_that_are_being_made_where_they_are(store: Store, node: Node, way: str) -> None:
    begin(store, way, long_history(node))
    list(islice(refill(store), 3))
    before = inside(store, lambda tx: tx.refills())
    assert before["todos"].after is not None
    plan = store.plan_upgrade(inside_schema(store))
    assert (plan.is_needed, list(plan.steps), plan.refills) == (False, [], before)
    store.upgrade(inside_schema(store))
    assert inside(store, lambda tx: tx.refills()) == before


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("way", WAYS_BACK)
def test_writes_between_the_steps_count(store: Store, node: Node, way: str) -> None:
    operations = long_history(node)
    begin(store, way, operations)
    for number, _ in enumerate(islice(refill(store), 99)):
        for one in IDS[number % 2 :: 2]:
            more = [node.update(one, {"n": number}, at=80 + number), node.update(one, {"title": "x"}, at=15 + number)]
            apply(store, *more)
            operations += more
        gone = node.delete(IDS[number % len(IDS)], at=90 + number)
        apply(store, gone)
        operations.append(gone)
    assert_all_is_there(store, operations)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("way", ["log", "states"])
def test_progress_says_how_far_it_got(store: Store, node: Node, way: str) -> None:
    begin(store, way, long_history(node))
    steps = refill_all(store)
    assert refill_all(store) == []
    if way == "log":
        assert steps == [
            Progress("notes", 2, 2, "y"),
            Progress("notes", 0, 0, None),
            Progress("todos", 2, 4, "b"),
            Progress("todos", 1, 5, "c"),
            Progress("todos", 2, 3, "é"),
            Progress("todos", 2, 2, "😀"),
            Progress("todos", 0, 0, None),
        ]
    else:
        assert steps == [
            *(Progress("todos", 2, 0, after) for after in ("b", "d", "\uff5e")),
            Progress("todos", 1, 0, None),
        ]


@pytest.mark.usefixtures("small_steps")
def test_the_store_says_what_is_still_to_be_done(store: Store, node: Node) -> None:
    operations = long_history(node)
    begin(store, "log", operations)
    assert store.refills() == {"todos": Refill("log"), "notes": Refill("log")}
    todos = [one.record_id for one in operations if one.collection == "todos"]
    for after in (None, "", *IDS):
        left = sum(after is None or one > after for one in todos)
        assert store.count_history("todos", after) == left
    assert (store.count_history("notes"), store.count_history("unknown")) == (2, 0)
    done = 0
    for step in islice(refill(store), 99):
        assert (step.collection in store.refills()) == (step.after is not None)
        done += step.operations
        assert done + sum(store.count_history(name, todo.after) for name, todo in store.refills().items()) == len(
            operations
        )
    assert store.refills() == {}
    with store.transaction() as tx:
        tx.set_refill("todos", Refill("states"))
        append(tx, node.insert("new", {}))
        assert (store.refills(), store.count_history("todos")) == ({}, len(todos))
    assert (store.refills(), store.count_history("todos")) == ({"todos": Refill("states")}, len(todos) + 1)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("source", ["log", "states"])
@pytest.mark.parametrize("ghosts", [["0"], ["bb", "bc", "bd"], ["😀😀", "😁"], ["0", "aa", "cc", "😁"]])
def test_rows_that_nobody_wrote_are_gone_afterwards(store: Store, node: Node, source: str, ghosts: list[str]) -> None:
    operations = long_history(node)
    bring_to(store, BOTH)
    apply(store, *operations)
    ghost = fold([node.insert("?", {"title": "ghost"})])
    with store.transaction() as tx:
        tx.save({key(one): ghost for one in ghosts})
        tx.set_refill("todos", Refill("log"))
    assert len(live(store)) > len(IDS) - 2
    refill_all(store)
    assert_all_is_there(store, operations)
    with store.transaction() as tx:
        tx.replace_log({})
        tx.save({key(one): ghost for one in ghosts})
        tx.set_refill("todos", Refill("log"))
    refill_all(store)
    assert live(store) == tombstones(store) == []


@pytest.mark.usefixtures("small_steps")
def test_states_are_right_while_rows_are_still_to_be_made(store: Store, node: Node) -> None:
    operations = long_history(node)
    begin(store, "log", operations)
    todos = [one for one in operations if one.collection == "todos"]
    expected = {key(one): fold([it for it in todos if it.record_id == one]) for one in IDS}
    assert states(store, [*expected, key("unknown")]) == expected
    for _ in islice(refill(store), 99):
        assert states(store, [*expected, key("unknown")]) == expected


@pytest.mark.usefixtures("small_steps")
def test_a_schema_that_changes_again_starts_the_rows_anew(store: Store, node: Node) -> None:
    operations = long_history(node)
    begin(store, "a new field", operations)
    list(islice(refill(store), 1))
    assert inside(store, lambda tx: tx.refills()) == {"todos": Refill("states", "b", ["n"])}
    newest = schema_of(3, todos={"title": "string", "n": "number", "m": "number"}, notes=TITLE)
    assert store.plan_upgrade(newest).refills == {"todos": Refill("states", None, ["m", "n"])}
    bring_to(store, newest)
    assert [record["n"] for record in live(store) if record["id"] in "ac"] == [0, 60]


@pytest.mark.usefixtures("small_steps")
def test_a_log_that_was_not_read_to_its_end_is_read_again_when_the_schema_changes(store: Store, node: Node) -> None:
    operations = long_history(node)
    begin(store, "log", operations)
    list(islice(refill(store), 4))
    assert inside(store, lambda tx: tx.refills()) == {"todos": Refill("log", "c")}
    newer = schema_of(2, todos={"title": "string", "n": "number", "m": "number"}, notes=TITLE)
    assert store.plan_upgrade(newer).refills == {"todos": Refill("log", None, ["m"])}
    bring_to(store, newer)
    assert [record["id"] for record in live(store)] == ["a", "c", "d", "é", "\uff5e", "😀"]
    assert [record["title"] for record in tombstones(store)] == ["b"]


def test_another_servers_operations_are_in_the_rows_too(store: Store, node: Node) -> None:
    """Appended while rows were to be made, by somebody who saves nothing."""
    operations = long_history(node)
    begin(store, "log", operations)
    more = [node.update("a", {"n": 9}, at=99), node.insert("😀", {"n": 9}, at=99)]
    with store.transaction() as tx:
        append(tx, *more)
    bring_to(store, BOTH)
    assert_all_is_there(store, operations + more)
    late = node.update("d", {"n": 7}, at=99)
    apply(store, late)
    assert_all_is_there(store, [*operations, *more, late])
