"""How every store finds records by their values inside a write transaction, as the contract promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.conditions import Condition, constraint_operand
from kora_daemon.model.jsvalue import canonical_json
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordQuery
from kora_daemon.model.schema import KINDS, Kind
from kora_daemon.store.contract import Store, WriteTransaction
from tests.support.records import TODOS, Node, bring_to, commit, fail_after, inside, live, live_ids, put, schema_of
from tests.support.stores import RECORD_STORES, StoreKind


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
    assert FIELDS.keys() == set(KINDS)
    assert sum(len(one.asked) for one in FIELDS.values()) == 110
    assert [len(one.asked) for one in POSTGRES_FIELDS.values()] == [9, 7]
    assert len(IDS_BY_CODE_POINT) == 10


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
POSTGRES_FIELDS: dict[Kind, Stored] = {
    # Whole numbers of 64 bits; bytes and nothing else.
    "timestamp": Stored(
        [1_700_000_000_000, 0, -1, 1e300, 2**53, "1", True, None],
        [
            *[(1_700_000_000_000, [0]), (1_700_000_000_000.0, [0]), (0, [1]), (-1, [2]), (1e300, []), (2**53, [4])],
            *[(None, [3, 5, 6, 7]), ("1", []), (True, [])],
        ],
    ),
    "richtext": Stored(
        ["text", *BYTES, "abc", {"$koraBytes": ""}, {"$koraBytes": "!"}, {"x": 1}, 5, None],
        [
            *[("text", [0]), (b"text", [0]), (b"abc", [1, 2, 3]), (BYTES[1], [1, 2, 3]), ("abc", [1, 2, 3])],
            *[(None, [5, 6, 7, 8]), (5, [])],
        ],
    ),
}
"""Where PostgreSQL's columns hold less than SQLite's."""


@pytest.mark.parametrize("field", FIELDS)
def test_records_are_found_by_exactly_their_value(kind: StoreKind, store: Store, node: Node, field: Kind) -> None:
    schema = schema_of(2, todos={"f": field})
    bring_to(store, schema, allow_destructive=True)
    stored = FIELDS[field] if kind.dialect is Dialect.SQLITE else POSTGRES_FIELDS.get(field, FIELDS[field])
    commit(store, *(node.insert(str(number), {"f": value}) for number, value in enumerate(stored.values)))
    commit(store, node.insert("missing", {}), node.insert("deleted", {"f": stored.values[0]}), node.delete("deleted"))
    for value, numbers in stored.asked:
        expected = sorted([str(number) for number in numbers] + (["missing"] if value is None else []))
        for _ in range(2):  # the second time there may be something to look it up in
            with store.transaction() as tx:
                assert live_ids(tx, schema, {"f": value}) == expected, value
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
    taken_back: list[list[list[str]]] = []
    fail_after(
        store,
        lambda tx: put(tx, node.delete("a"), node.insert("c", {"title": "x"})),
        lambda tx: taken_back.append(found(tx)),
    )
    assert taken_back == [[["c"], [], [], ["b", "c"]]]
    assert inside(store, found) == steps[-1][1]
