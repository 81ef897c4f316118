"""Writes by the server's own side on behalf of somebody: no more than a device with the same scopes may do."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.apply.trusted import ConditionalWrite, Mutation, TrustedOutcome, TrustedWrite
from kora_daemon.model.scope import READ_ONLY, ScopeMap
from tests.support.judging import Judge, MakeJudge
from tests.support.records import Node, key, schema_of

SCHEMA = schema_of(1, todos={"owner": "string", "title": "string", "n": "number"}, logs={"text": "string"})
ALICE: ScopeMap = {"todos": {"owner": "alice"}}


@pytest.fixture
def judged(judge: MakeJudge) -> Judge:
    """Alice and Bob have a todo each, and one that is deleted."""
    made = judge(SCHEMA)
    node = Node()
    for owner in ("alice", "bob"):
        made.takes(node.insert(f"{owner}s", {"owner": owner, "title": "t", "n": 1}))
        made.takes(node.insert(f"{owner}s-gone", {"owner": owner}), node.delete(f"{owner}s-gone"))
    return made


def change(kind: Any, record_id: str, collection: str = "todos", **data: Any) -> Mutation:
    return Mutation(kind, collection, record_id, None if kind == "delete" else data)


def result(outcome: TrustedOutcome) -> str:
    return outcome.result if outcome.rejection is None else outcome.rejection.code


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (change("insert", "new", owner="alice"), "applied"),
        (change("insert", "new", owner="bob"), "SCOPE_VIOLATION"),
        (change("insert", "new", title="nobody's"), "SCOPE_VIOLATION"),
        (change("insert", "bobs", owner="alice"), "SCOPE_VIOLATION"),
        (change("insert", "bobs-gone", owner="alice"), "SCOPE_VIOLATION"),
        (change("insert", "alices", title="no owner any more"), "SCOPE_VIOLATION"),
        (change("insert", "alices-gone", owner="alice"), "applied"),
        (change("update", "alices", title="x"), "applied"),
        (change("update", "alices", owner="alice"), "applied"),
        (change("update", "alices", owner="bob"), "SCOPE_VIOLATION"),
        (change("update", "bobs", title="x"), "SCOPE_VIOLATION"),
        (change("update", "bobs", owner="alice"), "SCOPE_VIOLATION"),
        (change("update", "new", owner="alice"), "applied"),
        (change("update", "new", title="x"), "SCOPE_VIOLATION"),
        (change("delete", "alices"), "applied"),
        (change("delete", "bobs"), "SCOPE_VIOLATION"),
        (change("delete", "new"), "SCOPE_VIOLATION"),
        (change("insert", "l", "logs", text="x"), "SCOPE_VIOLATION"),
        (Mutation("update", "todos", "alices", None, {"n": {"type": "increment", "value": 1}}), "applied"),
        (Mutation("update", "todos", "bobs", None, {"n": {"type": "increment", "value": 1}}), "SCOPE_VIOLATION"),
        (Mutation("update", "todos", "alices", None, {"owner": {"type": "append", "value": "x"}}), "SCOPE_VIOLATION"),
    ],
)
def test_a_change_is_judged_by_the_record_as_it_is(judged: Judge, wanted: Mutation, code: str) -> None:
    before = judged.everything()
    outcome = judged.write(wanted, ALICE)
    assert result(outcome) == code
    assert (judged.everything() == before) == (code != "applied")
    if outcome.rejection is not None:
        assert (outcome.rejection.collection, outcome.rejection.record_id) == (wanted.collection, wanted.record_id)


@pytest.mark.parametrize(
    ("scopes", "code"),
    [({"todos": {}}, "applied"), ({}, "SCOPE_VIOLATION"), ({"todos": {READ_ONLY: True}}, "SCOPE_VIOLATION")],
)
def test_a_whole_collection_nothing_and_reading_only(judged: Judge, scopes: ScopeMap, code: str) -> None:
    assert result(judged.write(change("update", "bobs", title="x"), scopes)) == code


HIDDEN = [key("bobs"), key("alices-gone"), key("nobodys"), key("x", "logs")]


@pytest.mark.parametrize("target", HIDDEN)
@pytest.mark.parametrize("condition", [{"owner": {"$eq": "bob"}}, {"owner": {"$ne": "zoe"}}, {"n": {"$gt": 0}}])
def test_what_is_outside_is_not_there_for_a_condition(judged: Judge, target: Any, condition: Any) -> None:
    also = [change("update", "alices", title="x")]
    assert result(judged.write(ConditionalWrite(target, condition, also=also), ALICE)) == "CONDITION_NOT_MET"
    assert result(judged.write(ConditionalWrite(target, {}, also=also), ALICE)) == "applied"


@pytest.mark.parametrize("done", HIDDEN)
def test_what_is_outside_does_not_tell_that_it_has_been_done(judged: Judge, done: Any) -> None:
    also = [change("update", "alices", title="x")]
    write = ConditionalWrite(key("alices"), {"n": {"$eq": 1}}, also=also, idempotency=done)
    assert result(judged.write(write, ALICE)) == "applied"
    assert result(judged.write(ConditionalWrite(key("bobs"), {}, idempotency=key("alices")), ALICE)) == "repeated"


def test_many_changes_are_made_or_none(judged: Judge) -> None:
    before = judged.everything()
    write: TrustedWrite = ConditionalWrite(
        key("alices"), {"n": {"$eq": 1}}, {"title": "x"}, also=[change("update", "bobs", title="x")]
    )
    assert result(judged.write(write, ALICE)) == "SCOPE_VIOLATION"
    assert judged.everything() == before
    assert result(judged.write(write)) == "applied"


def test_without_a_table_a_record_is_what_its_operations_make_of_it(judge: MakeJudge) -> None:
    judged = judge()
    judged.takes(Node().insert("bobs", {"owner": "bob"}))
    assert result(judged.write(change("update", "bobs", title="x"), ALICE)) == "SCOPE_VIOLATION"
    assert result(judged.write(change("insert", "alices", owner="alice"), ALICE)) == "applied"
    assert result(judged.write(change("update", "alices", title="x"), ALICE)) == "applied"
    assert result(judged.write(ConditionalWrite(key("bobs"), {"owner": {"$eq": "bob"}}), ALICE)) == "CONDITION_NOT_MET"
