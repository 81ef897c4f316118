"""The stamp of an operation: what it says of its record, what it leaves out, and how it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.shape import Shape
from kora_daemon.materialization.stamp import UNKNOWN, needs_new_stamps, snapshot, stamp_of
from kora_daemon.model.schema import KINDS, Kind

LEFT_OUT: Any = object()
NULL: Any = object()
LONG, TOO_LONG = "l" * 255, "l" * 256
LONG_UMLAUTS, TOO_LONG_UMLAUTS = "ü" * 255, "ü" * 256
BYTES = {"$koraBytes": "YWJj"}

TEXTS: list[tuple[Any, Any, Any]] = [
    ("", "", ""),
    ("text", "text", "text"),
    (LONG, LONG, LONG),
    (TOO_LONG, LEFT_OUT, TOO_LONG),
    (LONG_UMLAUTS, LONG_UMLAUTS, LONG_UMLAUTS),
    (TOO_LONG_UMLAUTS, LEFT_OUT, TOO_LONG_UMLAUTS),
    ("\ud800", "\ufffd", "\ufffd"),
    (5, NULL, NULL),
    (True, NULL, NULL),
    ([], NULL, NULL),
]
NUMBERS: list[tuple[Any, Any, Any]] = [
    (0, 0, 0),
    (-5, -5, -5),
    (0.5, 0.5, 0.5),
    (2**53 - 1, 2**53 - 1, 2**53 - 1),
    (2**53 + 1, float(2**53), float(2**53)),
    (10**400, NULL, NULL),
    ("5", NULL, NULL),
    (True, NULL, NULL),
]
STAMPED: dict[Kind, list[tuple[Any, Any, Any]]] = {
    "string": TEXTS,
    "enum": TEXTS,
    "number": NUMBERS,
    "timestamp": [(1_700_000_000_000, 1_700_000_000_000, 1_700_000_000_000), ("5", NULL, NULL), (False, NULL, NULL)],
    "boolean": [(True, True, True), (False, False, False), (0, False, False), ("x", True, True), ([], True, True)],
    "array": [([], [], []), (["a"], [], []), ("text", [], [])],
    "object": [({}, [], []), ({"a": 1}, [], []), (5, [], [])],
    "blob": [({"hash": "0f", "size": 3}, [], [])],
    "json": [([], [], []), ({"a": 1}, [], []), ("x", LEFT_OUT, "x"), (5, LEFT_OUT, 5), (False, LEFT_OUT, False)],
    "secret": [("x", LEFT_OUT, "x"), (TOO_LONG, LEFT_OUT, TOO_LONG), (5, LEFT_OUT, NULL)],
    "richtext": [("x", LEFT_OUT, "x"), (BYTES, LEFT_OUT, []), (5, LEFT_OUT, NULL)],
}
"""Kind -> value in the state, what its stamp says, what it says when the field is one that scopes are decided by."""


def state(**fields: Any) -> RecordState:
    return RecordState(1, (2, 0, "node-a"), True, fields, {})


def parsed(shape: Shape, of: RecordState, *carried: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stamp_of(shape, of, {name: of.fields.get(name) for name in carried}))
    return found


def test_no_case_was_lost() -> None:
    assert STAMPED.keys() == set(KINDS)
    assert sum(map(len, STAMPED.values())) == 54


@pytest.mark.parametrize(
    ("kind", "value", "plain", "scoped"), [(kind, *case) for kind, cases in STAMPED.items() for case in cases]
)
def test_a_stamp_says_what_the_record_shows(kind: Kind, value: Any, plain: Any, scoped: Any) -> None:
    for stamped, expected in (([], plain), (["f"], scoped)):
        found = parsed(Shape(1, {"f": kind}, "", stamped), state(f=value))
        if expected is LEFT_OUT:
            assert found == {UNKNOWN: ["f"]}
        elif expected is NULL:
            assert found == {}
        else:
            assert repr(found) == repr({"f": expected})


def test_a_stamp_repeats_nothing_and_speaks_of_fields_of_the_schema_only() -> None:
    shape = Shape(1, {"a": "string", "b": "string", "c": "string", "d": "secret"}, "")
    record = state(a="a", b="b", c=None, d="d", other="x")
    assert parsed(shape, record) == {"a": "a", "b": "b", UNKNOWN: ["d"]}
    assert parsed(shape, record, "a", "other", "d") == {"b": "b"}
    assert stamp_of(shape, record, {name: record.fields[name] for name in ("a", "b", "d")}) == "{}"
    assert stamp_of(shape, state()) == "{}"


def test_what_an_operation_says_and_its_record_is_not_is_stamped() -> None:
    shape = Shape(1, {"a": "string", "b": "string", "c": "string"}, "")
    record = state(a="new", b=None)
    assert json.loads(stamp_of(shape, record, {"a": "old", "b": "gone", "c": None, "x": 1})) == {"a": "new", "b": None}


def test_what_an_operation_carries_stands_beside_what_its_record_is() -> None:
    carried, stamped, unknown = snapshot("r", {"a": None, "l": [1]}, {"b": 1, "a": 5}, '{"b":2,"c":3,"":["d"]}')
    assert carried == {"a": None, "b": 1, "l": []}
    assert stamped is not None
    assert [stamped[name] for name in ("a", "b", "c", "e", "id")] == [None, 2, 3, None, "r"]
    assert stamped["d"] == [], "not told, so equal to nothing"
    assert "whatever" in stamped
    assert list(unknown) == ["d"]


@pytest.mark.parametrize("odd", [None, [], "text", 5])
def test_data_that_is_no_object_carries_nothing(odd: object) -> None:
    assert snapshot("r", odd, odd, "{}").carried == {}


def test_without_a_stamp_nothing_is_known_of_the_record() -> None:
    assert snapshot("r", {"a": 1}, None, None) == ({"a": 1}, None, ())


def test_older_operations_need_new_stamps_once_there_is_something_to_say_of_a_new_field() -> None:
    assert needs_new_stamps(state(a=1, b=None), ["b", "a"])
    assert needs_new_stamps(state(a=False), ["a"])
    assert not needs_new_stamps(state(a=1, b=None), ["b", "c"])
    assert not needs_new_stamps(state(a=1), [])
