"""What atomic intents do to a value."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.materialization.atomic import Intent, compose, read_intents, same_text
from kora_daemon.materialization.json_text import OVERFLOW

NO_NUMBERS = [None, "7", True, [7], {"n": 7}]


@pytest.mark.parametrize(
    ("kind", "current", "operand", "result"),
    [
        ("increment", 13, 5, 18),
        ("increment", 0.1, 0.2, 0.30000000000000004),
        ("increment", 2.5, 0.5, 3),
        ("increment", 9007199254740993, 2, 9007199254740994.0),
        ("increment", 1e308, 1e308, OVERFLOW),
        ("increment", OVERFLOW, -5, OVERFLOW),
        ("increment", -1e308, -1e308, -OVERFLOW),
        ("max", 3, 8, 8),
        ("max", 8, 3, 8),
        ("min", 3, 8, 3),
        ("min", 8, -OVERFLOW, -OVERFLOW),
        ("append", ["a"], "a", ["a", "a"]),
        ("append", ["a"], ["b"], ["a", ["b"]]),
        ("remove", ["a", "b", "a"], "a", ["b"]),
        ("remove", [1, 1.0, True, "1"], 1, [True, "1"]),
        ("remove", [{"a": 1, "b": 2}, {"b": 2, "a": 1}], {"a": 1, "b": 2}, [{"b": 2, "a": 1}]),
    ],
)
def test_an_intent_acts_on_the_value(kind: str, current: Any, operand: Any, result: Any) -> None:
    composed = compose(Intent(kind, operand), current)
    assert composed == result
    assert type(composed) is type(result)


@pytest.mark.parametrize("current", NO_NUMBERS)
@pytest.mark.parametrize("kind", ["increment", "max", "min"])
@pytest.mark.parametrize("operand", [3, -3])
def test_what_is_no_number_is_no_start(kind: str, operand: int, current: Any) -> None:
    assert compose(Intent(kind, operand), current) == operand


@pytest.mark.parametrize("current", [None, "ab", 1, {"0": "a"}])
def test_what_is_no_list_is_an_empty_one(current: Any) -> None:
    assert compose(Intent("append", "x"), current) == ["x"]
    assert compose(Intent("remove", "x"), current) == []


def test_lists_are_never_changed_in_place() -> None:
    current = ["a"]
    compose(Intent("append", "b"), current)
    compose(Intent("remove", "a"), current)
    assert current == ["a"]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (-0.0, 0, True),
        (9007199254740993, 9007199254740992.0, True),
        (OVERFLOW, None, True),
        ("1", 1, False),
        ([], {}, False),
        ([], "", False),
        ([1, [2, {"a": None}]], [1.0, [2, {"a": None}]], True),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({"b": 1, "2": 2, "10": 3}, {"10": 3, "2": 2, "b": 1}, True),
        ({"02": 1, "b": 2}, {"b": 2, "02": 1}, False),
        ({"٣": 1, "b": 2}, {"b": 2, "٣": 1}, False),
        ({"4294967295": 1, "b": 2}, {"b": 2, "4294967295": 1}, False),
        ("\ud800", "\ud800", True),
        ("\ud800", "\ufffd", False),
    ],
)
def test_same_text_is_equality_of_what_javascript_prints(left: Any, right: Any, same: bool) -> None:
    assert same_text(left, right) is same
    assert same_text(right, left) is same


def test_same_text_takes_any_depth() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert same_text(deep, deep)


def test_intents_of_other_servers_that_are_none_are_left_out() -> None:
    claimed = {
        "ok": {"type": "increment", "value": 1},
        "null": {"type": "append"},
        "text": {"type": "increment", "value": "1"},
        "boolean": {"type": "max", "value": True},
        "unknown": {"type": "multiply", "value": 2},
        "list": {"type": ["increment"], "value": 1},
        "none": None,
        "scalar": "increment",
    }
    assert read_intents(claimed) == {"ok": Intent("increment", 1), "null": Intent("append", None)}
    assert read_intents(["increment"]) == {}
    assert read_intents(None) == {}
