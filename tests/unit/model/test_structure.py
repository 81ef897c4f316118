"""A malformed operation is explained: field, what was found, what was expected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kora_daemon.model.structure import atomic_ops_problem, has_fractional_clock, structure_problem

OPERATION: dict[str, Any] = {
    "id": "op-1",
    "nodeId": "node-a",
    "type": "insert",
    "collection": "todos",
    "recordId": "rec-1",
    "data": {"title": "x"},
    "previousData": None,
    "timestamp": {"wallTime": 1_700_000_000_000, "logical": 0, "nodeId": "node-a"},
    "sequenceNumber": 1,
    "causalDeps": ["op-0"],
    "schemaVersion": 1,
}
TIMESTAMP = OPERATION["timestamp"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": 5}, "id is 5, expected a non-empty text of whole characters"),
        ({"type": "upsert"}, 'type is the text "upsert", expected one of insert, update, delete'),
        ({"type": ["insert"]}, "type is a list, expected one of insert, update, delete"),
        ({"sequenceNumber": True}, "sequenceNumber is true, expected an integer from 0 to 9007199254740991"),
        ({"sequenceNumber": 10**400}, "sequenceNumber is a number too large, expected an integer from 0"),
        ({"schemaVersion": 0.0}, "schemaVersion is 0, expected an integer from 1 to"),
        ({"data": [1]}, "data is a list, expected an object or null"),
        ({"timestamp": {**TIMESTAMP, "wallTime": "5"}}, 'timestamp.wallTime is the text "5", expected an integer'),
        ({"timestamp": {"wallTime": 1, "logical": 0}}, "timestamp.nodeId is missing, expected a non-empty text"),
        ({"causalDeps": ["a", 1]}, "causalDeps[1] is 1, expected a non-empty text"),
        ({"atomicOps": {"n": 5}}, 'atomicOps["n"] is 5, expected an object'),
        ({"atomicOps": {"n": {}}}, 'atomicOps["n"].type is missing, expected one of increment, max'),
        ({"atomicOps": {"n": {"type": "max"}}}, 'atomicOps["n"].value is missing, expected a number'),
        ({"mutationName": {}}, "mutationName is an object, expected a text of whole characters or null"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_the_sentence_names_field_finding_and_expectation(change: dict[str, Any], sentence: str) -> None:
    problem = structure_problem(OPERATION | change)
    assert problem is not None
    assert problem.startswith(sentence)


@pytest.mark.parametrize("value", [None, [], "insert", 5])
def test_what_is_no_object_is_no_operation(value: object) -> None:
    problem = structure_problem(value)
    assert problem is not None
    assert problem.startswith("the operation is ")


@pytest.mark.parametrize("spelling", ["1.0", "1e3", "1E+3", "10e-1"])
def test_integers_count_in_any_spelling(spelling: str) -> None:
    number = json.loads(spelling)
    clock = {"wallTime": number, "logical": number, "nodeId": "n"}
    change = {"sequenceNumber": number, "schemaVersion": number, "timestamp": clock}
    assert structure_problem(OPERATION | change) is None


@pytest.mark.parametrize("field", ["id", "nodeId", "collection", "recordId"])
def test_half_a_character_is_refused_in_a_key(field: str) -> None:
    problem = structure_problem(OPERATION | {field: "x\ud800"})
    assert problem == f'{field} is the text "x\\ud800", expected a non-empty text of whole characters, at most 255'


def test_a_name_has_a_limit() -> None:
    assert structure_problem(OPERATION | {"nodeId": "n" * 255}) is None
    assert structure_problem(OPERATION | {"nodeId": "n" * 256}) is not None


def test_half_a_character_is_refused_in_causes_and_the_clocks_node() -> None:
    assert structure_problem(OPERATION | {"causalDeps": ["\udfff"]}) is not None
    assert structure_problem(OPERATION | {"timestamp": {**TIMESTAMP, "nodeId": "\udfff"}}) is not None


def test_half_a_character_is_welcome_in_the_data() -> None:
    change = {"data": {"\ud800": "\udfff"}, "previousData": {"a": ["\ud800"]}}
    assert structure_problem(OPERATION | change) is None


def test_half_a_character_can_not_be_kept_in_a_name() -> None:
    assert structure_problem(OPERATION | {"mutationName": "\ud800"}) is not None


def test_a_message_is_short_and_can_always_be_sent() -> None:
    problem = structure_problem(OPERATION | {"atomicOps": {"\ud800" * 1000: {"type": "é" * 1000}}})
    assert problem is not None
    assert len(problem.encode()) < 700


def test_the_first_wrong_field_is_named_whatever_follows() -> None:
    problem = structure_problem({"id": "x"})
    assert problem is not None
    assert problem.startswith("nodeId is missing")


@pytest.mark.parametrize("value", [10**400, float("inf"), True, None, "5"], ids=["huge", "inf", "true", "null", "text"])
def test_an_atomic_number_must_be_one(value: object) -> None:
    assert atomic_ops_problem({"n": {"type": "increment", "value": value}}) is not None


def test_atomic_operations_may_be_judged_alone() -> None:
    assert atomic_ops_problem(None) is None
    assert atomic_ops_problem({}) is None
    assert atomic_ops_problem({"tags": {"type": "remove", "value": None}}) is None
    assert atomic_ops_problem([]) == "atomicOps is a list, expected an object or null"


@pytest.mark.parametrize(
    ("clock", "fractional"),
    [
        ({"wallTime": 1.5, "logical": 0}, True),
        ({"wallTime": 1, "logical": 0.5}, True),
        ({"wallTime": 10**400, "logical": 0}, True),
        ({"wallTime": 1.0, "logical": 0}, False),
        ({"wallTime": "1.5", "logical": 0}, False),
        ({"wallTime": 1.5}, False),
        ("now", False),
        (None, False),
    ],
    ids=json.dumps,
)
def test_a_clock_of_fractions_is_told_from_no_clock_at_all(clock: object, fractional: bool) -> None:
    assert has_fractional_clock(OPERATION | {"timestamp": clock}) is fractional


def test_what_is_no_operation_has_no_clock() -> None:
    assert not has_fractional_clock([1])
