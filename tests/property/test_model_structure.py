"""The structure check has an answer for every JSON value, and one that can be sent."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.model.structure import has_fractional_clock, structure_problem

OPERATION: dict[str, Any] = {
    "id": "op-1",
    "nodeId": "node-a",
    "type": "update",
    "collection": "todos",
    "recordId": "rec-1",
    "data": {"n": 2},
    "previousData": {"n": 1},
    "timestamp": {"wallTime": 5, "logical": 0, "nodeId": "node-a"},
    "sequenceNumber": 1,
    "causalDeps": [],
    "schemaVersion": 1,
    "atomicOps": {"n": {"type": "increment", "value": 1}},
    "transactionId": "t",
    "mutationName": "m",
}
any_text = st.text(st.characters())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda children: st.lists(children) | st.dictionaries(any_text, children),
    max_leaves=10,
)


@settings(deadline=None)
@given(json_values)
def test_any_value_gets_an_answer(value: Any) -> None:
    problem = structure_problem(value)
    assert problem is not None
    problem.encode("utf-8")
    assert not has_fractional_clock(value)


@settings(deadline=None)
@given(st.sampled_from(sorted(OPERATION)), json_values)
def test_one_field_of_any_value_gets_an_answer_about_that_field(field: str, value: Any) -> None:
    problem = structure_problem(OPERATION | {field: value})
    assert problem is None or problem.startswith(field)


@settings(deadline=None)
@given(st.sampled_from(["wallTime", "logical", "nodeId"]), json_values)
def test_one_part_of_the_clock_of_any_value_gets_an_answer_about_that_part(part: str, value: Any) -> None:
    problem = structure_problem(OPERATION | {"timestamp": {**OPERATION["timestamp"], part: value}})
    assert problem is None or problem.startswith(f"timestamp.{part} is ")
