"""What the vectors leave open: equality, integers in disguise, surrogates in pairs, hostile depth."""

from __future__ import annotations

import math

import pytest

from kora_daemon.model.jsvalue import (
    JsonValue,
    as_double,
    as_integer,
    canonical_json,
    has_lone_surrogate,
    is_number,
    number_text,
    strictly_equal,
)


@pytest.mark.parametrize(
    ("left", "right"),
    [(1, 1.0), (0, -0.0), (2**53, 2**53 + 1), (10**400, 1e999), ("é", "é"), (True, True), (None, None)],
    ids=lambda value: repr(value)[:20],
)
def test_what_javascript_calls_equal(left: JsonValue, right: JsonValue) -> None:
    assert strictly_equal(left, right)
    assert strictly_equal(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (True, 1),
        (False, 0),
        (None, False),
        (None, 0),
        ("1", 1),
        ("a", "A"),
        ("é", "e\u0301"),
        ("a", "a "),
        ([], []),
        ({}, {}),
        ([1], [1]),
        (10**400, -(10**400)),
        (math.nan, math.nan),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_javascript_keeps_apart(left: JsonValue, right: JsonValue) -> None:
    assert not strictly_equal(left, right)
    assert not strictly_equal(right, left)


def test_a_list_does_not_even_equal_itself() -> None:
    tags = ["a"]
    assert not strictly_equal(tags, tags)


@pytest.mark.parametrize(("value", "integer"), [(5, 5), (1.0, 1), (1e3, 1000), (-0.0, 0), (2**53 + 1, 2**53)])
def test_any_spelling_of_an_integer_is_one(value: float, integer: int) -> None:
    assert as_integer(value) == integer


@pytest.mark.parametrize(
    "value", [1.5, True, "1", None, [1], {}, math.inf, math.nan, 10**400], ids=lambda value: repr(value)[:20]
)
def test_nothing_else_is_an_integer(value: object) -> None:
    assert as_integer(value) is None


def test_a_boolean_is_no_number() -> None:
    assert is_number(1)
    assert is_number(0.5)
    assert not is_number(True)


def test_integers_too_large_for_a_double_are_infinite_and_print_as_null() -> None:
    assert as_double(10**400) == math.inf
    assert as_double(-(10**400)) == -math.inf
    assert number_text(-(10**400)) == "null"


def test_halves_that_stand_side_by_side_are_one_character() -> None:
    assert not has_lone_surrogate("\ud83d\ude00")
    assert has_lone_surrogate("\ude00\ud83d")
    assert canonical_json("\ud83d\ude00\ud83d") == '"😀\\ud83d"'


def test_depth_is_no_obstacle() -> None:
    nested: JsonValue = None
    for _ in range(100_000):
        nested = [{"a": nested}]
    assert canonical_json(nested) == '[{"a":' * 100_000 + "null" + "}]" * 100_000


def test_a_value_that_is_no_json_is_named() -> None:
    with pytest.raises(TypeError, match="found bytes"):
        canonical_json([b"x"])
