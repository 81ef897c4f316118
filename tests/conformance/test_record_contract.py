"""What `kora_daemon.store.contract` promises about records inside write transactions, held against every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from kora_daemon.errors import StoreError
from kora_daemon.materialization.conditions import Condition, constraint_operand
from kora_daemon.materialization.fold import RecordState, fold
from kora_daemon.materialization.shape import Refill
from kora_daemon.model.jsvalue import canonical_json
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordQuery
from kora_daemon.model.schema import KINDS, Kind
from kora_daemon.store.contract import Store, WriteTransaction
from tests.support.log import RECEIVED_AT_MS, log_ids
from tests.support.records import (
    TODOS,
    Node,
    append,
    apply,
    bring_to,
    commit,
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

T = TypeVar("T")
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


def inside(store: Store, question: Callable[[WriteTransaction], T]) -> T:
    """The answer of a transaction of its own."""
    with store.transaction() as tx:
        return question(tx)


def test_no_case_was_lost() -> None:
    assert {"memory", "sqlite"} <= RECORD_STORES.keys()
    assert FIELDS.keys() == set(KINDS)
    assert sum(len(one.asked) for one in FIELDS.values()) == 110
    assert (len(CHANGES), len(IDS_BY_CODE_POINT)) == (11, 10)


# -- history ----------------------------------------------------------------------------------------------------------


def history(store: Store, record_id: str = "r") -> list[str]:
    return inside(store, lambda tx: [one.id for one in tx.history(key(record_id))])


def test_a_history_is_in_clock_order(store: Store) -> None:
    node = Node()
    places = [(5, 0, "b"), (5, 1, "a"), (4, 9, "z"), (5, 0, "é"), (5, 0, "B"), (5, 0, "😀"), (5, 0, "\uff5e"), (0, 0, "")]
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


# -- live_ids ---------------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """Values of records "0", "1", … in a field of one kind, and which of them are found when a value is asked for."""

    values: list[Any]
    asked: list[tuple[Any, list[int]]]


TEXTS = Stored(
    ["a", "A", "", "1", "é", "😀", "nul\0", "nul", 1, True, ["a"], None],
    [
        *[("a", [0]), ("A", [1]), ("", [2]), ("1", [3]), ("é", [4]), ("😀", [5]), ("nul\0", [6]), ("nul", [7])],
        *[(None, [8, 9, 10, 11]), (1, []), (True, []), (["a"], []), ({}, []), ("e\u0301", [])],
    ],
)
BYTES = [{"$koraBytes": "YWJj"}, {"0": 97, "1": 98, "2": 99}]
FIELDS: dict[Kind, Stored] = {
    "string": TEXTS,
    "secret": TEXTS,
    "enum": Stored(["a", "outside", 5, None], [("a", [0]), ("outside", [1]), (None, [2, 3]), (5, []), ("b", [])]),
    "number": Stored(
        [0, 1, 0.5, -2, 1e300, 1.0, -0.0, "1", True, 10**400, None],
        [
            *[(0, [0, 6]), (-0.0, [0, 6]), (1, [1, 5]), (1.0, [1, 5]), (0.5, [2]), (-2, [3]), (1e300, [4])],
            *[(None, [7, 8, 9, 10]), ("1", []), (True, []), (False, []), ([1], []), (10**400, []), (0.25, [])],
        ],
    ),
    "boolean": Stored(
        [True, False, 1, 0, "x", "", [], {}, None],
        [(True, [0, 2, 4, 6, 7]), (False, [1, 3, 5]), (None, [8]), (1, []), (0, []), ("x", []), ([], [])],
    ),
    "timestamp": Stored(
        [1_700_000_000_000, 0.5, -1, 1e300, 2**53, "1", True, None],
        [
            *[(1_700_000_000_000, [0]), (1_700_000_000_000.0, [0]), (0.5, [1]), (-1, [2]), (1e300, [3]), (2**53, [4])],
            *[(None, [5, 6, 7]), ("1", []), (True, []), (7, [])],
        ],
    ),
    "array": Stored(
        [["a", "b"], ["b", "a"], [], [1], [1.0], [True], [{"a": 1, "b": 2}], "text", None, [None]],
        [
            *[(["a", "b"], [0]), (["b", "a"], [1]), ([], [2]), ([1], [3, 4]), ([True], [5]), ("text", [7])],
            *[([{"b": 2.0, "a": 1}], [6]), (None, [8]), ([None], [9]), (["a"], []), ("[]", []), ({}, [])],
        ],
    ),
    "object": Stored(
        [{"a": 1, "b": {"x": 1, "y": 2}}, {}, {"a": 1}, {"a": True}, {"é😀": "\u2028"}, "{}", None],
        [
            *[({"b": {"y": 2, "x": 1.0}, "a": 1}, [0]), ({}, [1]), ({"a": 1}, [2]), ({"a": True}, [3])],
            *[({"é😀": "\u2028"}, [4]), ("{}", [5]), (None, [6]), ({"a": 2}, []), ([], [])],
        ],
    ),
    "json": Stored(
        [{"z": 1, "a": 2}, {"a": 2, "z": 1}, True, 1, "1", "true", [], "", 0.5, False, None, "null"],
        [
            *[({"a": 2, "z": 1}, [0, 1]), (True, [2]), (1, [3]), ("1", [4]), ("true", [5]), ([], [6]), ("", [7])],
            *[(0.5, [8]), (False, [9]), (None, [10]), ("null", [11]), (0, [])],
        ],
    ),
    "blob": Stored(
        [{"hash": "0f", "size": 3}, {"size": 3, "hash": "0f"}, {"hash": "0f"}, "0f", None],
        [({"size": 3, "hash": "0f"}, [0, 1]), ({"hash": "0f"}, [2]), ("0f", [3]), (None, [4]), ({}, [])],
    ),
    "richtext": Stored(
        ["text", *BYTES, "", {"$koraBytes": ""}, {"$koraBytes": "!"}, {"x": 1}, 5, None],
        [
            *[("text", [0]), (b"abc", [1, 2]), (BYTES[0], [1, 2]), (BYTES[1], [1, 2]), (b"\xff", []), ("abc", [])],
            *[(None, [5, 6, 7, 8]), (5, [])],
        ],
    ),
}


@pytest.mark.parametrize("field", FIELDS)
def test_records_are_found_by_exactly_their_value(store: Store, node: Node, field: Kind) -> None:
    schema = schema_of(2, todos={"f": field})
    bring_to(store, schema, allow_destructive=True)
    stored = FIELDS[field]
    commit(store, *(node.insert(str(number), {"f": value}) for number, value in enumerate(stored.values)))
    commit(store, node.insert("missing", {}), node.insert("deleted", {"f": stored.values[0]}), node.delete("deleted"))
    for value, numbers in stored.asked:
        expected = sorted([str(number) for number in numbers] + (["missing"] if value is None else []))
        asked: Callable[[WriteTransaction], list[str]] = lambda tx, value=value: live_ids(tx, schema, {"f": value})
        assert inside(store, asked) == expected, value
        assert inside(store, asked) == expected, value
        found = store.query_collection("todos", RecordQuery({"f": value}))
        assert [record["id"] for record in found] == expected, value
        assert store.count_collection("todos", {"f": value}) == len(expected), value


@pytest.mark.parametrize("field", FIELDS)
def test_what_is_to_be_stored_is_compared_as_it_will_be_shown(store: Store, node: Node, field: Kind) -> None:
    schema = schema_of(2, todos={"f": field})
    bring_to(store, schema, allow_destructive=True)
    commit(store, *(node.insert(str(number), {"f": value}) for number, value in enumerate(FIELDS[field].values)))
    same: dict[Any, list[str]] = {}
    for record in live(store):
        same.setdefault(shown_text(record["f"]), []).append(record["id"])
    with store.transaction() as tx:
        for number, value in enumerate(FIELDS[field].values):
            (mine,) = [ids for ids in same.values() if str(number) in ids]
            assert tx.live_ids("todos", [Condition("f", field, constraint_operand(field, value, tx.dialect))]) == mine


def shown_text(value: Any) -> str:
    return repr(value) if isinstance(value, bytes) else canonical_json(value)


IDS_BY_CODE_POINT = ["", "10", "9", "A", "Z", "a", "nul\0", "z\u0301", "\uff5e", "😀"]


def test_ids_ascend_by_code_point_up_to_a_limit(store: Store, node: Node) -> None:
    commit(store, *(node.insert(one, {"title": "x"}) for one in reversed(IDS_BY_CODE_POINT)))
    assert sorted(IDS_BY_CODE_POINT, key=lambda one: one.encode("utf-16-be")) != IDS_BY_CODE_POINT
    with store.transaction() as tx:
        put(tx, node.insert("\uffee", {"title": "x"}), node.delete("10"))
        expected = [one for one in [*IDS_BY_CODE_POINT[:9], "\uffee", "😀"] if one != "10"]
        for where in ({}, {"title": "x"}):
            assert live_ids(tx, TODOS, where) == expected
            assert [live_ids(tx, TODOS, where, limit) for limit in (0, 1, 3, 99)] == [
                [],
                expected[:1],
                expected[:3],
                expected,
            ]


def test_all_conditions_must_hold(store: Store, node: Node) -> None:
    for number, title in ((1, "x"), (2, "x"), (1, "y"), (None, "x")):
        commit(store, node.insert(f"{title}{number}", {"title": title, "n": number}))
    with store.transaction() as tx:
        assert live_ids(tx, TODOS, {"title": "x", "n": 1}) == ["x1"]
        assert live_ids(tx, TODOS, {"title": "x", "n": None}) == ["xNone"]
        assert live_ids(tx, TODOS, {"title": "x"}) == ["x1", "x2", "xNone"]
        assert live_ids(tx, TODOS, {"title": "x", "n": "1"}) == []
        assert live_ids(tx, TODOS, {}) == ["x1", "x2", "xNone", "y1"]


def test_the_columns_of_every_collection_can_be_asked_for(store: Store, node: Node) -> None:
    commit(store, node.insert("r", {}), node.insert("s", {}), node.update("s", {}), node.insert("t", {}, at=1))
    commit(store, node.insert("gone", {}), node.delete("gone"))
    asked: list[tuple[dict[str, Any], list[str]]] = [
        ({"id": "s"}, ["s"]),
        ({"id": "unknown"}, []),
        ({"id": None}, []),
        ({"_created_at": 1}, ["r", "t"]),
        ({"_updated_at": 3}, ["s"]),
        ({"_updated_at": "3"}, []),
        ({"_deleted": 0}, ["r", "s", "t"]),
        ({"_deleted": 1}, []),
        ({"id": "gone"}, []),
    ]
    with store.transaction() as tx:
        assert [live_ids(tx, TODOS, where) for where, _ in asked] == [expected for _, expected in asked]


def test_answers_follow_every_change_within_and_between_transactions(store: Store, node: Node) -> None:
    """What was looked up once has to be kept in step from then on."""

    def found(tx: WriteTransaction) -> list[list[str]]:
        return [live_ids(tx, TODOS, where) for where in ({"title": "x"}, {"title": "y"}, {"title": "x", "n": 1}, {})]

    steps: list[tuple[Operation, list[list[str]]]] = [
        (node.insert("a", {"title": "x", "n": 1}), [["a"], [], ["a"], ["a"]]),
        (node.insert("b", {"title": "x"}), [["a", "b"], [], ["a"], ["a", "b"]]),
        (node.update("a", {"title": "y"}), [["b"], ["a"], [], ["a", "b"]]),
        (node.delete("b"), [[], ["a"], [], ["a"]]),
        (node.update("b", {"n": 1}), [["b"], ["a"], ["b"], ["a", "b"]]),
        (node.update("a", {"title": "x", "n": 1}), [["a", "b"], [], ["a", "b"], ["a", "b"]]),
        (node.update("b", {"title": None}), [["a"], [], ["a"], ["a", "b"]]),
    ]
    with store.transaction() as tx:
        assert found(tx) == [[], [], [], []]
    for operation, expected in steps:
        with store.transaction() as tx:
            put(tx, operation)
            assert found(tx) == expected
        assert inside(store, found) == expected
    with pytest.raises(RuntimeError), store.transaction() as tx:
        put(tx, node.delete("a"), node.insert("c", {"title": "x"}))
        assert found(tx)[0] == ["c"]
        raise RuntimeError
    assert inside(store, found) == steps[-1][1]


# -- all or nothing ---------------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[WriteTransaction], object]] = {
    "append": lambda tx: append(tx, Node("b").insert("r", {"title": "b"})),
    "save": lambda tx: put(tx, Node("b").delete("r", at=99), Node("c").insert("new", {"title": "c"})),
    "set_shapes": lambda tx: tx.set_shapes({}, {}),
    "set_shapes twice": lambda tx: (tx.set_shapes({}, {}), tx.set_shapes({"more": tx.shapes["notes"]}, {}))
    if "notes" in tx.shapes
    else tx.set_shapes({"more": tx.shapes["todos"]}, {"more": Refill("log")}),
    "set_refill": lambda tx: tx.set_refill("todos", None),
    "set_refill again": lambda tx: tx.set_refill("todos", Refill("log", "m", ["n"])),
    "replace_records": lambda tx: tx.replace_records("todos", None, None, {}),
    "replace one record": lambda tx: tx.replace_records("todos", "a", "r", tx.states([key("s")])),
    "restamp": lambda tx: tx.restamp(key("r"), '{"title":"new"}', only_missing=False),
    "replace_log": lambda tx: tx.replace_log({"z": 9}),
    "everything": lambda tx: (
        tx.replace_log({}),
        put(tx, Node("b").insert("r", {"title": "b"})),
        tx.restamp(key("r"), "{}", only_missing=False),
        tx.set_refill("todos", Refill("log")),
        tx.set_shapes({}, {}),
    ),
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
    filled: Store, change: Callable[[WriteTransaction], object], failure: type[Exception]
) -> None:
    before = everything(filled)
    with pytest.raises(failure), filled.transaction() as tx:
        change(tx)
        raise failure
    assert everything(filled) == before
    with filled.transaction() as tx:
        change(tx)
    assert everything(filled) != before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_reader_sees_nothing_of_a_change_before_its_commit(
    filled: Store, change: Callable[[WriteTransaction], object]
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


LOST = "store/sqlite/transaction.py and store/memory_transaction.py, set_shapes: `materialized == 0` is taken for 'never'"


@pytest.mark.parametrize(
    "earlier",
    [
        pytest.param(True, id="a log with records"),
        pytest.param(False, id="an empty log", marks=pytest.mark.xfail(strict=True, reason=LOST)),
    ],
)
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
