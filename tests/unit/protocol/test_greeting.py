"""A handshake's optional fields are input of any shape: what is malformed counts as absent (wire.md section 2)."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.errors import ProtocolError
from kora_daemon.model.view import View
from kora_daemon.protocol.handshake import (
    MAX_SUBSETS,
    MAX_VIEW_COLLECTIONS,
    MAX_VIEW_FIELDS,
    MAX_VIEW_LENGTH,
    Greeting,
    read_greeting,
)
from tests.support.rehearsal import handshake_of

ODD_VALUES: list[Any] = [None, True, "5", [], {}, [1], {"a": 1}, -1, 1.5, 2**53, float("inf"), 10**400]


def greeting(**members: Any) -> Greeting:
    return read_greeting(handshake_of(**members))


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
def test_what_is_no_position_makes_a_client_one_without_watermark(value: object) -> None:
    assert greeting(last_delivery_sequence=value).watermark is None


@pytest.mark.parametrize(("value", "watermark"), [(0, 0), (5, 5), (5.0, 5), (2**53 - 1, 2**53 - 1)])
def test_a_watermark_is_any_whole_number_that_javascript_can_hold(value: float, watermark: int) -> None:
    assert greeting(last_delivery_sequence=value).watermark == watermark


def test_entries_of_a_version_vector_that_are_no_positions_are_left_out() -> None:
    vector = {f"node-{index}": value for index, value in enumerate(ODD_VALUES)}
    assert greeting(version_vector={**vector, "good": 7, "zero": 0}).version_vector == {"good": 7, "zero": 0}


@pytest.mark.parametrize("value", ["todos", 5, [], {}, True])
def test_what_is_no_scope_limits_nothing(value: object) -> None:
    greeted = greeting(sync_scope=value)
    assert greeted.scope is None


def test_a_scope_keeps_its_conditions_but_not_the_mark_of_a_read_only_one() -> None:
    greeted = greeting(sync_scope={"todos": {"userId": "u", "__readonly": True}, "notes": "all"})
    assert greeted.scope == {"todos": {"userId": "u"}, "notes": {}}


def test_a_scope_too_large_to_be_meant_counts_as_none() -> None:
    assert greeting(sync_scope={f"c{n}": {} for n in range(MAX_VIEW_COLLECTIONS + 1)}).scope is None
    wide = {f"f{n}": 1 for n in range(MAX_VIEW_FIELDS + 1)}
    assert greeting(sync_scope={"todos": wide}).scope == {"todos": {}}


@pytest.mark.parametrize("value", [{}, "todos", 5, [5], [{}], [{"collection": 1, "where": {}}], [{"collection": "c"}]])
def test_what_is_no_list_of_subsets_limits_nothing(value: object) -> None:
    assert greeting(sync_queries=value).subsets == ()


def test_repeated_subsets_count_once() -> None:
    todos = {"collection": "todos", "where": {"done": False}}
    again = {"where": {"done": False}, "collection": "todos", "extra": 1}
    subsets = greeting(sync_queries=[todos, again, "odd"]).subsets
    assert subsets == (("todos", {"done": False}),)
    assert View(None, subsets).key == View(None, greeting(sync_queries=[todos]).subsets).key


def test_subsets_that_differ_in_type_only_are_different() -> None:
    asked = [{"collection": "todos", "where": {"n": value}} for value in (1, True, "1", None)]
    kept = [where for _, where in greeting(sync_queries=asked).subsets]
    assert repr(kept) == repr([{"n": 1}, {"n": True}, {"n": "1"}, {"n": None}])


def test_too_many_subsets_count_as_none() -> None:
    asked = [{"collection": "todos", "where": {"n": n}} for n in range(MAX_SUBSETS + 1)]
    assert greeting(sync_queries=asked).subsets == ()


def test_what_is_too_long_to_be_kept_is_an_error() -> None:
    long = "x" * MAX_VIEW_LENGTH
    for members in ({"sync_scope": {"todos": {"userId": long}}}, {"sync_queries": [{"collection": long, "where": {}}]}):
        with pytest.raises(ProtocolError, match="at most 65536 characters"):
            greeting(**members)
