"""Every case of `scopes-schema.json`: what stock clients ask for by their schema's rules, and what a server grants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.auth.schema_rules import (
    asked_scopes,
    claimed_values,
    granted_scopes,
    opened,
    schema_rules,
    value_keys,
)
from kora_daemon.model.schema import Schema
from kora_daemon.schema_file import read_schema

Case = dict[str, Any]

CASES: list[Case] = json.loads((Path(__file__).parent / "data" / "vectors" / "scopes-schema.json").read_text())["cases"]


def schema_of(case: Case) -> Schema:
    return read_schema({"version": 1, **case["schema"]}, "schema.json")


def exactly(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def test_no_case_was_lost() -> None:
    assert len(CASES) == 40


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_what_a_client_asks_for(case: Case) -> None:
    schema, expect = schema_of(case), case["expect"]
    rules, keys = schema_rules(schema), value_keys(schema)
    assert list(keys) == expect["value_keys"]
    values = claimed_values(case["claims"], keys)
    assert exactly(values) == exactly(expect["values"])
    assert exactly(asked_scopes(rules, values)) == exactly(expect["client_scope_map"])
    assert opened(rules, values) == expect["unrestricted_by_missing_value"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_server_hides_what_a_missing_value_would_open(case: Case) -> None:
    expect = case["expect"]
    granted = granted_scopes(schema_rules(schema_of(case)), expect["values"])
    hidden = set(expect["unrestricted_by_missing_value"])
    assert granted.keys() == expect["client_scope_map"].keys() - hidden
    assert exactly(granted) == exactly({name: expect["client_scope_map"][name] for name in granted})
