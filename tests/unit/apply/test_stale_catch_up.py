"""Somebody appends who keeps no records (the reference server on the same database): the next write sees to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kora_daemon.apply import refill
from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.apply.trusted import ConditionalWrite, Mutation
from kora_daemon.materialization.fold import fold
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
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
from tests.support.records import Node, append, inside, key, schema_of, stamps, tombstones

SCHEMA = with_constraints(
    with_relations(
        schema_of(
            users={"email": "string", "n": "number"},
            tasks={"user": "string", "title": "string"},
            locks={"user": "string"},
        ),
        relation("taskOfUser", "tasks.user", "users"),
        relation("lockOfUser", "locks.user", "users", "restrict"),
    ),
    users=[constraint("unique", "email")],
    tasks=[constraint("referential", "user", collection="users")],
)


@pytest.fixture
def judged(judge: MakeJudge) -> Judge:
    return judge(SCHEMA)


@pytest.fixture
def other() -> Node:
    """A device of the other server's."""
    return Node("other")


def elsewhere(judged: Judge, *operations: Operation) -> None:
    """The other server appends."""
    with judged.store.transaction() as tx:
        append(tx, *operations)


def user(node: Node, record_id: str, **fields: Any) -> Operation:
    return node.insert(record_id, fields, collection="users")


def is_caught_up(judged: Judge) -> bool:
    """Whether no record is stale and all states are those of the log."""
    with judged.store.transaction() as tx:
        entries = judged.store.entries_after(0, 1_000_000)
        keys = {RecordKey(one.operation.collection, one.operation.record_id) for one in entries}
        known = {one for one in keys if one.collection in tx.shapes}
        return tx.stale_records() == [] and tx.states(known) == {one: fold(tx.history(one)) for one in known}


# -- any write --------------------------------------------------------------------------------------------------------


def test_operations_are_folded_before_the_next_write(judged: Judge, node: Node, other: Node) -> None:
    judged.takes(user(node, "a", email="a", n=1))
    elsewhere(
        judged,
        user(other, "b", email="b"),
        other.update("a", {"n": 2}, collection="users"),
        other.update("b", {"n": 3}, collection="users"),
    )
    assert judged.live("users") == {"a": {"email": "a", "n": 1}}
    judged.takes(user(node, "c"))
    assert judged.live("users") == {"a": {"email": "a", "n": 2}, "b": {"email": "b", "n": 3}, "c": {}}
    assert is_caught_up(judged)


def test_every_kind_of_write_sees_to_them(judged: Judge, node: Node, other: Node) -> None:
    known = user(node, "a")
    judged.takes(known)
    writes: list[Callable[[], object]] = [
        lambda: judged.batch(known),  # a duplicate, nothing else
        judged.batch,
        lambda: judged.refuses(user(node, "x", email=5)),
        lambda: judged.takes(node.insert("x", {}, collection="unknown")),
        lambda: judged.written(Mutation("insert", "users", "y", {})),
        lambda: judged.write(Mutation("insert", "usres", "y", {})),
        lambda: judged.write(ConditionalWrite(key("none", "users"), {"n": {"$eq": 1}}, {"n": 2})),
    ]
    for number, write in enumerate(writes):
        elsewhere(judged, user(other, f"new-{number}", n=number))
        assert f"new-{number}" not in judged.live("users")
        write()
        assert judged.live("users")[f"new-{number}"] == {"n": number}
    assert is_caught_up(judged)


def test_a_write_that_is_undone_undoes_that_too_and_the_next_one_does_it(
    judged: Judge, node: Node, other: Node
) -> None:
    elsewhere(judged, user(other, "a", email="x"))
    taken = Mutation("insert", "users", "b", {"email": "x"})
    outcome = judged.write(ConditionalWrite(key("c", "users"), {}, {"n": 1}, also=[taken]))
    assert outcome.rejection is not None
    assert outcome.rejection.code == "CONSTRAINT_VIOLATION"
    assert judged.live("users") == {}
    judged.takes(user(node, "d"))
    assert judged.live("users") == {"a": {"email": "x"}, "d": {}}


def test_several_times_over(judged: Judge, node: Node, other: Node) -> None:
    judged.takes(user(node, "r", n=0))
    for number in range(1, 6):
        elsewhere(judged, other.update("r", {"n": number}, collection="users", at=10 * number))
        judged.takes(node.update("r", {"email": str(number)}, collection="users", at=10 * number + 5))
        assert judged.live("users")["r"] == {"n": number, "email": str(number)}
    assert is_caught_up(judged)


# -- late arrivals ----------------------------------------------------------------------------------------------------


def test_late_arrivals_take_their_place(judged: Judge, node: Node, other: Node) -> None:
    judged.takes(user(node, "a", email="new", n=1), node.update("a", {"n": 2}, collection="users", at=50))
    elsewhere(
        judged,
        other.update("a", {"n": 9}, collection="users", at=40),
        other.insert("a", {"email": "old"}, collection="users", at=0),
        other.insert("b", {"n": 1}, collection="users", at=30),
        other.delete("b", collection="users", at=20),
        other.delete("c", collection="users", at=20),
    )
    judged.takes(node.insert("d", {}, collection="users", at=60))
    assert judged.live("users") == {"a": {"email": "new", "n": 2}, "b": {"n": 1}, "d": {}}
    assert judged.record("users", "a")["_created_at"] == 0
    assert judged.record("users", "a")["_updated_at"] == 50
    assert [one["id"] for one in tombstones(judged.store, "users")] == ["c"]
    assert is_caught_up(judged)


def test_an_operation_of_ours_older_than_theirs_takes_its_place_among_them(
    judged: Judge, node: Node, other: Node
) -> None:
    judged.takes(user(node, "a", n=1))
    elsewhere(judged, other.update("a", {"n": 3, "email": "x"}, collection="users", at=30))
    judged.takes(
        node.update("a", {"n": 2, "email": "y"}, collection="users", at=20),
        node.update("a", {"email": "z"}, collection="users", at=40),
        node.update("a", {"email": "w"}, collection="users", at=10),
    )
    assert judged.live("users")["a"] == {"n": 3, "email": "z"}
    assert is_caught_up(judged)


def test_late_arrivals_behind_others_of_their_batch(judged: Judge, node: Node) -> None:
    judged.takes(
        node.insert("l", {"user": "5"}, collection="locks", at=5),
        node.update("l", {"user": "10"}, collection="locks", at=10),
        node.update("l", {"user": "7"}, collection="locks", at=7),
        node.delete("l", collection="locks", at=3),
        node.update("l", {"user": "9"}, collection="locks", at=9),
    )
    assert judged.live("locks") == {"l": {"user": "10"}}
    assert is_caught_up(judged)


def test_an_insert_that_arrives_late_is_stamped_with_what_its_record_is(judged: Judge, node: Node) -> None:
    judged.takes(
        node.insert("a", {"email": "x"}, collection="users", at=5),
        node.update("a", {"n": 5}, collection="users", at=6),
        node.insert("a", {"email": "y"}, collection="users", at=1),
        node.insert("a", {"email": "z"}, collection="users", at=9),
    )
    assert stamps(judged.store) == {
        "node-a:1": {},
        "node-a:2": {"email": "x"},
        "node-a:3": {"email": "x", "n": 5},
        "node-a:4": {},
    }


def test_chains_of_atomic_changes_go_on_across_servers(judged: Judge, node: Node, other: Node) -> None:
    def add(who: Node, result: int, at: int) -> Operation:
        atomic = {"n": {"type": "increment", "value": 1}}
        return who.update("a", {"n": result}, collection="users", atomic=atomic, at=at)

    judged.takes(user(node, "a", n=1), add(node, 2, 10))
    elsewhere(judged, add(other, 2, 11), add(other, 3, 12))
    judged.takes(add(node, 3, 20))
    assert judged.live("users")["a"] == {"n": 5}
    (written,) = judged.written(Mutation("update", "users", "a", atomic={"n": {"type": "increment", "value": 1}}))
    assert value_of(written.data) == {"n": 6}


def test_a_record_deleted_and_brought_back_elsewhere(judged: Judge, node: Node, other: Node) -> None:
    judged.takes(user(node, "a", email="x", n=1))
    elsewhere(
        judged,
        other.delete("a", collection="users", at=10),
        other.update("a", {"n": 2}, collection="users", at=11),
    )
    judged.takes(user(node, "b"))
    assert judged.live("users")["a"] == {"email": "x", "n": 2}
    elsewhere(judged, other.delete("a", collection="users", at=12))
    judged.takes(user(node, "c", email="x"))
    assert judged.live("users").keys() == {"b", "c"}


# -- checks see them --------------------------------------------------------------------------------------------------


def test_values_taken_elsewhere_are_taken(judged: Judge, node: Node, other: Node) -> None:
    judged.takes(user(node, "a", email="x"))
    elsewhere(judged, user(other, "b", email="y"), other.update("a", {"email": "z"}, collection="users", at=10))
    first, second = judged.batches(
        [user(node, "c", email="y")], [user(node, "d", email="x"), user(node, "e", email="z")]
    )
    assert [one.record_id for one in (*first.rejections, *second.rejections)] == ["c", "e"]


def test_references_into_and_out_of_them_count(judged: Judge, node: Node, other: Node) -> None:
    elsewhere(
        judged,
        user(other, "u"),
        other.insert("t", {"user": "u"}, collection="tasks"),
        user(other, "v"),
        other.insert("l", {"user": "v"}, collection="locks"),
        user(other, "w"),
        other.delete("w", collection="users"),
    )
    outcome = judged.batch(
        node.insert("of-w", {"user": "w"}, collection="tasks"),
        node.insert("of-v", {"user": "v"}, collection="tasks"),
        node.delete("u", collection="users", at=20),
        node.delete("v", collection="users", at=20),
    )
    assert [(one.record_id, one.code) for one in outcome.rejections] == [
        ("of-w", "CONSTRAINT_VIOLATION"),
        ("v", "REFERENTIAL_INTEGRITY"),
    ]
    applied = [one.operation for one in outcome.applied]
    assert places(applied) == ["insert tasks/of-v", "delete users/u", "delete tasks/t"]
    assert judged.live("tasks").keys() == {"of-v"}


def test_what_they_have_is_a_duplicate(judged: Judge, node: Node, other: Node) -> None:
    theirs = user(other, "a", email="x")
    elsewhere(judged, theirs)
    outcome = judged.batch(theirs, user(node, "b", email="y"))
    assert [one.operation.record_id for one in outcome.applied] == ["b"]
    assert outcome.rejections == []
    assert judged.live("users").keys() == {"a", "b"}


def test_effects_and_writes_of_the_server_are_later_than_theirs(judged: Judge, node: Node, other: Node) -> None:
    far = judged.now_ms + 50_000
    judged.takes(user(node, "u"))
    elsewhere(
        judged,
        other.insert("t", {"user": "u"}, collection="tasks", at=far),
        other.update("w", {"n": 1}, collection="users", at=far + 1),
        other.write("update", "w", {"n": 2}, collection="users", at=far + 2),
    )
    (effect,) = judged.effects(node.delete("u", collection="users"))
    assert effect.timestamp.wall_time == far
    (written,) = judged.written(Mutation("update", "users", "w", {"n": 3}))
    assert (written.timestamp.wall_time, value_of(written.previous_data)) == (far + 2, {"n": 2})
    assert judged.live("users") == {"w": {"n": 3}}


def test_the_servers_sequence_goes_on_behind_what_is_in_its_name(judged: Judge) -> None:
    own = Node(SERVER)
    own.count = 6
    elsewhere(judged, user(own, "a"))
    (written,) = judged.written(Mutation("insert", "users", "b", {}))
    assert written.sequence_number == 8


LIMIT = 10

# -- mixtures ---------------------------------------------------------------------------------------------------------


def test_collections_without_a_table_do_not_matter(judged: Judge, node: Node, other: Node) -> None:
    elsewhere(
        judged,
        other.insert("x", {"n": 1}, collection="unknown"),
        user(other, "a", n=1),
        other.insert("y", {"n": 1}, collection="unknown"),
    )
    judged.takes(node.insert("x", {"n": 2}, collection="unknown"))
    assert judged.live("users") == {"a": {"n": 1}}
    assert is_caught_up(judged)


def test_operations_that_nobody_can_read_stop_nothing(judged: Judge, node: Node, other: Node) -> None:
    elsewhere(
        judged,
        other.insert("a", None, collection="users"),
        other.update("b", {"email": ["not", "a", "text"], "n": "text"}, collection="users"),
        other.delete("c", collection="users"),
        other.insert("d", {"email": "\ud800"}, collection="users"),
    )
    judged.takes(user(node, "e"))
    assert judged.live("users").keys() == {"b", "d", "e"}
    assert judged.live("users")["b"] == {}


def test_what_others_have_stored_gets_its_stamp_later(judged: Judge, node: Node, other: Node) -> None:
    judged.takes(user(node, "a", email="x"))
    elsewhere(judged, other.update("a", {"n": 5}, collection="users", at=10))
    judged.takes(node.update("a", {"email": "y"}, collection="users", at=20))
    assert stamps(judged.store) == {"node-a:1": {}, "other:1": {"email": "x", "n": 5}, "node-a:2": {"n": 5}}


def test_many_at_once(judged: Judge, node: Node, other: Node) -> None:
    elsewhere(
        judged,
        *(user(other, f"r{number % 100:02}", n=number) for number in range(300)),
        *(other.delete(f"r{number:02}", collection="users") for number in range(0, 100, 2)),
    )
    judged.takes(user(node, "last"))
    assert judged.live("users") == {"last": {}} | {f"r{one:02}": {"n": 200 + one} for one in range(1, 100, 2)}
    assert is_caught_up(judged)


@pytest.mark.parametrize("number", [LIMIT, LIMIT + 1])
def test_checks_see_them_however_many_they_are(
    judged: Judge, node: Node, other: Node, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refill, "MAX_CAUGHT_UP", LIMIT)
    monkeypatch.setattr(refill, "SAVED_AT_ONCE", LIMIT // 2)
    elsewhere(judged, *(user(other, f"r{one}", email=f"{one}") for one in range(number)))
    outcome = judged.batch(user(node, "a", email="3"), user(node, "b", email="x"))
    assert [one.record_id for one in outcome.rejections] == ["a"]
    for _ in refill.refill(judged.store):
        pass
    assert len(judged.live("users")) == number + 1
    assert is_caught_up(judged)


@pytest.mark.parametrize("number", [LIMIT, LIMIT + 1])
def test_a_start_sees_to_them_too(
    judged: Judge, node: Node, other: Node, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When they are many, a little at a time."""
    monkeypatch.setattr(refill, "MAX_CAUGHT_UP", LIMIT)
    monkeypatch.setattr(refill, "MAX_RECORDS", 4)
    judged.takes(user(node, "a", n=1))
    elsewhere(judged, *(user(other, f"r{one}", n=one) for one in range(number - 1)))
    elsewhere(judged, other.update("a", {"n": 2}, collection="users", at=50))
    steps = list(refill.refill(judged.store))
    assert bool(steps) is (number > LIMIT)
    assert judged.live("users") == {"a": {"n": 2}} | {f"r{one}": {"n": one} for one in range(number - 1)}
    assert is_caught_up(judged)


def test_both_servers_and_a_merge_in_turn_end_at_the_fold_of_the_log(judged: Judge, node: Node, other: Node) -> None:
    third = Node("third")
    for step in range(12):
        at = 100 - 7 * step if step % 3 else 100 + step
        elsewhere(judged, other.update(f"r{step % 4}", {"n": step}, collection="users", at=at))
        judged.pipeline = Pipeline(SERVER, ApplyRules(SCHEMA if step % 2 else None))
        judged.takes(node.update(f"r{step % 3}", {"email": f"{step}"}, collection="users", at=at + 1))
        elsewhere(judged, third.delete(f"r{step % 5}", collection="users", at=at - 20))
    judged.batch()
    assert is_caught_up(judged)
    rows = {one["id"]: one["n"] for one in judged.store.query_collection("users")}
    states = inside(judged.store, lambda tx: tx.states(key(f"r{number}", "users") for number in range(5)))
    assert rows == {one.record_id: state.fields.get("n") for one, state in states.items() if state.live}
