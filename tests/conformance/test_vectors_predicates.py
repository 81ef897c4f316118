"""Every case of `predicates.json`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.apply.predicates import MalformedPredicate, satisfies

VECTORS = Path(__file__).parent / "data" / "vectors"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "predicates.json").read_text("utf-8"))["cases"]


def test_no_case_was_lost() -> None:
    assert len(CASES) == 23
    assert Counter(case["result"] for case in CASES) == {True: 12, False: 11}
    operators = {name for case in CASES for operators in case["predicate"].values() for name in operators}
    assert operators == {"$eq", "$ne", "$in", "$lt", "$lte", "$gt", "$gte"}


@pytest.mark.parametrize("case", CASES, ids=[json.dumps(case["predicate"]) for case in CASES])
def test_a_predicate_holds_as_the_vector_says(case: dict[str, Any]) -> None:
    assert satisfies(case["predicate"], case["record"]) is case["result"]


@pytest.mark.parametrize(
    ("found", "operators", "result"),
    [
        (True, {"$eq": 1}, False),
        (1.0, {"$eq": 1}, True),
        (0, {"$in": [False, "", None, []]}, False),
        (1, {"$in": ["1", 1]}, True),
        ([], {"$in": [[]]}, False),
        ({}, {"$ne": {}}, True),
        (None, {"$ne": None}, False),
        (True, {"$lt": 5}, False),
        (1, {"$lt": True}, False),
        (4, {"$gt": 3, "$lt": 4}, False),
        (4, {"$gte": 4, "$lte": 4, "$ne": 5, "$in": [4]}, True),
        (2**53 + 1, {"$gt": 2**53}, False),
    ],
)
def test_values_are_compared_as_javascript_does(found: Any, operators: dict[str, Any], result: bool) -> None:
    assert satisfies({"field": operators}, {"field": found}) is result
    assert satisfies({"field": operators}, None) is False


@pytest.mark.parametrize("predicate", [{"f": {"$like": "x"}}, {"f": 5}, {"f": {"$in": 5}}, {"f": {"eq": 1}}])
@pytest.mark.parametrize("record", [None, {}, {"f": 5}])
def test_what_is_no_predicate_is_refused_whatever_the_record(predicate: Any, record: dict[str, Any] | None) -> None:
    with pytest.raises(MalformedPredicate, match="f"):
        satisfies(predicate, record)
