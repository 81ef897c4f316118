"""Canonical text: one text for each value, and the value is still in it."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.model.jsvalue import as_double, as_integer, canonical_json, number_text, utf16_key

EXPONENT = re.compile(r"-?[1-9](\.[0-9]*[1-9])?e[+-][1-9][0-9]*")
PLAIN = re.compile(r"0|-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")

any_text = st.text(st.characters())  # lone surrogates included
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | any_text,
    lambda children: st.lists(children) | st.dictionaries(any_text, children),
    max_leaves=20,
)


def in_another_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: in_another_order(value[key]) for key in reversed(value)}
    return [in_another_order(element) for element in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(json_values)
def test_canonical_text_of_the_canonical_text_is_the_same(value: Any) -> None:
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


@settings(deadline=None)
@given(json_values)
def test_key_order_makes_no_difference(value: Any) -> None:
    assert canonical_json(in_another_order(value)) == canonical_json(value)


@settings(deadline=None)
@given(json_values)
def test_canonical_text_is_sendable(value: Any) -> None:
    assert canonical_json(value).encode("utf-8")


@settings(deadline=None)
@given(st.dictionaries(any_text, st.none()))
def test_keys_come_by_utf16_unit(value: dict[str, None]) -> None:
    keys = list(json.loads(canonical_json(value)))
    assert keys == sorted(keys, key=utf16_key)


@settings(deadline=None)
@given(numbers)
def test_a_number_is_printed_with_the_fewest_digits_that_give_it_back(number: float) -> None:
    text = number_text(number)
    double = as_double(number)
    if math.isinf(double):
        assert text == "null"
        return
    assert float(text) == double
    plain = double == 0 or 1e-6 <= abs(double) < 1e21
    assert (PLAIN if plain else EXPONENT).fullmatch(text)
    significant = re.sub(r"e.*|[-.]", "", text).lstrip("0").rstrip("0")
    assert len(significant) <= len(re.sub(r"e.*|[-.]", "", repr(double)).strip("0"))


@settings(deadline=None)
@given(numbers)
def test_a_number_is_an_integer_exactly_when_its_text_has_no_fraction(number: float) -> None:
    integer = as_integer(number)
    if integer is None:
        assert math.isinf(as_double(number)) or not as_double(number).is_integer()
    else:
        assert number_text(integer) == number_text(number)
