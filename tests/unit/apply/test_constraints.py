"""Constraints on inserts and updates (store.md section 6.2), for values of every kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.model.operation import Operation
from kora_daemon.model.schema import Field, Kind, Schema
from tests.support.judging import SERVER, Judge, MakeJudge, constraint, with_constraints
from tests.support.log import RECEIVED_AT_MS
from tests.support.records import Node, apply, schema_of
from tests.support.stores import RECORD_STORES

ALL_KINDS: dict[str, Kind] = {
    "text": "string",
    "secret": "secret",
    "choice": "enum",
    "number": "number",
    "flag": "boolean",
    "at": "timestamp",
    "body": "richtext",
    "list": "array",
    "thing": "object",
    "any": "json",
    "file": "blob",
    "state": "string",
}
BYTES = {"$koraBytes": "AQID"}
BLOB = {"hash": "ab", "size": 3}


def kinds_schema(**constraints: Any) -> Schema:
    schema = schema_of(things=ALL_KINDS, users={"name": "string"})
    things = schema.collections["things"]
    fields = {**things.fields, "choice": Field(name="choice", kind="enum", enum_values=("a", "b"))}
    schema = replace(schema, collections={**schema.collections, "things": replace(things, fields=fields)})
    return with_constraints(schema, **constraints)


def put(judged: Judge, node: Node, record_id: str, **fields: Any) -> bool:
    """Insert a thing; whether it was taken."""
    return took(judged, node.insert(record_id, fields, collection="things"))


def took(judged: Judge, operation: Operation) -> bool:
    outcome = judged.batch(operation)
    if outcome.rejections:
        assert outcome.applied == []
        (rejection,) = outcome.rejections
        assert (rejection.code, rejection.retriable) == ("CONSTRAINT_VIOLATION", False)
        return False
    assert len(outcome.applied) == 1
    return True


# -- unique -----------------------------------------------------------------------------------------------------------


class Values(NamedTuple):
    """Of a field: one, others that are the same, others that are not."""

    field: str
    one: Any
    same: list[Any]
    others: list[Any]


VALUES = [
    Values("text", "x", ["x"], ["X", "x ", "", "é"]),
    Values("text", "", [""], [" "]),
    Values("text", "e\u0301", ["e\u0301"], ["é"]),
    Values("text", "a\0b", ["a\0b"], ["a", "ab"]),
    Values("text", "\ud800", ["\ud800"], ["x"]),
    Values("secret", "$2$hash", ["$2$hash"], ["$2$Hash"]),
    Values("choice", "a", ["a"], ["b"]),
    Values("number", 5, [5, 5.0], [5.5, -5, 50]),
    Values("number", 0, [0, -0.0, 0.0], [1]),
    Values("number", 0.1, [0.1], [0.1 + 1e-16, 0.2]),
    Values("number", 2**53, [2**53, 2**53 + 1], [2**53 + 2]),
    Values("flag", True, [True, 1, "yes", [], {}], [False]),
    Values("flag", False, [False, 0, ""], [True]),
    Values("at", RECEIVED_AT_MS, [RECEIVED_AT_MS, float(RECEIVED_AT_MS)], [RECEIVED_AT_MS + 1]),
    Values("body", "text", ["text"], ["Text"]),
    Values(
        "body", BYTES, [BYTES, {"0": 1, "1": 2, "2": 3}, {"__kora_bytes__": "AQID"}], [{"$koraBytes": "AQI="}, "AQID"]
    ),
    Values("list", [1, "a"], [[1, "a"], [1.0, "a"]], [["a", 1], [1], [], [1, "a", None]]),
    Values("list", [], [[]], [[[]], [None]]),
    Values("thing", {"a": 1, "b": [2]}, [{"b": [2], "a": 1}], [{"a": 1}, {"a": 1, "b": 2}, {}]),
    Values("any", "5", ["5"], [5, '"5"', ["5"]]),
    Values("any", True, [True], ["true", 1, [True]]),
    Values("any", 0, [0, -0.0], [False, "", [], {}]),
    Values("any", {"é": "\ud800"}, [{"é": "\ud800"}], [{"é": "x"}]),
    Values("any", "", [""], ['""', [], 0]),
    Values("file", BLOB, [{"size": 3, "hash": "ab"}], [{"hash": "ab", "size": 4}]),
]
on_all_stores = pytest.mark.parametrize("judge", RECORD_STORES, indirect=True)
NAMES = [f"{one.field} {one.one!a}" for one in VALUES]


@on_all_stores
@pytest.mark.parametrize("values", VALUES, ids=NAMES)
def test_no_two_live_records_have_the_same_unique_value(judge: MakeJudge, node: Node, values: Values) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", values.field)]))
    assert put(judged, node, "first", **{values.field: values.one})
    for same in values.same:
        assert not put(judged, node, "second", **{values.field: same}), same
    for number, other in enumerate(values.others):
        assert put(judged, node, f"other-{number}", **{values.field: other}), other
    assert put(judged, node, "first", **{values.field: values.one})


@pytest.mark.parametrize("field", ALL_KINDS)
def test_null_and_missing_values_never_collide(judge: MakeJudge, node: Node, field: str) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", field)]))
    for number, fields in enumerate([{field: None}, {}, {field: None}, {}]):
        assert put(judged, node, f"record-{number}", **fields)
    assert took(judged, node.update("record-0", {field: None}, collection="things"))


def test_values_of_several_fields_are_one(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text", "flag")]))
    assert put(judged, node, "a", text="x", flag=True)
    assert not put(judged, node, "b", text="x", flag=1)
    assert put(judged, node, "b", text="x", flag=False)
    assert put(judged, node, "c", text="x")
    assert put(judged, node, "d", text="x")
    assert put(judged, node, "e", flag=True)
    assert not took(judged, node.update("c", {"flag": True}, collection="things"))


def test_a_value_that_no_column_shows_collides_with_nothing(judge: MakeJudge, node: Node) -> None:
    """It came under another version of the schema, and the record has null there."""
    judged = judge(kinds_schema(things=[constraint("unique", "number")]))
    for number in range(3):
        operation = node.insert(f"record-{number}", {"number": "5"}, collection="things")
        operation.schema_version = 2
        assert took(judged, operation)
    assert put(judged, node, "d", number=5)


def test_encrypted_operations_have_no_values_to_collide(judge: MakeJudge, node: Node) -> None:
    judged = judge(
        kinds_schema(things=[constraint("unique", "text"), constraint("referential", "text", collection="users")])
    )
    for number in range(2):
        assert put(judged, node, f"record-{number}", __kora_e2e_encrypted={"v": 1, "ct": "xyz"})


def test_an_update_is_judged_as_the_record_will_be(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text", "number")]))
    assert put(judged, node, "a", text="x", number=1)
    assert put(judged, node, "b", text="x", number=2)
    assert not took(judged, node.update("b", {"number": 1}, collection="things"))
    assert took(judged, node.update("b", {"number": 1, "text": "y"}, collection="things"))
    assert not took(judged, node.update("b", {"text": "x"}, collection="things"))
    assert took(judged, node.update("b", {"flag": True}, collection="things"))


def test_an_update_of_a_record_never_seen_is_judged_by_its_data(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text")]))
    assert put(judged, node, "a", text="x")
    assert not took(judged, node.update("new", {"text": "x"}, collection="things"))
    assert took(judged, node.update("new", {"flag": True}, collection="things"))


def test_an_insert_is_judged_without_what_the_record_was(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text", "number")]))
    assert put(judged, node, "a", text="x", number=1)
    assert put(judged, node, "b", text="x", number=2)
    assert took(judged, node.insert("b", {"number": 1}, collection="things"))
    assert judged.live("things")["b"] == {"number": 1}


def test_a_record_is_never_told_apart_from_itself_by_a_field_called_id(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text")]))
    assert put(judged, node, "a", text="x")
    assert not put(judged, node, "b", text="x", id="a")
    assert put(judged, node, "a", text="x", id="b")


def test_records_that_collide_already_are_refused_until_one_gives_way(judge: MakeJudge, node: Node) -> None:
    """Out of a backup, where nothing is judged."""
    judged = judge(kinds_schema(things=[constraint("unique", "text")]))
    apply(judged.store, *(node.insert(one, {"text": "x"}, collection="things") for one in ("a", "b")))
    for record_id in ("a", "b"):
        assert not took(judged, node.update(record_id, {"flag": True}, collection="things"))
    assert took(judged, node.update("b", {"text": "y"}, collection="things"))
    assert took(judged, node.update("a", {"flag": True}, collection="things"))


def test_an_operation_without_data_is_not_judged(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text")]))
    assert put(judged, node, "a", text="x")
    assert took(judged, node.insert("b", None, collection="things"))
    assert took(judged, node.update("b", None, collection="things"))
    assert judged.live("things").keys() == {"a"}


def test_an_old_update_is_judged_as_if_it_were_the_newest(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text")]))
    assert put(judged, node, "a", text="x")
    assert took(judged, node.insert("b", {"text": "y"}, collection="things", at=RECEIVED_AT_MS))
    assert not took(judged, node.update("b", {"text": "x"}, collection="things"))


def test_deletes_are_never_refused_by_constraints(judge: MakeJudge, node: Node) -> None:
    judged = judge(
        kinds_schema(
            things=[
                constraint("referential", "text", collection="users"),
                constraint("capacity", "number"),
                constraint("unique", "flag"),
            ]
        )
    )
    assert took(judged, node.insert("u", {}, collection="users"))
    assert put(judged, node, "a", text="u", number=1)
    assert put(judged, node, "b", text="u", number=1)
    assert took(judged, node.delete("u", collection="users"))
    assert took(judged, node.delete("a", collection="things"))
    assert took(judged, node.delete("never seen", collection="things"))


# -- where ------------------------------------------------------------------------------------------------------------


class Where(NamedTuple):
    """A condition, values of its field that meet it, and values that do not; None is null."""

    field: str
    wanted: Any
    met: list[Any]
    unmet: list[Any]


WHERES = [
    Where("flag", True, [True, 1, "x"], [False, 0, None]),
    Where("flag", False, [False, 0], [True, None]),
    Where("flag", None, [None], [False, True]),
    Where("flag", 1, [], [True, False, 1]),
    Where("number", 5, [5, 5.0], [6, None]),
    Where("number", "5", [], [5, None]),
    Where("choice", "a", ["a"], ["b", None]),
    Where("at", 0, [0], [1, None]),
    Where("list", ["x"], [["x"]], [[], ["x", "x"], None]),
    Where("any", {"a": 1, "b": 2}, [{"b": 2, "a": 1}], [{"a": 1}, "x", None]),
    Where("any", None, [None], [False, "", []]),
]


@on_all_stores
@pytest.mark.parametrize("where", WHERES, ids=[f"{one.field} is {one.wanted!r}" for one in WHERES])
def test_a_unique_constraint_is_for_candidates_that_meet_its_where(judge: MakeJudge, node: Node, where: Where) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text", **{where.field: where.wanted})]))
    assert put(judged, node, "first", text="x", **{where.field: (where.unmet or [None])[0]})
    for number, value in enumerate(where.met):
        # The first record does not meet it and counts all the same.
        assert not put(judged, node, f"met-{number}", text="x", **{where.field: value}), value
        assert put(judged, node, f"other-{number}", text=f"other-{number}", **{where.field: value}), value
    for number, value in enumerate(where.unmet):
        assert put(judged, node, f"unmet-{number}", text="x", **{where.field: value}), value


def test_a_missing_value_meets_a_where_of_null(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text", flag=None)]))
    assert put(judged, node, "a", text="x")
    assert not put(judged, node, "b", text="x")
    assert put(judged, node, "c", text="x", flag=False)


def test_an_update_may_enter_and_leave_the_where(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text", flag=True)]))
    assert put(judged, node, "a", text="x", flag=True)
    assert put(judged, node, "b", text="x", flag=False)
    assert not took(judged, node.update("b", {"flag": True}, collection="things"))
    assert took(judged, node.update("a", {"flag": False, "text": "y"}, collection="things"))
    assert took(judged, node.update("b", {"flag": True}, collection="things"))


def test_all_of_a_where_has_to_be_met(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text", flag=True, state="open")]))
    assert put(judged, node, "a", text="x", flag=True, state="open")
    assert put(judged, node, "b", text="x", flag=True)
    assert put(judged, node, "c", text="x", state="open")
    assert not put(judged, node, "d", text="x", state="open", flag=True)


# -- capacity ---------------------------------------------------------------------------------------------------------


@on_all_stores
@pytest.mark.parametrize("values", VALUES, ids=NAMES)
def test_a_group_has_two_members(judge: MakeJudge, node: Node, values: Values) -> None:
    judged = judge(kinds_schema(things=[constraint("capacity", values.field)]))
    assert put(judged, node, "a", **{values.field: values.one})
    assert put(judged, node, "b", **{values.field: values.same[-1]})
    assert not put(judged, node, "c", **{values.field: values.same[0]})
    assert put(judged, node, "c", **{values.field: values.others[0]})
    # A member counts itself, whatever changes.
    assert not took(judged, node.update("a", {"state": "x"}, collection="things"))


@pytest.mark.parametrize("field", ALL_KINDS)
def test_records_without_the_value_are_a_group_too(judge: MakeJudge, node: Node, field: str) -> None:
    judged = judge(kinds_schema(things=[constraint("capacity", field)]))
    assert put(judged, node, "a")
    assert put(judged, node, "b", **{field: None})
    assert not put(judged, node, "c")


@on_all_stores
@pytest.mark.parametrize("where", WHERES, ids=[f"{one.field} is {one.wanted!r}" for one in WHERES])
def test_only_records_that_meet_the_where_count(judge: MakeJudge, node: Node, where: Where) -> None:
    judged = judge(kinds_schema(things=[constraint("capacity", "text", **{where.field: where.wanted})]))
    for number, value in enumerate(where.unmet):
        assert put(judged, node, f"unmet-{number}", text="x", **{where.field: value}), value
    for number in range(3 if where.met else 0):
        assert put(judged, node, f"met-{number}", text="x", **{where.field: where.met[-1]}) is (number < 2)
        assert put(judged, node, f"other-{number}", text="y", **{where.field: where.met[0]}) is (number < 2)


def test_a_capacity_without_fields_is_for_all_that_meet_the_where(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("capacity", flag=True)]))
    assert put(judged, node, "a", flag=True, text="1")
    assert put(judged, node, "b", flag=True, text="2")
    assert not put(judged, node, "c", flag=True, text="3")
    assert put(judged, node, "c", text="3")
    assert took(judged, node.delete("a", collection="things"))
    assert took(judged, node.update("c", {"flag": True}, collection="things"))


# -- referential ------------------------------------------------------------------------------------------------------


@pytest.fixture
def referring(judge: MakeJudge, node: Node) -> Judge:
    judged = judge(kinds_schema(things=[constraint("referential", "text", collection="users")]))
    assert took(judged, node.insert("u", {}, collection="users"))
    return judged


def test_a_reference_is_the_id_of_a_live_record(referring: Judge, node: Node) -> None:
    assert put(referring, node, "a", text="u")
    assert not put(referring, node, "b", text="U")
    assert not put(referring, node, "b", text="")
    assert took(referring, node.delete("u", collection="users"))
    assert not put(referring, node, "b", text="u")
    # Tried whatever changes.
    assert not took(referring, node.update("a", {"flag": True}, collection="things"))
    assert took(referring, node.update("a", {"text": None}, collection="things"))


def test_a_reference_may_be_null_or_missing(referring: Judge, node: Node) -> None:
    assert put(referring, node, "a", text=None)
    assert put(referring, node, "b", flag=True)
    assert took(referring, node.update("b", {"flag": False}, collection="things"))


def test_a_value_that_is_no_id_refers_to_nothing(referring: Judge, node: Node) -> None:
    assert took(referring, node.insert("5", {}, collection="users"))
    for value in (5, True, ["u"], {"id": "u"}):
        operation = node.insert("a", {"text": value}, collection="things")
        operation.schema_version = 2
        assert not took(referring, operation)


def test_a_reference_to_no_collection_is_not_checked(judge: MakeJudge, node: Node) -> None:
    for where in ({}, {"collection": 5}):
        judged = judge(kinds_schema(things=[constraint("referential", "text", **where)]))
        assert put(judged, node, "a", text="nobody")


def test_a_reference_into_a_collection_without_records_is_refused(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("referential", "text", collection="elsewhere")]))
    assert took(judged, node.insert("u", {}, collection="elsewhere"))
    assert not put(judged, node, "a", text="u")


def test_only_the_first_field_refers(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("referential", "text", "secret", collection="users")]))
    assert took(judged, node.insert("u", {}, collection="users"))
    assert put(judged, node, "a", text="u", secret="nobody")
    assert not put(judged, node, "b", text="nobody", secret="u")


def test_a_record_may_refer_to_itself_once_it_is_there(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("referential", "text", collection="things")]))
    assert not put(judged, node, "a", text="a")
    assert put(judged, node, "a")
    assert took(judged, node.update("a", {"text": "a"}, collection="things"))


# -- several ----------------------------------------------------------------------------------------------------------


def test_the_first_violation_in_the_order_of_the_schema_is_told(judge: MakeJudge, node: Node) -> None:
    judged = judge(
        kinds_schema(
            things=[
                constraint("capacity", "number"),
                constraint("referential", "secret", collection="users"),
                constraint("unique", "text", "flag"),
            ]
        )
    )
    assert put(judged, node, "a", text="x", flag=True, number=1)
    assert put(judged, node, "b", number=1)

    def told(**fields: Any) -> str:
        return judged.refuses(node.insert("c", fields, collection="things")).message

    bad = {"text": "x", "flag": True, "number": 1, "secret": "nobody"}
    assert told(**bad) == "two records of things have the same number already"
    assert told(**bad | {"number": 2}) == "things.secret must be the id of a record of users"
    assert told(text="x", flag=True) == "another record of things has the same text and flag"


def test_values_are_judged_before_constraints_and_only_those_of_the_schemas_version(
    judge: MakeJudge, node: Node
) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text")]))
    assert put(judged, node, "a", text="x")
    bad = node.insert("b", {"text": "x", "number": "5"}, collection="things")
    rejection = judged.refuses(bad)
    assert (rejection.code, rejection.message) == ("INVALID_VALUE", "things.number must be a number")
    bad.schema_version = 2
    assert judged.refuses(bad).code == "CONSTRAINT_VIOLATION"


def test_a_collection_whose_table_is_not_there_yet_is_not_judged(judge: MakeJudge, node: Node) -> None:
    """As on a database that `kora migrate` has not been run on."""
    judged = judge(schema_of(users={"name": "string"}))
    schema = kinds_schema(
        things=[constraint("unique", "text"), constraint("referential", "secret", collection="users")]
    )
    judged.pipeline = Pipeline(SERVER, ApplyRules(schema))
    assert put(judged, node, "a", text=5, secret="nobody")
    assert put(judged, node, "b", text="x")
    assert put(judged, node, "c", text="x")
    assert judged.store.count_operations() == 3


GOOD: dict[str, list[Any]] = {
    "text": ["", "x"],
    "secret": [""],
    "choice": ["a", "b"],
    "number": [0, -1.5, 2**70],
    "flag": [True, False, 0, "", [], {}],
    "at": [0, RECEIVED_AT_MS, 1.5],
    "body": ["", "x", BYTES, {"0": 255}],
    "list": [[], [None, "x", 5]],
    "thing": [{}, {"a": []}],
    "any": [0, "", False, [], {}],
    "file": [{}, BLOB],
    "not in the schema": [0, "", [], {"a": 1}],
}
BAD: dict[str, list[Any]] = {
    "text": [0, False, [], {}, 5],
    "secret": [0, {}],
    "choice": ["", "c", "A", 0, False, []],
    "number": ["", "5", False, True, [], {}],
    "at": ["", "2020-01-01", False, [], {}],
    "body": [0, False, [], {}, {"1": 1}, {"0": 256}, {"$koraBytes": "AQID", "x": 1}],
    "list": ["", 0, False, {}, {"0": 1}],
    "thing": ["", 0, False, []],
    "file": ["", 0, False, []],
}


@pytest.mark.parametrize("kind", ["insert", "update"])
def test_values_are_those_of_their_kinds(judge: MakeJudge, node: Node, kind: Any) -> None:
    judged = judge(kinds_schema())
    for field, values in GOOD.items():
        for value in (*values, None):
            assert took(judged, node.write(kind, "r", {"state": "x", field: value}, collection="things")), (
                field,
                value,
            )
    before = judged.everything()
    for field, values in BAD.items():
        for value in values:
            bad = node.write(kind, "r", {"state": "x", field: value}, collection="things")
            rejection = judged.refuses(bad)
            assert rejection.code == "INVALID_VALUE", (field, value)
            assert rejection.message.startswith(f"things.{field} must be "), (field, value)
    assert judged.everything() == before


# -- back to life -----------------------------------------------------------------------------------------------------


def test_a_record_is_not_brought_back_onto_a_value_taken_meanwhile(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text")]))
    assert put(judged, node, "a", text="x")
    assert took(judged, node.delete("a", collection="things"))
    assert put(judged, node, "b", text="x")
    assert not took(judged, node.update("a", {"flag": True}, collection="things"))
    assert took(judged, node.update("a", {"flag": True, "text": "y"}, collection="things"))
    assert judged.live("things") == {"a": {"text": "y", "flag": True}, "b": {"text": "x"}}
    # An insert brings nothing of the old record back.
    assert took(judged, node.delete("a", collection="things"))
    assert took(judged, node.insert("a", {"flag": True}, collection="things"))


def test_a_record_is_not_brought_back_into_a_full_group(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("capacity", "text")]))
    for record_id in ("a", "b"):
        assert put(judged, node, record_id, text="x")
    assert took(judged, node.delete("a", collection="things"))
    assert put(judged, node, "c", text="x")
    assert not took(judged, node.update("a", {"flag": True}, collection="things"))
    assert took(judged, node.delete("c", collection="things"))
    assert took(judged, node.update("a", {"flag": True}, collection="things"))


def test_a_record_is_not_brought_back_with_a_reference_to_nobody(referring: Judge, node: Node) -> None:
    assert put(referring, node, "a", text="u")
    assert took(referring, node.delete("a", collection="things"))
    assert took(referring, node.delete("u", collection="users"))
    assert not took(referring, node.update("a", {"flag": True}, collection="things"))
    assert took(referring, node.update("a", {"text": None}, collection="things"))


# -- earlier in the same write ----------------------------------------------------------------------------------------


def test_earlier_operations_of_the_batch_and_of_other_batches_count(judge: MakeJudge) -> None:
    judged = judge(
        kinds_schema(things=[constraint("unique", "text"), constraint("referential", "secret", collection="users")])
    )
    a, b = Node("a"), Node("b")
    first, second = judged.batches(
        [
            a.insert("a1", {"text": "x"}, collection="things"),
            a.insert("a2", {"text": "x"}, collection="things"),
            a.insert("a3", {"secret": "u"}, collection="things"),
            a.insert("u", {}, collection="users"),
            a.insert("a4", {"secret": "u"}, collection="things"),
            a.update("a1", {"text": "y"}, collection="things"),
        ],
        [
            b.insert("b1", {"text": "y"}, collection="things"),
            b.insert("b2", {"text": "x", "secret": "u"}, collection="things"),
            b.insert("b3", {"text": "x"}, collection="things"),
        ],
    )
    assert [one.record_id for one in first.rejections] == ["a2", "a3"]
    assert [one.record_id for one in second.rejections] == ["b1", "b3"]
    assert judged.live("things").keys() == {"a1", "a4", "b2"}


def test_a_refused_operation_may_come_again_in_the_same_write(judge: MakeJudge, node: Node) -> None:
    judged = judge(kinds_schema(things=[constraint("unique", "text")]))
    taken = node.insert("a", {"text": "x"}, collection="things")
    wanted = node.insert("b", {"text": "x"}, collection="things")
    gone = node.delete("a", collection="things")
    first, second = judged.batches([taken, wanted, gone, wanted], [wanted, taken])
    assert [one.operation.id for one in first.applied] == [taken.id, gone.id, wanted.id]
    assert [one.operation_id for one in first.rejections] == [wanted.id]
    assert (second.applied, second.rejections) == ([], [])
