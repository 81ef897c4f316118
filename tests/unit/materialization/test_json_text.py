"""JSON texts as JavaScript writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from kora_daemon.materialization.json_text import OVERFLOW, plain_number, read_json, shown_json, write_json
from kora_daemon.model.json_scan import MAX_NESTING
from kora_daemon.model.jsvalue import as_double


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":[1,2.5,null,true,"é"]}', {"a": [1, 2.5, None, True, "é"]}),
        ("9007199254740993", 9007199254740993),
        ('"\\ud800"', "\ud800"),
        ('"\\ud83d\\ude00"', "😀"),
        ('{"\\udfff":1}', {"\udfff": 1}),
        ("1e400", OVERFLOW),
        ("-1e400", -OVERFLOW),
        ("[1" + "0" * 5_000 + "]", [OVERFLOW]),
        ("-1" + "0" * 5_000, -OVERFLOW),
        ('["\\ud800",1.5,7]', ["\ud800", 1.5, 7]),
    ],
)
def test_any_json_is_read_from_text_bytes_or_raw(text: str, value: Any) -> None:
    assert read_json(text) == value
    assert read_json(text.encode()) == value
    assert read_json(Raw(text.encode())) == value
    assert read_json(Raw(text)) == value


@pytest.mark.parametrize("text", ["", "nul", "[1", "NaN", "Infinity", '["\\ud800",NaN]', "{'a':1}"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|no JSON"):
        read_json(text)


def test_overflow_is_infinite_to_javascript_and_a_number_to_json() -> None:
    assert as_double(OVERFLOW) == float("inf")
    assert as_double(-OVERFLOW) == float("-inf")
    assert write_json([OVERFLOW, "\ud800"]) == f'[1{"0" * 400},"\\ud800"]'


def test_written_json_is_compact_and_keeps_the_order_of_keys() -> None:
    assert write_json({"b": [1, 2.5], "a": "é\0"}) == '{"b":[1,2.5],"a":"é\\u0000"}'
    assert write_json({"b": 1, "a": "é\ud800"}) == '{"b":1,"a":"\\u00e9\\ud800"}'


@pytest.mark.parametrize(
    ("double", "plain"), [(5.0, "5"), (-0.0, "0"), (0.5, "0.5"), (2.0**53, str(2.0**53)), (2.0**53 - 1, str(2**53 - 1))]
)
def test_integral_numbers_are_integers_as_far_as_they_are_exact(double: float, plain: str) -> None:
    assert repr(plain_number(double)) == plain


def beneath(frames: int, call: Callable[[], str]) -> str:
    """The call, so deep in the stack."""
    return call() if frames == 0 else beneath(frames - 1, call)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_records_are_shown_however_deeply_clients_may_nest_them(opening: str, closing: str, indent: int | None) -> None:
    value = {"field": read_json(opening * MAX_NESTING + "1" + closing * MAX_NESTING), "bytes": b"\0"}
    text = beneath(150, lambda: shown_json(value, indent))
    assert read_json(text) == value | {"bytes": {"$koraBytes": "AA=="}}
