"""Whatever stands in a schema file, there is an answer; and JSON and TOML mean the same."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.errors import ConfigError
from kora_daemon.materialization.shape import planned_refill, shape_of
from kora_daemon.model.schema import CONSTRAINT_TYPES, ON_DELETE, Kind, Schema
from kora_daemon.schema_file import load_schema, read_schema

any_text = st.text(st.characters())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda children: st.lists(children) | st.dictionaries(any_text, children),
    max_leaves=10,
)
whole_text = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)
safe_integers = st.integers(-(2**53), 2**53)
field_names = st.from_regex(r"[a-z][a-zA-Z0-9_]{0,6}", fullmatch=True).filter(lambda name: name.lower() != "id")
collection_names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,6}", fullmatch=True)


def descriptor(kind: str, defaults: st.SearchStrategy[Any], **more: Any) -> st.SearchStrategy[Any]:
    """What a builder of this kind makes, with or without a default."""
    base = {"kind": kind, "auto": False, "enumValues": None, "itemKind": None, "mergeStrategy": None} | more
    plain = st.booleans().map(lambda required: base | {"required": required})
    return plain | defaults.map(lambda default: base | {"required": False, "defaultValue": default})


@st.composite
def enums(draw: st.DrawFn) -> Any:
    values = draw(st.lists(whole_text, min_size=1, max_size=4, unique=True))
    return draw(descriptor("enum", st.sampled_from(values), enumValues=values))


fields = st.one_of(
    descriptor("string", whole_text),
    descriptor("secret", whole_text),
    descriptor("richtext", whole_text),
    descriptor("number", safe_integers | st.floats(allow_nan=False, allow_infinity=False)),
    descriptor("timestamp", safe_integers),
    descriptor("boolean", st.booleans()),
    descriptor("array", st.lists(whole_text, max_size=2), itemKind="string"),
    descriptor("json", st.dictionaries(whole_text, safe_integers, max_size=2), nestedFields=None),
    descriptor("object", st.dictionaries(whole_text, safe_integers, max_size=2), nestedFields={}),
    descriptor("blob", st.nothing()),
    enums(),
)


@st.composite
def collections(draw: st.DrawFn) -> Any:
    names = draw(st.lists(field_names, min_size=1, max_size=5, unique_by=str.lower))
    some = st.lists(st.sampled_from(names), max_size=3, unique=True)
    one_or_more = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
    rule = st.fixed_dictionaries(
        {"type": st.sampled_from(CONSTRAINT_TYPES), "fields": one_or_more, "onConflict": st.just("custom")}
    )
    return {
        "fields": {name: draw(fields) for name in names},
        "indexes": draw(some),
        "constraints": draw(st.lists(rule, max_size=2)),
        "resolvers": {},
        "scope": draw(some),
    }


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """A document as `defineSchema()` returns it."""
    names = draw(st.lists(collection_names, min_size=1, max_size=3, unique_by=str.lower))
    made = {name: draw(collections()) for name in names}
    relations, sync = {}, {}
    for number, origin in enumerate(draw(st.lists(st.sampled_from(names), max_size=3))):
        relations[f"r{number}"] = {
            "from": origin,
            "to": draw(st.sampled_from(names)),
            "type": "many-to-one",
            "field": draw(st.sampled_from(sorted(made[origin]["fields"]))),
            "onDelete": draw(st.sampled_from(ON_DELETE)),
        }
    for name in draw(st.sets(st.sampled_from(names))):
        sync[name] = {"where": {draw(st.sampled_from(sorted(made[name]["fields"]))): "key"}}
    version = draw(st.integers(1, 2**53 - 1))
    return {"version": version, "collections": made, "relations": relations, "migrations": {}, "sync": sync}


def refusals(document: object) -> list[str]:
    try:
        read_schema(document, "FILE")
    except ConfigError as error:
        return error.problems
    return []


@settings(deadline=None)
@given(json_values)
def test_any_document_gets_an_answer_that_can_be_printed(document: Any) -> None:
    found = refusals(document)
    assert found
    for problem in found:
        assert "FILE" in problem
        problem.encode()


@settings(deadline=None)
@given(schemas())
def test_whatever_the_builders_make_is_a_schema_with_all_its_names(document: dict[str, Any]) -> None:
    schema = read_schema(document)
    assert list(schema.collections) == list(document["collections"])
    for name, collection in schema.collections.items():
        assert list(collection.fields) == list(document["collections"][name]["fields"])
    assert schema.relations.keys() == document["relations"].keys()
    assert sum(map(len, schema.relations_to.values())) == len(document["relations"])


@settings(deadline=None)
@given(schemas(), st.data())
def test_one_part_replaced_by_anything_gets_an_answer(document: dict[str, Any], data: st.DataObject) -> None:
    place: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    for problem in refusals(document):
        problem.encode()


@settings(deadline=None)
@given(schemas())
def test_json_and_toml_mean_the_same(document: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        as_json, as_toml = Path(folder, "schema.json"), Path(folder, "schema.toml")
        as_json.write_text(json.dumps(document), encoding="utf-8")
        as_toml.write_text(tomli_w.dumps(_without_nulls(document)), encoding="utf-8")
        from_json, from_toml = load_schema(as_json), load_schema(as_toml)
    assert from_json == from_toml
    assert tables_and_rows(from_json) == tables_and_rows(from_toml)


@settings(deadline=None)
@given(schemas(), st.randoms(use_true_random=False))
def test_the_order_of_fields_and_indexes_makes_no_difference_to_tables_and_rows(
    document: dict[str, Any], random: Any
) -> None:
    before = read_schema(document)
    for collection in document["collections"].values():
        shuffled = list(collection["fields"].items())
        random.shuffle(shuffled)
        collection["fields"] = dict(shuffled)
        random.shuffle(collection["indexes"])
    after = read_schema(document)
    assert tables_and_rows(after) == tables_and_rows(before)
    for name, collection in before.collections.items():
        shapes = shape_of(collection, before.version), shape_of(after.collections[name], after.version)
        assert planned_refill(*shapes, None, rows_lost=False) is None


def tables_and_rows(schema: Schema) -> list[tuple[str, dict[str, Kind]]]:
    """What the tables of a schema depend on, and what their rows do."""
    return [(one.fingerprint, one.kinds) for one in schema.collections.values()]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
