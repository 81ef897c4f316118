"""What every store finds by its scope index, as the contract promises; a store without one says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from kora_daemon.apply.pipeline import Pipeline
from kora_daemon.materialization.scope_keys import Selector, scope_key
from kora_daemon.model.operation import Operation
from kora_daemon.model.schema import Kind
from kora_daemon.store.contract import Store
from tests.support.log import RECEIVED_AT_MS
from tests.support.records import Node, append, apply, bring_to, refill_all, schema_of
from tests.support.stores import DURABLE_STORES, RECORD_STORES

FIELDS: dict[str, Kind] = {"owner": "string", "org": "number", "done": "boolean", "title": "string"}
SCHEMA = schema_of(1, scope=["owner", "org", "done"], todos=FIELDS, notes=FIELDS, plain={"title": "string"})
LOTS = 1 << 30
INDEXED = list(DURABLE_STORES)


@pytest.fixture(params=INDEXED)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = RECORD_STORES[request.param](tmp_path)
    made.open()
    bring_to(made, SCHEMA)
    yield made
    made.close()


@pytest.fixture
def node() -> Node:
    return Node()


def where(collection: str = "todos", **fields: Any) -> Selector:
    keys = [scope_key(collection, name, value) for name, value in fields.items()]
    assert None not in keys
    return Selector(collection, tuple(key for key in keys if key is not None))


def found(store: Store, *selectors: Selector, after: int = 0, upto: int = LOTS, limit: int = 1_000) -> list[int]:
    entries = store.deliveries_selected(selectors, after, upto, limit, LOTS)
    assert entries is not None
    return [entry.sequence for entry in entries]


def owned(node: Node, *owners: str, **more: Any) -> list[Operation]:
    """A new record for each owner."""
    return [node.insert(f"{node.name}-r{n}", {"owner": owner, **more}) for n, owner in enumerate(owners, node.count)]


def test_a_store_without_an_index_says_so(tmp_path: Path) -> None:
    store = RECORD_STORES["memory"](tmp_path)
    store.open()
    assert store.deliveries_selected([where()], 0, LOTS, 10, LOTS) is None
    assert store.authors_selected([where()], 0) is None


def test_operations_are_found_by_a_value(store: Store, node: Node) -> None:
    apply(store, *owned(node, "a", "b", "a", "c"))
    assert found(store, where(owner="a")) == [1, 3]
    assert found(store, where(owner="b")) == [2]
    assert found(store, where(owner="d")) == []
    assert found(store, where("notes", owner="a")) == []
    assert found(store, where(org=None)) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "also", "other"),
    [(1, 1.0, True), (0, -0.0, False), (True, True, 1), (None, None, "null"), ("1", "1", 1), ("é", "é", "e\u0301")],
)
def test_values_are_those_that_scopes_compare(value: Any, also: Any, other: Any) -> None:
    assert scope_key("todos", "f", value) == scope_key("todos", "f", also)
    assert scope_key("todos", "f", value) != scope_key("todos", "f", other)


def test_what_equals_nothing_has_no_key() -> None:
    assert scope_key("todos", "f", []) is None
    assert scope_key("todos", "f", {"a": 1}) is None


def test_names_and_values_do_not_run_together() -> None:
    keys = {scope_key("a", "bc", "d"), scope_key("ab", "c", "d"), scope_key("a", "b", "cd"), scope_key("a", "bc", "e")}
    assert len(keys) == 4


def test_all_keys_of_a_selector_have_to_fit_and_any_selector_will_do(store: Store, node: Node) -> None:
    apply(store, *owned(node, "a", "b", org=1), *owned(node, "a", "b", org=2), *owned(node, "c"))
    assert found(store, where(owner="a", org=2)) == [3]
    assert found(store, where(owner="a", org=3)) == []
    assert found(store, where(owner="a", org=1, done=None)) == [1]
    assert found(store, where(owner="a", org=1, done=True)) == []
    assert found(store, where(owner="a"), where(org=2)) == [1, 3, 4]
    assert found(store, where(owner="c"), where(owner="c")) == [5]


def test_a_selector_without_keys_is_a_whole_collection(store: Store, node: Node) -> None:
    elsewhere = [node.write("insert", "x", {"title": "t"}, collection=name) for name in ("plain", "unlisted", "notes")]
    apply(store, *owned(node, "a"), *elsewhere, *owned(node, "b"))
    assert found(store, where()) == [1, 5]
    assert found(store, where("unlisted")) == [3]
    assert found(store, where("plain"), where(owner="b")) == [2, 5]


def test_only_the_part_of_the_log_that_is_asked_for(store: Store, node: Node) -> None:
    apply(store, *owned(node, *"abababab"))
    assert found(store, where(owner="a"), after=1, upto=5) == [3, 5]
    assert found(store, where(owner="a"), where(), after=2, upto=4) == [3, 4]
    assert found(store, where(owner="a"), after=7) == []
    assert found(store, where(owner="a"), limit=2) == [1, 3]
    assert found(store, where(owner="b"), where(owner="a"), after=2, limit=3) == [3, 4, 5]
    assert found(store, where(owner="b"), where(owner="a"), limit=0) == []


def test_a_page_ends_behind_the_entry_that_makes_it_too_large(store: Store, node: Node) -> None:
    apply(store, *owned(node, "a", "b", "a", "a", title="x" * 500))
    entries = store.deliveries_selected([where(owner="a")], 0, LOTS, 100, 1_200)
    assert entries is not None
    assert [entry.sequence for entry in entries] == [1, 3]
    entries = store.deliveries_selected([where(owner="a")], 0, LOTS, 100, 1)
    assert entries is not None
    assert [entry.sequence for entry in entries] == [1]


def test_what_is_found_is_the_whole_entry(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"owner": "a", "title": "t"}), node.update("r", {"title": "u"}))
    entries = store.deliveries_selected([where(owner="a")], 0, LOTS, 100, LOTS)
    assert entries == store.deliveries_after(0, 100, LOTS)


def test_partial_updates_and_deletes_stand_under_what_their_record_is(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"owner": "a"}), node.update("r", {"title": "t"}), node.delete("r"))
    assert found(store, where(owner="a")) == [1, 2, 3]


def test_a_record_that_moves_takes_its_operations_along(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"owner": "a"}), node.update("r", {"title": "t"}))
    apply(store, node.update("r", {"owner": "b"}), node.delete("r"))
    assert found(store, where(owner="b")) == [1, 2, 3, 4]
    # What an operation says itself counts as well (scopes.md section 3).
    assert found(store, where(owner="a")) == [1]
    apply(store, node.update("r", {"owner": "c"}))
    assert found(store, where(owner="b")) == [3]
    assert found(store, where(owner="c")) == [1, 2, 3, 4, 5]


def test_a_record_that_loses_its_value_stands_under_null(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"owner": "a"}), node.update("r", {"title": "t"}), node.update("r", {"owner": None}))
    assert found(store, where(owner="a")) == [1], "what it says itself counts, and nothing else"
    assert found(store, where(owner=None)) == [1, 2, 3]
    apply(store, node.insert("s", {"owner": "b"}), node.insert("s", {"title": "without"}))
    assert found(store, where(owner="b")) == [4]
    assert found(store, where(owner=None)) == [1, 2, 3, 4, 5]


def test_one_and_true_are_two_values(store: Store, node: Node) -> None:
    bring_to(store, schema_of(2, scope=["tag"], todos={"tag": "json", "title": "string"}))
    apply(store, node.insert("r", {"tag": 1}), node.update("r", {"title": "t"}))
    apply(store, node.update("r", {"tag": True}))
    assert found(store, where(tag=True)) == [1, 2, 3]
    assert found(store, where(tag=1)) == [1]


def test_a_late_move_that_loses_moves_nothing(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"owner": "a"}, at=10), node.update("r", {"owner": "b"}, at=20))
    apply(store, node.update("r", {"owner": "c"}, at=15), node.update("r", {"title": "t"}, at=16))
    assert found(store, where(owner="b")) == [1, 2, 3, 4]
    assert found(store, where(owner="c")) == [3]


def test_a_move_within_one_write(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"owner": "a"}), node.update("r", {"title": "t"}), node.update("r", {"owner": "b"}))
    assert found(store, where(owner="b")) == [1, 2, 3]
    assert found(store, where(owner="a")) == [1]


@pytest.mark.parametrize(
    "text",
    [
        '{"owner":"b"}',
        '{"title":"t","owner":"b"}',
        r'{"\u006fwner":"b"}',
        r'{"owner":"\u0062"}',
    ],
)
def test_previous_data_counts_however_it_is_written(store: Store, node: Node, text: str) -> None:
    update = node.update("r", {"title": "t"})
    update.previous_data = Raw(text.encode())
    apply(store, node.insert("r", {"owner": "a"}, at=0), update)
    assert found(store, where(owner="b")) == [2]


def test_names_that_need_escapes_count_as_well(store: Store, node: Node) -> None:
    bring_to(store, schema_of(2, scope=["propriétaire"], todos={"propriétaire": "string", "title": "string"}))
    update = node.update("r", {"title": "t"})
    update.previous_data = Raw(json.dumps({"propriétaire": "b"}).encode())
    apply(store, node.insert("r", {"propriétaire": "a"}, at=0), update)
    assert found(store, where(propriétaire="b")) == [2]


def test_a_write_that_fails_is_not_found(store: Store, node: Node) -> None:
    def write() -> None:
        with store.transaction() as tx:
            Pipeline(store.node_id).apply_batches(tx, [owned(node, "a")], RECEIVED_AT_MS)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert found(store, where(owner="a"), where()) == []
    apply(store, *owned(node, "b"))
    assert found(store, where(owner="a")) == []


def test_a_log_that_is_replaced_takes_its_index_along(store: Store, node: Node) -> None:
    apply(store, *owned(node, "a", "b"))
    with store.transaction() as tx:
        tx.replace_log({})
    _, kept = apply(store, *owned(node, "b", "a"))
    assert found(store, where(owner="a")) == [kept.sequence]
    assert len(found(store, where())) == 2


def test_who_wrote_what_is_found(store: Store) -> None:
    one, two, three = Node("one"), Node("é\0"), Node("three")
    apply(store, *owned(one, "a"), *owned(two, "b"), *owned(three, "a", "b"), *owned(one, "c"))
    assert store.authors_selected([where(owner="a")], 0) == {"one", "three"}
    assert store.authors_selected([where(owner="b")], 0) == {"é\0", "three"}
    assert store.authors_selected([where(owner="a")], 1) == {"three"}
    assert store.authors_selected([where()], 3) == {"three", "one"}
    assert store.authors_selected([where(owner="a"), where(owner="c")], 3) == {"one"}
    assert store.authors_selected([where(owner="nobody")], 0) == set()


def knows(store: Store) -> bool:
    """Whether the index knows all of the log now."""
    entries = store.deliveries_selected([where()], 0, LOTS, 10, LOTS)
    authors = store.authors_selected([where()], 0)
    assert (entries is None) == (authors is None)
    return entries is not None


def test_it_does_not_answer_for_what_another_kind_of_server_has_written(store: Store, node: Node) -> None:
    apply(store, *owned(node, "a"))
    assert knows(store)
    with store.transaction() as tx:
        append(tx, node.insert("foreign", {"owner": "a"}), node.update("a-r0", {"owner": "b"}))
    assert not knows(store)
    apply(store, *owned(node, "c"))
    assert knows(store)
    assert found(store, where(owner="a")) == [1, 2]
    assert found(store, where(owner="b")) == [3]


def test_a_record_that_another_kind_of_server_has_moved_takes_its_operations_along(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"owner": "a"}), node.update("r", {"title": "t"}))
    with store.transaction() as tx:
        append(tx, node.update("r", {"owner": "b"}))
    apply(store, node.insert("s", {"owner": "c"}))
    assert found(store, where(owner="b")) == [1, 2, 3]
    assert found(store, where(owner="a")) == [1]


def test_it_does_not_answer_while_rows_are_made_again(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"owner": "a", "title": "t"}))
    wider = schema_of(2, scope=["owner", "org", "done", "title"], todos=FIELDS, notes=FIELDS, plain={"title": "string"})
    store.upgrade(wider)
    assert not knows(store)
    refill_all(store)
    assert knows(store)
    assert found(store, where(title="t")) == [1]
    assert found(store, where(owner="a")) == [1]


def test_a_field_that_scopes_go_by_from_now_on_is_indexed_for_all_there_is(store: Store) -> None:
    node = Node()
    apply(store, *(node.write("insert", f"p{n}", {"title": title}, collection="plain") for n, title in enumerate("ab")))
    assert found(store, where("plain", title="a")) == []
    bring_to(store, SCHEMA.with_scopes({"plain": ["title"]}))
    assert found(store, where("plain", title="a")) == [1]
    assert found(store, where("plain", title="b")) == [2]


def sequences(entries: Sequence[Any]) -> list[int]:
    return [entry.sequence for entry in entries]


@pytest.mark.parametrize("name", DURABLE_STORES)
def test_it_outlives_the_server_and_others_use_it(name: str, tmp_path: Path) -> None:
    kind = DURABLE_STORES[name]
    store = kind(tmp_path)
    store.open()
    bring_to(store, SCHEMA)
    apply(store, *owned(Node(), "a", "b"))
    store.close()
    assert kind.another is not None
    other = kind.another(store)
    other.open()
    assert found(other, where(owner="b")) == [2]
    other.close()
