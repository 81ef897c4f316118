"""Writes by the server's own side (store.md section 8): authored on the current record, judged like any operation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.apply.predicates import MalformedPredicate
from kora_daemon.apply.trusted import ConditionalWrite, Mutation, Refusal, TrustedWrite, with_record_ids
from kora_daemon.model.identity import operation_id
from kora_daemon.model.operation import Operation
from kora_daemon.model.schema import Kind, Schema
from tests.support.judging import (
    SERVER,
    Judge,
    MakeJudge,
    constraint,
    places,
    relation,
    value_of,
    with_constraints,
    with_relations,
)
from tests.support.log import RECEIVED_AT_MS, log_ids
from tests.support.records import Node, key, schema_of

FUTURE_MS = RECEIVED_AT_MS + 50_000
POLL: dict[str, Kind] = {
    "title": "string",
    "votes": "number",
    "tags": "array",
    "open": "boolean",
    "meta": "json",
    "owner": "string",
}
SCHEMA = with_constraints(
    with_relations(
        schema_of(3, polls=POLL, answers={"poll": "string", "text": "string"}, seals={"poll": "string"}),
        relation("answerOfPoll", "answers.poll", "polls"),
        relation("sealOfPoll", "seals.poll", "polls", "restrict"),
    ),
    polls=[constraint("unique", "title")],
    answers=[constraint("referential", "poll", collection="polls")],
)


@pytest.fixture
def judged(judge: MakeJudge) -> Judge:
    """With a poll "p", whose last operation is of long ago."""
    made = judge(SCHEMA)
    made.takes(
        Node("device").insert("p", {"title": "T", "votes": 3, "tags": ["a", "b"], "open": True}, collection="polls")
    )
    return made


def insert(record_id: str | None = None, collection: str = "polls", **data: Any) -> Mutation:
    return Mutation("insert", collection, record_id, data)


def update(record_id: str | None = "p", **data: Any) -> Mutation:
    return Mutation("update", "polls", record_id, data)


def delete(record_id: str | None = "p", collection: str = "polls") -> Mutation:
    return Mutation("delete", collection, record_id)


def ids() -> Callable[[], str]:
    made = iter(f"new-{number}" for number in range(1, 100))
    return lambda: next(made)


# -- what is authored -------------------------------------------------------------------------------------------------


def test_an_insert_is_an_operation_of_the_server(judged: Judge) -> None:
    (written,) = judged.written(insert("q", title="Q", votes=0))
    assert written.id == operation_id(written)
    assert (written.node_id, written.type, written.collection, written.record_id) == (SERVER, "insert", "polls", "q")
    assert (written.sequence_number, written.causal_deps, written.schema_version) == (1, [], 3)
    assert bytes(written.data) == b'{"title":"Q","votes":0}'
    assert (value_of(written.previous_data), value_of(written.atomic_ops)) == (None, None)
    assert written.timestamp.order_key == (RECEIVED_AT_MS, 0, SERVER)
    assert log_ids(judged.store)[-1] == written.id
    assert judged.live("polls")["q"] == {"title": "Q", "votes": 0}


def test_sequence_numbers_go_on_after_a_restart(judged: Judge) -> None:
    judged.written(insert("q"))
    judged.pipeline = Pipeline(SERVER, ApplyRules(SCHEMA))
    (written,) = judged.written(insert("r"))
    assert written.sequence_number == 2
    assert judged.store.version_vector() == {"device": 1, SERVER: 2}


def test_an_insert_without_an_id_gets_a_new_one(judged: Judge) -> None:
    new_id = ids()
    for empty in (None, ""):
        wanted = with_record_ids(insert(empty, title=str(empty)), new_id)
        outcome = judged.write(wanted)
        assert outcome.record_ids == [outcome.applied[0].operation.record_id]
    assert judged.live("polls").keys() == {"p", "new-1", "new-2"}


def test_only_inserts_are_given_ids(judged: Judge) -> None:
    new_id = ids()
    for wanted in (insert("q"), update("p"), update(None), delete("p"), delete("")):
        assert with_record_ids(wanted, new_id) == wanted
    several = ConditionalWrite(key("p", "polls"), {}, also=[insert(), update("x"), insert("y"), insert(), delete(None)])
    filled = with_record_ids(several, new_id)
    assert isinstance(filled, ConditionalWrite)
    assert [one.record_id for one in filled.also] == ["new-1", "x", "y", "new-2", None]
    assert (filled.target, filled.condition) == (several.target, several.condition)


def test_an_update_says_what_its_fields_were(judged: Judge) -> None:
    (written,) = judged.written(update(title="U", owner="me"))
    assert value_of(written.data) == {"title": "U", "owner": "me"}
    assert value_of(written.previous_data) == {"title": "T", "owner": None}
    assert judged.live("polls")["p"] == {"title": "U", "owner": "me", "votes": 3, "tags": ["a", "b"], "open": True}


def test_an_update_of_no_record_has_no_previous_values(judged: Judge) -> None:
    (written,) = judged.written(update("new", votes=1))
    assert value_of(written.previous_data) == {}
    assert judged.live("polls")["new"] == {"votes": 1}


def test_an_update_of_a_deleted_record_brings_it_back_without_previous_values(judged: Judge) -> None:
    judged.written(delete())
    (written,) = judged.written(update(votes=1))
    assert value_of(written.previous_data) == {}
    assert judged.live("polls")["p"] == {"title": "T", "votes": 1, "tags": ["a", "b"], "open": True}


def test_a_delete_carries_the_whole_record(judged: Judge, node: Node) -> None:
    judged.takes(node.update("p", {"extra": {"not": "in the schema"}, "owner": None}, collection="polls", at=5))
    (written,) = judged.written(delete())
    assert value_of(written.data) is None
    assert value_of(written.previous_data) == {
        "title": "T",
        "votes": 3,
        "tags": ["a", "b"],
        "open": True,
        "extra": {"not": "in the schema"},
        "owner": None,
    }
    assert "p" not in judged.live("polls")


@pytest.mark.parametrize("record_id", ["never seen", "p"])
def test_a_delete_of_no_record_carries_nothing(judged: Judge, record_id: str) -> None:
    judged.written(delete())
    (written,) = judged.written(delete(record_id))
    assert value_of(written.previous_data) is None


def test_a_delete_brings_about_what_it_does_for_devices(judged: Judge) -> None:
    judged.written(insert("a", "answers", poll="p"))
    deleted, effect = judged.written(delete())
    assert places([deleted, effect]) == ["delete polls/p", "delete answers/a"]
    assert effect.causal_deps == [deleted.id]
    assert effect.timestamp.order_key > deleted.timestamp.order_key
    assert (deleted.sequence_number, effect.sequence_number) == (2, 3)


# -- atomic -----------------------------------------------------------------------------------------------------------


def intent(kind: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "value": value}


ATOMIC = [
    ("votes", intent("increment", 2), 5),
    ("votes", intent("increment", -0.5), 2.5),
    ("votes", intent("max", 10), 10),
    ("votes", intent("max", 1), 3),
    ("votes", intent("min", 1), 1),
    ("votes", intent("min", 10), 3),
    ("tags", intent("append", {"k": 1}), ["a", "b", {"k": 1}]),
    ("tags", intent("remove", "a"), ["b"]),
    ("tags", intent("remove", "z"), ["a", "b"]),
    ("owner", intent("append", "x"), ["x"]),
    ("meta", intent("increment", 4), 4),
    ("meta", intent("max", -4), -4),
    ("meta", intent("remove", 1), []),
]


@pytest.mark.parametrize(("field", "wanted", "result"), ATOMIC, ids=[f"{field} {one}" for field, one, _ in ATOMIC])
def test_an_atomic_change_is_resolved_on_the_current_record(
    judge: MakeJudge, field: str, wanted: dict[str, Any], result: Any
) -> None:
    judged = judge(schema_of(polls={**POLL, "owner": "json"}))
    judged.takes(Node("device").insert("p", {"votes": 3, "tags": ["a", "b"]}, collection="polls"))
    (written,) = judged.written(Mutation("update", "polls", "p", atomic={field: wanted}))
    assert value_of(written.data) == {field: result}
    assert value_of(written.atomic_ops) == {field: wanted}
    assert value_of(written.previous_data) == {field: {"votes": 3, "tags": ["a", "b"]}.get(field)}
    assert written.id == operation_id(written)
    assert judged.live("polls")["p"][field] == result


def test_atomic_and_plain_changes_go_together(judged: Judge) -> None:
    wanted = Mutation("update", "polls", "p", {"title": "U", "votes": 100}, {"votes": intent("increment", 1)})
    (written,) = judged.written(wanted)
    assert value_of(written.data) == {"title": "U", "votes": 4}
    assert value_of(written.previous_data) == {"title": "T", "votes": 3}
    assert judged.live("polls")["p"]["votes"] == 4


def test_an_atomic_change_composes_with_one_that_comes_late(judged: Judge) -> None:
    """Of a device that was offline: the log holds the intents, not only what they came to."""
    device = Node("offline")
    judged.written(Mutation("update", "polls", "p", atomic={"votes": intent("increment", 10)}))
    late = device.update(
        "p", {"votes": 4}, collection="polls", atomic={"votes": intent("increment", 1)}, at=RECEIVED_AT_MS - 1
    )
    judged.takes(late)
    assert judged.live("polls")["p"]["votes"] == 14


def test_an_atomic_change_of_no_record_begins_from_nothing(judged: Judge) -> None:
    judged.written(delete())
    (written,) = judged.written(Mutation("update", "polls", "p", atomic={"votes": intent("increment", 1)}))
    assert value_of(written.data) == {"votes": 1}
    assert value_of(written.previous_data) == {}


# -- refused ----------------------------------------------------------------------------------------------------------

INCREMENT = {"votes": intent("increment", 1)}

REFUSED: dict[str, tuple[TrustedWrite, str, str]] = {
    "unknown collection": (insert("x", "polsl"), "INVALID_OPERATION", "there is no collection 'polsl'"),
    "update without id": (update(None, votes=1), "MISSING_RECORD_ID", "update"),
    "update with an empty id": (update("", votes=1), "MISSING_RECORD_ID", "update"),
    "delete without id": (delete(None), "MISSING_RECORD_ID", "delete"),
    "insert without id": (insert(None), "MISSING_RECORD_ID", "insert"),
    "insert without data": (Mutation("insert", "polls", "x"), "INVALID_OPERATION", "an insert needs data"),
    "update without data": (Mutation("update", "polls", "p"), "INVALID_OPERATION", "an update needs data"),
    "update with nothing atomic": (Mutation("update", "polls", "p", None, {}), "INVALID_OPERATION", "needs data"),
    "atomic insert": (Mutation("insert", "polls", "x", {}, INCREMENT), "INVALID_OPERATION", "only an update"),
    "atomic delete": (Mutation("delete", "polls", "p", None, INCREMENT), "INVALID_OPERATION", "only an update"),
    **{
        f"atomic {one!r}": (Mutation("update", "polls", "p", {}, {**INCREMENT, "n": one}), "INVALID_OPERATION", "type")
        for one in (None, 5, {}, {"type": "increment"}, intent("increment", "1"), intent("max", True), intent("add", 1))
    },
    "value": (update(votes="many"), "INVALID_VALUE", "polls.votes must be a number"),
    "atomic value": (
        Mutation("update", "polls", "p", atomic={"title": intent("increment", 1)}),
        "INVALID_VALUE",
        "polls.title must be a text",
    ),
    "unique": (insert("x", title="T"), "CONSTRAINT_VIOLATION", "title"),
    "referential": (insert("x", "answers", poll="nobody"), "CONSTRAINT_VIOLATION", "answers.poll"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_an_answer_and_leaves_no_trace(judged: Judge, name: str) -> None:
    wanted, code, words = REFUSED[name]
    assert isinstance(wanted, Mutation)
    before = judged.everything()
    outcome = judged.write(wanted)
    assert (outcome.result, outcome.applied, outcome.record_ids) == ("skipped", [], [])
    assert outcome.rejection is not None
    assert (outcome.rejection.code, outcome.rejection.retriable) == (code, False)
    assert (outcome.rejection.collection, outcome.rejection.record_id) == (wanted.collection, wanted.record_id or "")
    assert words in outcome.rejection.message
    assert judged.everything() == before
    (written,) = judged.written(insert("next"))
    assert written.sequence_number == 1
    assert judged.store.frontier() == 2


def test_a_restricted_delete_is_refused(judged: Judge) -> None:
    judged.written(insert("s", "seals", poll="p"))
    outcome = judged.write(delete())
    assert outcome.rejection is not None
    assert outcome.rejection.code == "REFERENTIAL_INTEGRITY"
    assert "p" in judged.live("polls")


TOO_LONG = "x" * 256
MALFORMED: dict[str, Mutation] = {
    "long id": insert(TOO_LONG),
    "long id of an update": update(TOO_LONG, votes=1),
    "long id of a delete": delete(TOO_LONG),
    "half a character in an id": insert("\ud800"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_names_that_no_device_may_use_are_refused(judged: Judge, name: str) -> None:
    """A log with such an operation can't be written to a backup."""
    before = judged.everything()
    outcome = judged.write(MALFORMED[name])
    assert outcome.rejection is not None
    assert outcome.rejection.code == "INVALID_OPERATION"
    assert judged.everything() == before


@pytest.mark.parametrize("collection", ["", TOO_LONG])
def test_names_of_collections_are_checked_without_a_schema_too(judge: MakeJudge, collection: str) -> None:
    judged = judge()
    outcome = judged.write(insert("x", collection))
    assert outcome.rejection is not None
    assert outcome.rejection.code == "INVALID_OPERATION"


# -- time -------------------------------------------------------------------------------------------------------------


def each(wanted: str) -> TrustedWrite:
    writes: dict[str, TrustedWrite] = {
        "update": update(votes=9),
        "delete": delete(),
        "insert": insert("p", votes=9),
        "conditional": ConditionalWrite(key("p", "polls"), {}, {"votes": 9}),
    }
    return writes[wanted]


@pytest.mark.parametrize("wanted", ["update", "delete", "insert", "conditional"])
@pytest.mark.parametrize("place", [(FUTURE_MS, 0, "zzz"), (FUTURE_MS, 99_999, "zzz"), (RECEIVED_AT_MS, 0, "zzz")])
def test_a_write_is_the_newest_of_its_record_whatever_devices_have_stamped(
    judged: Judge, node: Node, wanted: str, place: tuple[int, int, str]
) -> None:
    judged.takes(node.update("p", {"votes": 7}, collection="polls", at=place))
    (written,) = judged.written(each(wanted))
    assert written.timestamp.order_key > place
    assert written.timestamp.wall_time <= place[0] + 1
    assert judged.live("polls").get("p", {"votes": 9})["votes"] == 9


def test_a_write_has_the_servers_time_otherwise(judged: Judge) -> None:
    judged.now_ms += 5
    (first,) = judged.written(update(votes=1))
    judged.now_ms -= 2  # the clock was set back
    (second,) = judged.written(update(votes=2))
    assert first.timestamp.order_key == (RECEIVED_AT_MS + 5, 0, SERVER)
    assert second.timestamp.order_key == (RECEIVED_AT_MS + 5, 1, SERVER)


def test_writes_of_two_processes_follow_each_other_on_a_record(judged: Judge) -> None:
    """A command beside the daemon has a clock of its own and the same node id."""
    judged.now_ms += 1_000
    judged.written(update(votes=1))
    judged.pipeline = Pipeline(SERVER, ApplyRules(SCHEMA))
    judged.now_ms -= 1_000
    judged.written(update(votes=2))
    assert judged.live("polls")["p"]["votes"] == 2


# -- conditional ------------------------------------------------------------------------------------------------------

TARGET = key("p", "polls")


def when(condition: Any, **more: Any) -> ConditionalWrite:
    return ConditionalWrite(TARGET, condition, **{"update": {"votes": 4}, **more})


def operations(judged: Judge, wanted: ConditionalWrite) -> list[str]:
    return places(judged.written(wanted))


def test_a_condition_that_holds_lets_everything_happen(judged: Judge) -> None:
    wanted = when(
        {"votes": {"$lt": 4, "$gte": 3}, "title": {"$eq": "T"}, "owner": {"$eq": None}},
        atomic={"tags": intent("append", "c")},
        also=[insert("a", "answers", poll="p", text="x"), update("q", votes=1), delete("r")],
    )
    outcome = judged.write(wanted)
    assert (outcome.result, outcome.rejection) == ("applied", None)
    assert outcome.record_ids == ["p", "a", "q", "r"]
    written = [entry.operation for entry in outcome.applied]
    assert places(written) == ["update polls/p", "insert answers/a", "update polls/q", "delete polls/r"]
    assert value_of(written[0].data) == {"votes": 4, "tags": ["a", "b", "c"]}
    assert value_of(written[0].previous_data) == {"votes": 3, "tags": ["a", "b"]}
    assert [one.sequence_number for one in written] == [1, 2, 3, 4]
    assert [entry.sequence for entry in outcome.applied] == [2, 3, 4, 5]
    order = [one.timestamp.order_key for one in written]
    assert order == sorted(set(order))
    assert judged.live("answers") == {"a": {"poll": "p", "text": "x"}}


def test_a_condition_that_does_not_hold_is_the_refusal_given(judged: Judge) -> None:
    before = judged.everything()
    for refusal, code in ((Refusal(), "CONDITION_NOT_MET"), (Refusal("FULL", "no more room"), "FULL")):
        outcome = judged.write(when({"votes": {"$lt": 3}}, also=[insert("x")], refusal=refusal))
        assert (outcome.result, outcome.applied, outcome.record_ids) == ("skipped", [], [])
        assert outcome.rejection is not None
        assert outcome.rejection.code == code
        assert outcome.rejection.message == refusal.message
        assert (outcome.rejection.collection, outcome.rejection.record_id) == ("polls", "p")
        assert outcome.rejection.retriable is False
    assert judged.everything() == before


@pytest.mark.parametrize(
    "condition",
    [
        {"id": {"$eq": "p"}},
        {"_created_at": {"$eq": 1}},
        {"_updated_at": {"$gt": 1}},
        {"open": {"$eq": True}},
        {"owner": {"$eq": None}},
        {"votes": {"$in": [1, 3]}},
        {"extra": {"$ne": "x"}},
    ],
)
def test_a_condition_is_about_the_record_as_a_query_shows_it(judged: Judge, node: Node, condition: Any) -> None:
    judged.takes(node.update("p", {"open": 1, "extra": "x"}, collection="polls", at=2))
    assert operations(judged, when(condition)) == ["update polls/p"]


@pytest.mark.parametrize("condition", [{"open": {"$eq": 1}}, {"extra": {"$eq": "x"}}, {"_deleted": {"$eq": 0}}])
def test_a_condition_knows_nothing_that_a_query_does_not_show(judged: Judge, node: Node, condition: Any) -> None:
    judged.takes(node.update("p", {"open": 1, "extra": "x"}, collection="polls", at=2))
    assert judged.write(when(condition)).result == "skipped"


@pytest.mark.parametrize("gone", [True, False])
def test_no_current_record_meets_only_the_empty_condition(judged: Judge, gone: bool) -> None:
    target = TARGET if gone else key("never seen", "polls")
    judged.written(delete())
    for condition in ({"title": {"$ne": "x"}}, {"owner": {"$eq": None}}):
        outcome = judged.write(ConditionalWrite(target, condition, {"votes": 1}))
        assert outcome.rejection is not None
        assert outcome.rejection.code == "CONDITION_NOT_MET"
    (written,) = judged.written(ConditionalWrite(target, {}, {"votes": 1}))
    assert value_of(written.previous_data) == {}


def test_a_condition_that_asks_for_what_there_is_not_is_an_error(judged: Judge) -> None:
    before = judged.everything()
    for condition in ({"votes": {"$near": 3}}, {"votes": 3}, {"votes": {"$in": 3}}):
        with pytest.raises(MalformedPredicate):
            judged.write(when(condition))
    assert judged.everything() == before


def test_changes_of_others_can_hang_on_a_condition_alone(judged: Judge) -> None:
    wanted = when({"open": {"$eq": True}}, update=None, also=[insert("a", "answers", poll="p")])
    outcome = judged.write(wanted)
    assert outcome.record_ids == ["a"]
    assert places([one.operation for one in outcome.applied]) == ["insert answers/a"]
    outcome = judged.write(when({"open": {"$eq": True}}, update=None))
    assert (outcome.result, outcome.applied, outcome.record_ids) == ("applied", [], [])


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (insert("x", title="T2"), "CONSTRAINT_VIOLATION"),
        (insert("x", "answers", poll="nobody"), "CONSTRAINT_VIOLATION"),
        (update("x", votes="many"), "INVALID_VALUE"),
        (delete("q"), "REFERENTIAL_INTEGRITY"),
        (update(None, votes=1), "MISSING_RECORD_ID"),
        (insert("x", "polsl"), "INVALID_OPERATION"),
        (Mutation("update", "polls", "p", atomic={"votes": {}}), "INVALID_OPERATION"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_all_happens_or_nothing(judged: Judge, bad: Mutation, code: str, first: bool) -> None:
    judged.written(insert("q", title="T2"))
    judged.written(insert("s", "seals", poll="q"))
    judged.written(insert("a", "answers", poll="p"))
    before = judged.everything()
    good = [insert("n", votes=1), update("m", votes=1), delete("a", "answers")]
    outcome = judged.write(when({}, also=[bad, *good] if first else [*good, bad]))
    assert (outcome.result, outcome.applied, outcome.record_ids) == ("skipped", [], [])
    assert outcome.rejection is not None
    assert outcome.rejection.code == code
    assert judged.everything() == before
    (written,) = judged.written(insert("next"))
    assert written.sequence_number == 4
    assert judged.store.frontier() == 5


def test_a_refused_update_of_the_target_undoes_nothing_because_nothing_was_done(judged: Judge) -> None:
    judged.written(insert("q", title="T2"))
    before = judged.everything()
    outcome = judged.write(when({}, update={"title": "T2"}, also=[insert("n")]))
    assert outcome.rejection is not None
    assert outcome.rejection.code == "CONSTRAINT_VIOLATION"
    assert judged.everything() == before


def test_changes_see_those_before_them(judged: Judge) -> None:
    wanted = when(
        {},
        update={"title": "free"},
        also=[
            insert("q", title="T"),
            insert("a", "answers", poll="q"),
            Mutation("update", "polls", "p", atomic={"votes": intent("increment", 1)}),
            Mutation("update", "polls", "p", atomic={"votes": intent("increment", 1)}),
            delete("q"),
        ],
    )
    written = judged.written(wanted)
    assert places(written)[-2:] == ["delete polls/q", "delete answers/a"]
    assert value_of(written[-2].previous_data) == {"title": "T"}
    assert judged.live("polls") == {"p": {"title": "free", "votes": 5, "tags": ["a", "b"], "open": True}}


def test_a_write_that_was_done_before_is_not_done_again(judged: Judge) -> None:
    done = key("vote-1", "answers")
    wanted = when(
        {"votes": {"$lt": 5}},
        update=None,
        atomic={"votes": intent("increment", 2)},
        also=[insert(done.record_id, "answers", text="done")],
        idempotency=done,
    )
    assert operations(judged, wanted) == ["update polls/p", "insert answers/vote-1"]
    before = judged.everything()
    again = judged.write(wanted)  # though the condition does not hold any more
    assert (again.result, again.applied, again.record_ids, again.rejection) == ("repeated", [], ["p"], None)
    assert judged.everything() == before

    judged.written(delete(done.record_id, "answers"))
    outcome = judged.write(wanted)
    assert outcome.rejection is not None
    assert outcome.rejection.code == "CONDITION_NOT_MET"


# -- without a schema -------------------------------------------------------------------------------------------------


def test_without_a_schema_nothing_is_judged(judge: MakeJudge) -> None:
    judged = judge()
    (written,) = judged.written(insert("x", "anything", n="text", title="T"))
    assert (written.schema_version, written.sequence_number) == (1, 1)
    judged.written(insert("y", "anything", title="T"))
    judged.written(Mutation("delete", "other", "z"))
    (entry, *_) = judged.store.entries_after(0, 10)
    assert entry.stamp is None
    assert judged.store.materialize_collection("anything") == [
        {"id": "x", "n": "text", "title": "T"},
        {"id": "y", "title": "T"},
    ]


@pytest.mark.parametrize("name", ["update without id", "insert without data", "atomic insert", "atomic {}"])
def test_without_a_schema_a_write_still_has_to_be_one(judge: MakeJudge, name: str) -> None:
    judged = judge()
    outcome = judged.write(REFUSED[name][0])
    assert outcome.rejection is not None
    assert outcome.rejection.code == REFUSED[name][1]
    assert judged.store.count_operations() == 0


def log_only(judge: MakeJudge, *operations: Operation) -> Judge:
    judged = judge()
    judged.takes(*operations)
    return judged


def test_without_a_schema_a_write_is_the_newest_of_its_record_too(judge: MakeJudge, node: Node) -> None:
    judged = log_only(judge, node.insert("p", {"votes": 1}, collection="polls", at=FUTURE_MS))
    (written,) = judged.written(update(votes=2))
    assert written.timestamp.order_key > (FUTURE_MS, 0, "node-a")
    assert judged.store.materialize_collection("polls") == [{"id": "p", "votes": 2}]


def test_without_a_schema_atomic_changes_are_resolved_on_the_current_record_too(judge: MakeJudge, node: Node) -> None:
    judged = log_only(judge, node.insert("p", {"votes": 1}, collection="polls"))
    (written,) = judged.written(Mutation("update", "polls", "p", atomic={"votes": intent("increment", 2)}))
    assert value_of(written.data) == {"votes": 3}
    assert value_of(written.previous_data) == {"votes": 1}


def test_without_a_schema_conditions_are_about_the_current_record_too(judge: MakeJudge, node: Node) -> None:
    judged = log_only(judge, node.insert("p", {"votes": 1}, collection="polls"))
    assert operations(judged, when({"votes": {"$eq": 1}})) == ["update polls/p"]
    wanted = when({}, also=[insert("done", "polls")], idempotency=key("done", "polls"))
    assert len(judged.written(wanted)) == 2
    assert judged.write(wanted).result == "repeated"


def test_without_a_schema_changes_see_those_before_them(judge: MakeJudge, node: Node) -> None:
    judged = log_only(judge, node.insert("p", {"votes": 1}, collection="polls"))
    more = Mutation("update", "polls", "p", atomic={"votes": intent("increment", 1)})
    written = judged.written(when({}, also=[more, more, delete(), more]))
    assert [value_of(one.data) for one in written] == [{"votes": 4}, {"votes": 5}, {"votes": 6}, None, {"votes": 1}]
    order = [one.timestamp.order_key for one in written]
    assert order == sorted(set(order))


def test_a_collection_that_a_newer_schema_has_is_not_written_by_an_older_one(judged: Judge) -> None:
    """Its rows are there, kept by the newer server beside this one; this one can't judge them."""
    newer: Schema = schema_of(9, polls=POLL, ballots={"n": "number"}, answers={"text": "string"}, seals={})
    judged.store.upgrade(newer)
    outcome = judged.write(insert("x", "ballots", n=1))
    assert outcome.rejection is not None
    assert outcome.rejection.code == "INVALID_OPERATION"
    device = Node("newer")
    judged.takes(device.insert("x", {"n": 1}, collection="ballots"))
    assert [one["n"] for one in judged.store.query_collection("ballots")] == [1]


def test_what_is_written_can_be_read_as_json(judged: Judge) -> None:
    (written,) = judged.written(insert("q", title="\ud800", meta={"n": 2**70, "t": 1e300, "é": "\x00"}))
    assert json.loads(bytes(written.data)) == {"title": "\ud800", "meta": {"n": 2**70, "t": 1e300, "é": "\x00"}}
    assert written.id == operation_id(written)
