"""What stores promise about the log under the records: stamps, replacement, one moment; and rows that are replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kora_daemon.errors import StoreError
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.fold import fold
from kora_daemon.materialization.shape import Refill
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import Record, RecordKey
from kora_daemon.store.contract import Store, WriteTransaction
from tests.support.log import RECEIVED_AT_MS, log_ids, plains
from tests.support.records import (
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
from tests.support.stores import DURABLE_STORES, RECORD_STORES, StoreKind

BOTH = schema_of(todos={"title": "string", "n": "number"}, notes={"title": "string"})


@pytest.fixture(params=RECORD_STORES)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return RECORD_STORES[request.param]


@pytest.fixture
def store(kind: StoreKind, tmp_path: Path) -> Iterator[Store]:
    made = kind(tmp_path)
    made.open()
    bring_to(made, BOTH)
    yield made
    made.close()


@pytest.fixture
def node() -> Node:
    return Node()


def test_no_case_was_lost() -> None:
    assert len(BOUNDS) == 7


# -- stamps -----------------------------------------------------------------------------------------------------------


def test_stamps_come_back_with_their_operations(store: Store, node: Node) -> None:
    given = ['{"title":"é😀"}', None, "{}", r'{"title":"\ud800"}']
    with store.transaction() as tx:
        assert tx.append([node.insert(str(one), {}) for one in range(4)], RECEIVED_AT_MS, given) == [1, 2, 3, 4]
        append(tx, node.insert("4", {}))
    assert [entry.stamp for entry in store.entries_after(0, 9)] == [*given, None]
    assert [entry.stamp for entry in store.deliveries_at([4, 2, 1])] == [given[3], given[1], given[0]]


def test_there_is_a_stamp_for_each_operation_or_none_at_all(store: Store, node: Node) -> None:
    written = [node.insert("a", {}), node.insert("b", {})]
    fail_after(store, lambda tx: tx.append(written, RECEIVED_AT_MS, ["{}"]), failure=ValueError)
    assert log_ids(store) == []


@pytest.mark.parametrize("only_missing", [True, False])
def test_the_operations_of_one_record_get_another_stamp(store: Store, node: Node, only_missing: bool) -> None:
    written = [
        node.insert("r", {}),
        node.update("r", {}),
        node.insert("s", {}),
        node.insert("r", {}, collection="notes"),
    ]
    with store.transaction() as tx:
        tx.append(written, RECEIVED_AT_MS, [None, '{"n":1}', None, None])
        assert tx.append([node.delete("r")], RECEIVED_AT_MS, ['{"n":2}']) == [5]
    with store.transaction() as tx:
        tx.restamp(key("r"), '{"n":3}', only_missing=only_missing)
        tx.restamp(key("unknown"), '{"n":4}', only_missing=False)
    expected = (
        [{"n": 3}, {"n": 1}, None, None, {"n": 2}] if only_missing else [{"n": 3}, {"n": 3}, None, None, {"n": 3}]
    )
    assert list(stamps(store).values()) == expected
    assert [entry.stamp for entry in store.deliveries_at([1, 3])] == ['{"n":3}', None]


@pytest.mark.parametrize("only_missing", [True, False])
def test_operations_that_follow_in_the_same_write_keep_their_own_stamp(
    store: Store, node: Node, only_missing: bool
) -> None:
    commit(store, node.insert("r", {}))
    with store.transaction() as tx:
        tx.append([node.update("r", {})], RECEIVED_AT_MS, ['{"n":1}'])
        tx.restamp(key("r"), '{"n":2}', only_missing=only_missing)
        tx.append([node.update("r", {})], RECEIVED_AT_MS, [None if only_missing else '{"n":3}'])
    expected = [{"n": 2}, {"n": 1}, None] if only_missing else [{"n": 2}, {"n": 2}, {"n": 3}]
    assert list(stamps(store).values()) == expected


# -- what is known ----------------------------------------------------------------------------------------------------


def test_the_sequence_number_of_a_node_is_its_largest_so_far(store: Store) -> None:
    a, b = Node("a"), Node("b")
    commit(store, a.insert("r", {}), a.insert("s", {}), b.insert("t", {}))
    with store.transaction() as tx:
        assert [tx.sequence_number_of(one) for one in ("a", "b", "c", "")] == [2, 1, 0, 0]
        append(tx, b.insert("u", {}), b.insert("v", {}), Node("c").insert("w", {}))
        assert [tx.sequence_number_of(one) for one in ("a", "b", "c")] == [2, 3, 1]
        late = Node("b").insert("late", {}, at=99)
        late.id, late.sequence_number = "late", 2
        append(tx, late)
        assert tx.sequence_number_of("b") == 3
    assert inside(store, lambda tx: tx.sequence_number_of("b")) == 3


def test_the_store_knows_the_ids_of_what_was_committed(store: Store, node: Node) -> None:
    commit(store, node.insert("r", {}), node.insert("s", {}, collection="unlisted"))
    asked = ["node-a:1", "node-a:2", "node-a:3", "", "😀", "node-a:1"]
    with store.transaction() as tx:
        append(tx, node.insert("t", {}))
        assert tx.known_ids(asked) == {"node-a:1", "node-a:2", "node-a:3"}
        assert store.known_ids(asked) == {"node-a:1", "node-a:2"}
    assert store.known_ids(asked) == {"node-a:1", "node-a:2", "node-a:3"}
    assert store.known_ids([]) == store.known_ids(iter([])) == set()
    assert store.known_ids(f"node-a:{number}" for number in range(2, 5_000)) == {"node-a:2", "node-a:3"}


# -- record ids -------------------------------------------------------------------------------------------------------


def test_record_ids_ascend_by_code_point_from_a_position(store: Store, node: Node) -> None:
    ids = ["10", "9", "A", "a", "nul\0", "\uff5e", "😀"]
    commit(store, *(node.insert(one, {}) for one in reversed(ids)), *(node.delete(one) for one in ids))
    commit(store, node.insert("b", {}, collection="notes"), node.insert("b", {}, collection="unlisted"))
    with store.transaction() as tx:
        for source in ("log", "states"):
            assert tx.record_ids("todos", None, 99, source) == ids
            assert [tx.record_ids("todos", after, 2, source) for after in (None, "10", "9\0", "\uff5e", "😀")] == [
                ["10", "9"],
                ["9", "A"],
                ["A", "a"],
                ["😀"],
                [],
            ]
            assert tx.record_ids("todos", None, 0, source) == []
        assert tx.record_ids("unlisted", None, 9, "log") == ["b"]
        assert tx.record_ids("unlisted", None, 9, "states") == []


def test_a_record_without_a_name_is_a_record(store: Store, node: Node) -> None:
    """The reference server stores such; devices' own are refused."""
    commit(store, node.insert("", {"title": "x"}), node.insert("a", {}))
    with store.transaction() as tx:
        for source in ("log", "states"):
            assert tx.record_ids("todos", None, 9, source) == ["", "a"]
            assert tx.record_ids("todos", "", 9, source) == ["a"]


def test_the_log_and_the_states_may_know_different_records(store: Store, node: Node) -> None:
    commit(store, node.insert("both", {}), node.insert("states-only", {}))
    with store.transaction() as tx:
        append(tx, node.insert("log-only", {}))
        tx.replace_records("todos", "c", None, {})
    with store.transaction() as tx:
        assert tx.record_ids("todos", None, 9, "log") == ["both", "log-only", "states-only"]
        assert tx.record_ids("todos", None, 9, "states") == ["both"]


def test_record_ids_are_those_that_the_transaction_has_left(store: Store, node: Node) -> None:
    commit(store, node.insert("b", {}))
    with store.transaction() as tx:
        put(tx, node.insert("a", {}))
        assert tx.record_ids("todos", None, 9, "log") == ["a", "b"]
        assert tx.record_ids("todos", None, 9, "states") == ["a", "b"]


# -- rows that are replaced -------------------------------------------------------------------------------------------

BOUNDS: list[tuple[str | None, str | None, str]] = [
    (None, None, ""),
    (None, "c", "de"),
    ("c", None, "abc"),
    ("b", "d", "abe"),
    ("b", "b", "abcde"),
    ("x", None, "abcde"),
    ("", "A", "abcde"),
]


@pytest.mark.parametrize(("after", "upto", "kept"), BOUNDS)
def test_no_other_records_are_left_between_the_bounds(
    store: Store, node: Node, after: str | None, upto: str | None, kept: str
) -> None:
    commit(store, *(node.insert(one, {"title": one}) for one in "abcde"), node.delete("d"))
    commit(store, node.insert("c", {"title": "c"}, collection="notes"))
    with store.transaction() as tx:
        assert live_ids(tx, BOTH, {"title": "c"}) == ["c"]
        tx.replace_records("todos", after, upto, {})
        assert tx.record_ids("todos", None, 9, "states") == list(kept)
        assert live_ids(tx, BOTH, {}) == [one for one in kept if one != "d"]
        assert live_ids(tx, BOTH, {"title": "c"}) == (["c"] if "c" in kept else [])
        assert "".join(sorted(one.record_id for one in tx.states(map(key, "abcde")))) == kept
    assert list(titles(store)) == [one for one in kept if one != "d"]
    assert [record["id"] for record in tombstones(store)] == (["d"] if "d" in kept else [])
    assert [record["title"] for record in live(store, "notes")] == ["c"]
    assert len(log_ids(store)) == 7


def test_the_given_records_are_there_whatever_was_there_before(store: Store, node: Node) -> None:
    commit(store, *(node.insert(one, {"title": one}) for one in "abc"))
    given = {key(one): fold([node.insert(one, {"title": "new"})]) for one in ("a", "bb", "c")}
    with store.transaction() as tx:
        tx.replace_records("todos", None, "bb", {one: given[one] for one in (key("a"), key("bb"))})
        assert live_ids(tx, BOTH, {"title": "new"}) == ["a", "bb"]
        tx.replace_records("todos", "bb", None, {key("c"): given[key("c")]})
    assert titles(store) == {"a": "new", "bb": "new", "c": "new"}
    assert states(store, [*given, key("b")]) == given


def test_rows_can_be_replaced_behind_other_writes_of_the_same_transaction(store: Store, node: Node) -> None:
    commit(store, node.insert("a", {"title": "a"}))
    with store.transaction() as tx:
        put(tx, node.insert("b", {"title": "b"}), node.update("a", {"title": "new"}))
        tx.set_refill("notes", Refill("log"))
        put(tx, node.insert("c", {"title": "c"}), node.update("b", {"title": "new"}))
        kept = tx.states([key("b")])
        tx.replace_records("todos", "a", None, kept)
        assert live_ids(tx, BOTH, {}) == ["a", "b"]
    assert titles(store) == {"a": "new", "b": "new"}


# -- another log ------------------------------------------------------------------------------------------------------


def replace(store: Store, *operations: Operation, vector: dict[str, int] | None = None) -> list[int]:
    with store.transaction() as tx:
        tx.replace_log(vector or {})
        return append(tx, *operations)


def test_a_replaced_log_is_empty_but_for_its_vector(store: Store, node: Node) -> None:
    apply(store, node.insert("r", {"title": "a"}), node.delete("s"), node.insert("r", {}, collection="notes"))
    with store.transaction() as tx:
        tx.replace_log({"x": 7, "y": 0})
        assert tx.known_ids(["node-a:1"]) == set()
        assert [tx.sequence_number_of(one) for one in ("x", "y", "node-a")] == [7, 0, 0]
        assert list(tx.history(key("r"))) == []
        assert tx.states([key("r"), key("s"), key("r", "notes")]) == {}
        assert live_ids(tx, BOTH, {}) == tx.record_ids("todos", None, 9, "log") == []
        assert tx.record_ids("todos", None, 9, "states") == []
        assert tx.stale_records() == []
        assert tx.shapes.keys() == {"todos", "notes"}
    assert (log_ids(store), store.count_operations()) == ([], 0)
    assert store.frontier() == store.floor() > 3
    assert store.version_vector() == {"x": 7}
    assert store.known_ids(["node-a:1"]) == store.authors_after(0) == set()
    assert store.causal_keys_above({}) == []
    assert store.operation_range("node-a", 0, 9) == []
    assert live(store) == tombstones(store) == live(store, "notes") == []


def test_a_new_log_begins_at_1_and_goes_on_above_all_watermarks_of_the_old_one(store: Store, node: Node) -> None:
    assert store.floor() == 0
    commit(store, *(node.insert(str(number), {}) for number in range(5)))
    assert store.floor() == 0
    again = Node("b")
    with store.transaction() as tx:
        tx.replace_log({"b": 9})
        assert append(tx, again.insert("r", {}), again.insert("s", {})) == [1, 2]
        assert append(tx, again.insert("t", {})) == [3]
        assert (store.floor(), store.frontier()) == (0, 5)
    floor = store.floor()
    assert store.frontier() == floor > 5
    assert store.version_vector() == {"b": 9}
    assert [entry.sequence for entry in store.entries_after(0, 9)] == [1, 2, 3]
    with store.transaction() as tx:
        assert append(tx, again.insert("u", {})) == [floor + 1]
        assert append(tx, again.insert("v", {})) == [floor + 2]
    assert inside(store, lambda tx: append(tx, again.insert("w", {}))) == [floor + 3]
    assert (store.floor(), store.frontier()) == (floor, floor + 3)
    assert log_ids(store) == [f"b:{number}" for number in range(1, 7)]


def test_a_longer_log_goes_on_behind_itself(store: Store, node: Node) -> None:
    commit(store, node.insert("r", {}))
    again = Node("b")
    assert replace(store, *(again.insert(str(number), {}) for number in range(6))) == [1, 2, 3, 4, 5, 6]
    assert 1 < store.floor() < store.frontier() == 6
    assert inside(store, lambda tx: append(tx, again.insert("r", {}))) == [7]


def test_every_log_has_a_floor_of_its_own_and_no_number_comes_again(store: Store, node: Node) -> None:
    commit(store, *(node.insert(str(number), {}) for number in range(5)))
    assert replace(store, Node("b").insert("r", {})) == [1]
    floors = [store.floor()]
    assert replace(store) == []
    floors.append(store.floor())
    assert replace(store, Node("c").insert("r", {})) == [1]
    floors.append(store.floor())
    late = Node("d")
    assert inside(store, lambda tx: append(tx, late.insert("r", {}))) == [floors[-1] + 1]
    assert replace(store, late.insert("s", {})) == [1]
    floors.append(store.floor())
    assert floors[0] > 5
    assert floors == sorted(set(floors))
    assert floors[3] > floors[2] + 1
    assert inside(store, lambda tx: append(tx, late.insert("t", {}))) == [floors[-1] + 1]


def test_a_log_that_is_replaced_twice_in_one_write_has_a_floor_above_the_first(store: Store, node: Node) -> None:
    commit(store, *(node.insert(str(number), {}) for number in range(5)))
    again = Node("b")
    with store.transaction() as tx:
        tx.replace_log({})
        append(tx, again.insert("r", {}))
        tx.replace_log({})
        assert append(tx, again.insert("s", {})) == [1]
    assert store.floor() > 5
    assert inside(store, lambda tx: append(tx, again.insert("t", {}))) == [store.floor() + 1]


def test_the_old_operations_may_come_again(store: Store, node: Node) -> None:
    written = [node.insert("r", {"title": "a"}), node.update("r", {"title": "b"})]
    commit(store, *written)
    with store.transaction() as tx:
        tx.replace_log({})
        put(tx, written[1])
    assert titles(store) == {"r": "b"}
    assert live(store)[0]["_created_at"] == 2
    commit(store, written[0])
    assert live(store)[0]["_created_at"] == 1
    assert [(entry.sequence, entry.operation.id) for entry in store.entries_after(0, 9)] == [
        (1, "node-a:2"),
        (store.floor() + 1, "node-a:1"),
    ]


def test_what_is_appended_to_a_new_log_is_stale_until_it_is_saved(store: Store, node: Node) -> None:
    commit(store, node.insert("r", {"title": "a"}))
    replace(store, *(node.insert(one, {"title": one}) for one in ("s", "t")))
    assert inside(store, lambda tx: sorted(tx.stale_records())) == [key("s"), key("t")]
    apply(store, node.insert("u", {"title": "u"}))
    assert titles(store) == {"s": "s", "t": "t", "u": "u"}
    assert inside(store, lambda tx: tx.stale_records()) == []


def test_an_id_in_the_new_log_can_not_be_appended_twice(store: Store, node: Node) -> None:
    commit(store, written := node.insert("r", {"title": "a"}))

    def replace_badly(tx: WriteTransaction) -> None:
        tx.replace_log({})
        append(tx, written)
        append(tx, written)

    with pytest.raises(StoreError), store.transaction() as tx:
        replace_badly(tx)
    assert titles(store) == {"r": "a"}
    assert inside(store, lambda tx: append(tx, node.insert("s", {}))) == [2]


def test_what_was_read_of_the_old_log_is_of_no_matter_for_the_new_one(store: Store, node: Node) -> None:
    commit(store, node.insert("r", {"title": "a", "n": 1}), node.insert("s", {"title": "a"}))
    with store.transaction() as tx:
        assert len(tx.states([key("r"), key("s")])) == 2
        put(tx, lately := node.update("s", {"title": "b"}))
        tx.set_refill("todos", None)
        assert live_ids(tx, BOTH, {"title": "a"}) == ["r"]
        tx.replace_log({})
        assert live_ids(tx, BOTH, {"title": "a"}) == []
        put(tx, node.insert("r", {"title": "a"}), node.insert("s", {"title": "c"}))
        append(tx, lately)
        assert live_ids(tx, BOTH, {}) == ["r", "s"]
    assert titles(store) == {"r": "a", "s": "c"}
    assert [record["n"] for record in live(store)] == [None, None]


def test_a_schema_can_follow_in_the_same_write(store: Store, node: Node) -> None:
    """As a backup is restored: the rows are made afterwards."""
    commit(store, node.insert("r", {"title": "a"}))
    with store.transaction() as tx:
        tx.replace_log({})
        append(tx, node.insert("s", {"title": "b"}))
        tx.set_refill("todos", Refill("log"))
    assert inside(store, lambda tx: tx.refills()) == {"todos": Refill("log")}
    bring_to(store, BOTH)
    assert titles(store) == {"s": "b"}


@pytest.mark.parametrize("kind", DURABLE_STORES.values(), ids=DURABLE_STORES)
def test_another_store_on_the_same_data_goes_on_with_the_new_log(kind: StoreKind, store: Store, node: Node) -> None:
    commit(store, *(node.insert(str(number), {}) for number in range(3)))
    replace(store, Node("b").insert("r", {}), vector={"x": 7})
    assert kind.another is not None
    other = kind.another(store)
    other.open()
    assert other.version_vector() == {"b": 1, "x": 7}
    floor = store.floor()
    assert other.floor() == floor > 3
    assert inside(other, lambda tx: append(tx, node.insert("s", {}))) == [floor + 1]
    assert inside(store, lambda tx: append(tx, node.insert("t", {}))) == [floor + 2]
    other.close()


# -- one moment -------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_of_one_moment(store: Store, node: Node) -> None:
    written = [node.insert("r", {"title": "é"}), node.delete("r"), node.insert("x", {}, collection="unlisted")]
    commit(store, *written)
    with store.snapshot() as moment:
        commit(store, Node("b").insert("s", {}))
        assert moment.version_vector() == {"node-a": 3}
        assert plains(list(moment.operations())) == plains(written)
        half = iter(moment.operations())
        next(half)
        commit(store, node.insert("t", {}))
        assert [one.id for one in half] == ["node-a:2", "node-a:3"]
        replace(store, vector={"z": 1})
        assert plains(list(moment.operations())) == plains(written)
        assert moment.version_vector() == {"node-a": 3}
    with store.snapshot() as moment:
        assert (list(moment.operations()), moment.version_vector()) == ([], {"z": 1})


def test_a_snapshot_sees_nothing_of_a_write_that_is_under_way(store: Store, node: Node) -> None:
    commit(store, node.insert("r", {}))
    with store.transaction() as tx:
        append(tx, node.insert("s", {}))
        with store.snapshot() as moment:
            assert [one.id for one in moment.operations()] == ["node-a:1"]
            assert moment.version_vector() == {"node-a": 1}


def test_a_snapshot_comes_in_delivery_order(store: Store) -> None:
    a, b = Node("a"), Node("b")
    commit(store, b.insert("r", {}, at=9), a.insert("r", {}, at=1))
    commit(store, b.insert("s", {}, at=2))
    with store.snapshot() as moment:
        assert [one.id for one in moment.operations()] == ["b:1", "a:1", "b:2"]


def test_a_record_may_be_called_anything(kind: StoreKind, store: Store, node: Node) -> None:
    names = ["", "a b", "%", "'", '"', "\\", "nul\0x", "😀", "x" * 500]
    commit(store, *(node.insert(one, {"title": one}) for one in names))
    commit(store, *(node.update(one, {"n": 1}) for one in names))
    found: list[Record] = live(store)
    assert [record["id"] for record in found] == sorted(names)
    no_nul = kind.dialect is Dialect.POSTGRES
    shown = [one.replace("\0", "\ufffd") if no_nul else one for one in sorted(names)]
    assert [(record["title"], record["n"]) for record in found] == [(one, 1) for one in shown]
    assert [store.find_record("todos", one) for one in sorted(names)] == found
    assert states(store, [RecordKey("todos", one) for one in names]).keys() == {key(one) for one in names}
