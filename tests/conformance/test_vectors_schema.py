"""Every case of `schema-validation.json`, and the three schemas that the other vectors are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.errors import ConfigError
from kora_daemon.model.schema import KINDS, Constraint, Relation, Schema, SyncRule
from kora_daemon.schema_file import load_schema, read_schema

VECTORS = Path(__file__).parent / "data" / "vectors"
Case = dict[str, Any]

CASES: list[Case] = json.loads((VECTORS / "schema-validation.json").read_text())["cases"]
DECIDED = {
    "descriptor of an unknown kind is not caught": False,
    "relation with an odd onDelete is not caught": False,
    "custom without a function": True,
}
"""Where this server answers otherwise than the reference, as the cases' notes propose.

A `custom` rule that an app declares has lost its function in JSON; the server has no use for it.
"""


def test_no_case_was_lost() -> None:
    assert len(CASES) == 75
    assert {case["name"] for case in CASES} > DECIDED.keys()


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_schema_is_accepted_or_refused_as_the_vector_says(case: Case) -> None:
    assert bool(refusals(case["schema"])) is not DECIDED.get(case["name"], case["valid"])


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_refusal_names_a_place_in_the_schema(case: Case) -> None:
    for problem in refusals(case["schema"]):
        place, _, sentence = problem.partition(" (schema.json): ")
        assert place.partition(".")[0] in case["schema"]
        assert sentence


def refusals(document: object) -> list[str]:
    try:
        read_schema(document, "schema.json")
    except ConfigError as error:
        return error.problems
    return []


def load(name: str) -> Schema:
    return load_schema(VECTORS / "schemas" / f"{name}.json")


def declared(name: str) -> Case:
    document: Case = json.loads((VECTORS / "schemas" / f"{name}.json").read_text())
    return document


@pytest.mark.parametrize("name", ["todos", "kitchen_sink", "workspace"])
def test_everything_that_the_server_acts_on_is_read(name: str) -> None:
    schema, document = load(name), declared(name)

    assert schema.version == document["version"]
    assert list(schema.collections) == list(document["collections"])
    for collection, as_declared in document["collections"].items():
        read = schema.collections[collection]
        assert [
            (one.name, one.kind, one.enum_values or None, one.default) for one in read.fields.values()
        ] == [
            (field, one["kind"], one["enumValues"] and tuple(one["enumValues"]), one.get("defaultValue"))
            for field, one in as_declared["fields"].items()
        ]  # fmt: skip
        assert read.indexes == tuple(as_declared["indexes"])
        assert read.scope == tuple(as_declared["scope"])
        assert read.constraints == tuple(
            Constraint(type=one["type"], fields=tuple(one["fields"]), where=one.get("where", {}))
            for one in as_declared["constraints"]
        )
    assert schema.relations == {
        relation: Relation(
            name=relation,
            from_collection=one["from"],
            field=one["field"],
            to_collection=one["to"],
            on_delete=one["onDelete"],
        )
        for relation, one in document["relations"].items()
    }
    assert schema.sync == {
        collection: SyncRule(collection=collection, where=one["where"])
        for collection, one in document.get("sync", {}).items()
    }


def test_every_kind_is_in_the_kitchen_sink() -> None:
    kinds = {one.kind for one in load("kitchen_sink").collections["items"].fields.values()}
    assert kinds == set(KINDS)


def test_a_workspace_lists_what_a_deleted_project_takes_with_it_in_order_of_the_relations_names() -> None:
    assert [(one.name, one.on_delete) for one in load("workspace").relations_to["projects"]] == [
        ("lockHoldsProject", "restrict"),
        ("noteOfProject", "set-null"),
        ("projectParent", "cascade"),
        ("taskOfProject", "cascade"),
    ]
