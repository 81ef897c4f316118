"""Whether a session may upload an operation: by scopes (scopes.md section 4), with a schema and without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw

from kora_daemon.apply.authority import Authority
from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.model.operation import Operation
from kora_daemon.model.schema import Kind, Schema
from kora_daemon.model.scope import ScopeMap
from tests.support.judging import Judge, MakeJudge, relation, with_relations
from tests.support.records import Node, append, schema_of

KINDS: dict[str, Kind] = {"userId": "string", "title": "string", "n": "number", "done": "boolean", "at": "timestamp"}
SCHEMA = schema_of(1, todos=KINDS, notes=KINDS)
SETUPS: dict[str, Schema | None] = {
    "declared": SCHEMA.with_scopes({"todos": ["userId", "n", "done"]}),
    "undeclared": SCHEMA,
    "log alone": None,
}
ALICE: ScopeMap = {"todos": {"userId": "alice"}}
REFUSED = ["SCOPE_VIOLATION"]


class Court(Judge):
    """A judge who looks at who it is that writes."""

    def codes(self, scopes: ScopeMap | None, *operations: Operation, **more: Any) -> list[str]:
        """What a session with these scopes is refused of a batch."""
        (outcome,) = self.batches(operations, authorities=[Authority("node-a", scopes, **more)])
        ids = [one.id for one in operations]
        assert [one.operation_id for one in outcome.rejections] == [
            one for one in ids if one not in {entry.operation.id for entry in outcome.applied}
        ]
        return [one.code for one in outcome.rejections]


@pytest.fixture(params=SETUPS)
def court(request: pytest.FixtureRequest, judge: MakeJudge) -> Court:
    made = judge(SETUPS[request.param])
    made.__class__ = Court
    assert isinstance(made, Court)
    return made


@pytest.fixture
def court_with_records(judge: MakeJudge) -> Court:
    made = judge(SETUPS["declared"])
    made.__class__ = Court
    assert isinstance(made, Court)
    return made


def said_before(operation: Operation, text: str) -> Operation:
    operation.previous_data = Raw(text.encode())
    return operation


def refused_with(court: Court, scopes: ScopeMap | None, operation: Operation) -> tuple[str, str, bool]:
    (outcome,) = court.batches([operation], authorities=[Authority("node-a", scopes)])
    (one,) = outcome.rejections
    assert (one.operation_id, one.collection, one.record_id) == (
        operation.id,
        operation.collection,
        operation.record_id,
    )
    return one.code, one.message, one.retriable


def test_without_scopes_everything_may_be_written(court: Court, node: Node) -> None:
    court.takes(node.insert("r", {"userId": "bob"}))
    assert court.codes(None, node.update("r", {"title": "x"}), node.write("insert", "n", {}, collection="any")) == []


def test_a_collection_that_is_not_in_the_map_is_closed_and_an_open_one_is_open(court: Court, node: Node) -> None:
    scopes: ScopeMap = {"notes": {}}
    court.takes(node.insert("r", {"userId": "bob"}, collection="notes"))
    inside = [node.write(kind, "r", None, collection="notes") for kind in ("delete", "update")]
    assert court.codes(scopes, *inside, node.write("insert", "s", {}, collection="notes")) == []
    assert court.codes(scopes, node.insert("t", {"userId": "bob"}), node.delete("t")) == REFUSED * 2
    assert court.codes({}, node.insert("t", {}), node.write("insert", "t", {}, collection="notes")) == REFUSED * 2


@pytest.mark.parametrize("where", [{"__readonly": True}, {"__readonly": True, "userId": "alice"}])
def test_what_is_read_only_is_not_written(court: Court, node: Node, where: dict[str, Any]) -> None:
    court.takes(node.insert("r", {"userId": "alice"}))
    tried = [node.update("r", {"title": "x"}), node.delete("r"), node.insert("s", {"userId": "alice"})]
    assert court.codes({"todos": where}, *tried) == REFUSED * 3


def test_a_flag_that_is_off_is_none(court: Court, node: Node) -> None:
    assert court.codes({"todos": {"__readonly": False}}, node.insert("r", {})) == []


def test_ones_own_records_may_be_written(court: Court, node: Node) -> None:
    assert court.codes(ALICE, node.insert("r", {"userId": "alice"}), node.update("r", {"title": "x"})) == []
    assert court.codes(ALICE, node.update("r", {"userId": "alice"}), node.delete("r")) == []
    assert court.codes(ALICE, node.insert("r", {"userId": "alice", "title": "y"})) == []


def test_an_update_later_in_the_batch_sees_the_insert_before_it(court: Court, node: Node) -> None:
    batch = [node.insert("r", {"userId": "alice"}), node.update("r", {"title": "x"}), node.delete("r")]
    assert court.codes(ALICE, *batch) == []
    refused = [node.insert("s", {"userId": "bob"}), node.update("s", {"title": "x"}), node.delete("s")]
    assert court.codes(ALICE, *refused) == REFUSED * 3


@pytest.mark.parametrize(
    ("kind", "data", "previous"),
    [
        ("update", {"title": "x"}, None),
        ("update", {"title": "x"}, '{"userId":"alice"}'),
        ("update", {"userId": "alice"}, None),
        ("update", {"userId": "alice"}, '{"userId":"alice"}'),
        ("update", {}, '{"userId":"alice"}'),
        ("update", None, '{"userId":"alice"}'),
        ("insert", {"userId": "alice"}, None),
        ("insert", {"userId": "alice"}, '{"userId":"alice"}'),
        ("delete", None, None),
        ("delete", None, '{"userId":"alice"}'),
        ("delete", {"userId": "alice"}, '{"userId":"alice"}'),
    ],
)
@pytest.mark.parametrize("deleted", [False, True], ids=["live", "deleted"])
@pytest.mark.parametrize("late", [False, True], ids=["newest", "late"])
def test_nobody_reaches_into_somebody_elses_record(
    court: Court, node: Node, kind: Any, data: Any, previous: str | None, deleted: bool, late: bool
) -> None:
    court.takes(node.insert("r", {"userId": "bob"}, at=100), *([node.delete("r", at=101)] if deleted else ()))
    operation = node.write(kind, "r", data, at=5 if late else 200)
    if previous is not None:
        said_before(operation, previous)
    before = court.everything()
    assert court.codes(ALICE, operation) == REFUSED
    assert court.everything() == before


@pytest.mark.parametrize("value", ["bob", None, "Alice", "alice ", 1, True, ["alice"], {"is": "alice"}])
@pytest.mark.parametrize("kind", ["update", "insert"])
def test_nobody_moves_a_record_out_of_a_scope(court: Court, node: Node, kind: Any, value: Any) -> None:
    court.takes(node.insert("r", {"userId": "alice"}))
    assert court.codes(ALICE, said_before(node.write(kind, "r", {"userId": value}), '{"userId":"alice"}')) == REFUSED


def test_an_insert_leaves_nothing_of_the_record_so_it_has_to_say_the_field_itself(court: Court, node: Node) -> None:
    court.takes(node.insert("r", {"userId": "alice"}))
    assert court.codes(ALICE, node.insert("r", {"title": "x"})) == REFUSED
    assert court.codes(ALICE, said_before(node.insert("r", {"title": "x"}), '{"userId":"alice"}')) == REFUSED


def test_of_an_unknown_record_an_operation_has_to_say_itself_where_it_belongs(court: Court, node: Node) -> None:
    assert court.codes(ALICE, node.update("a", {"title": "x"}), node.delete("b"), node.insert("c", {})) == REFUSED * 3
    assert court.codes(ALICE, said_before(node.update("d", {"title": "x"}), '{"userId":"alice"}')) == []
    assert court.codes(ALICE, said_before(node.delete("e"), '{"userId":"alice"}')) == []
    assert court.codes(ALICE, said_before(node.update("f", {"userId": "bob"}), '{"userId":"alice"}')) == REFUSED
    assert court.codes(ALICE, said_before(node.update("g", {"userId": "alice"}), '{"userId":"bob"}')) == []


def test_several_fields_all_have_to_fit(court: Court, node: Node) -> None:
    scopes: ScopeMap = {"todos": {"userId": "alice", "n": 1}}
    assert court.codes(scopes, node.insert("r", {"userId": "alice", "n": 1.0})) == []
    assert court.codes(scopes, node.insert("s", {"userId": "alice"}), node.insert("t", {"n": 1})) == REFUSED * 2
    assert court.codes(scopes, node.update("r", {"n": 2})) == REFUSED
    assert court.codes(scopes, node.update("r", {"n": True})) == REFUSED


def test_a_duplicate_is_not_judged_at_all(court: Court, node: Node) -> None:
    mine = [node.insert("r", {"userId": "alice"}), node.update("r", {"title": "x"}), node.delete("r")]
    assert court.codes(ALICE, *mine) == []
    court.takes(node.update("r", {"userId": "bob"}))
    (outcome,) = court.batches(mine, authorities=[Authority("node-a", {})])
    assert (outcome.applied, outcome.rejections) == ([], [])


def test_what_was_refused_is_no_duplicate_later(court: Court, node: Node) -> None:
    operation = node.insert("r", {"userId": "bob"})
    assert court.codes(ALICE, operation, operation) == REFUSED * 2
    assert court.codes({"todos": {}}, operation) == []


def test_what_others_have_done_in_between_counts(court: Court, node: Node) -> None:
    assert court.codes(ALICE, node.insert("r", {"userId": "alice"})) == []
    court.takes(node.update("r", {"userId": "bob"}))
    assert court.codes(ALICE, node.update("r", {"title": "x"})) == REFUSED
    court.takes(node.update("r", {"userId": "alice"}))
    assert court.codes(ALICE, node.update("r", {"title": "x"})) == []


def test_sessions_in_one_write_come_one_after_the_other(court: Court, node: Node) -> None:
    bob: ScopeMap = {"todos": {"userId": "bob"}}
    batches = [
        [node.insert("r", {"userId": "bob"})],
        [node.insert("r", {"userId": "alice"}), node.insert("s", {"userId": "alice"})],
        [node.update("r", {"title": "x"}), node.update("s", {"title": "x"})],
        [node.update("r", {"userId": "alice"})],
        [node.update("r", {"title": "y"})],
    ]
    whose = [bob, ALICE, bob, None, ALICE]
    outcomes = court.batches(*batches, authorities=[Authority(f"n{n}", one) for n, one in enumerate(whose)])
    assert [len(one.rejections) for one in outcomes] == [0, 1, 1, 0, 0]
    assert [one.applied[0].operation.id for one in outcomes] == [
        batches[0][0].id,
        batches[1][1].id,
        batches[2][0].id,
        batches[3][0].id,
        batches[4][0].id,
    ]


def test_a_late_operation_is_judged_by_the_record_as_it_is(court: Court, node: Node) -> None:
    court.takes(node.insert("r", {"userId": "alice"}, at=10), node.update("r", {"userId": "bob"}, at=20))
    assert court.codes(ALICE, node.update("r", {"title": "x"}, at=15)) == REFUSED
    assert court.codes({"todos": {"userId": "bob"}}, node.update("r", {"title": "x"}, at=15)) == []


N_IS_1: ScopeMap = {"todos": {"n": 1}}


def change(kind: str, value: int) -> dict[str, Any]:
    return {"n": {"type": kind, "value": value}}


@pytest.mark.parametrize("at", [15, 25], ids=["late", "newest"])
@pytest.mark.parametrize(
    ("kind", "first", "value"), [("increment", 1, 1), ("max", 1, 5), ("min", 1, -5), ("increment", 1, -1)]
)
def test_what_an_atomic_change_comes_to_has_to_lie_in_the_scope_as_well(
    court: Court, node: Node, kind: str, first: int, value: int, at: int
) -> None:
    """Its author's result says 1; composed with another change of the same kind it is something else."""
    court.takes(node.insert("r", {"n": 0}, at=10), node.update("r", {"n": 1}, at=20, atomic=change(kind, first)))
    early = 0 if kind == "increment" else 1
    court.takes(node.update("r", {"n": early}, at=12, atomic=change(kind, early)))
    before = court.everything()
    assert court.codes(N_IS_1, node.update("r", {"n": 1}, at=at, atomic=change(kind, value))) == REFUSED
    assert court.everything() == before
    assert court.codes(N_IS_1, node.update("r", {"title": "mine"}, at=30)) == []


def test_an_atomic_change_that_comes_to_what_it_should_is_taken(court: Court, node: Node) -> None:
    court.takes(node.insert("r", {"n": 0}), node.update("r", {"n": 1}, atomic=change("increment", 1)))
    assert court.codes(N_IS_1, node.update("r", {"n": 1}, atomic=change("increment", 0))) == []
    assert court.codes(N_IS_1, node.update("r", {"n": 1}, atomic=change("max", 0))) == []
    assert court.codes(N_IS_1, node.update("r", {"n": 1}), node.update("r", {"title": "x"})) == []


def test_a_late_plain_change_that_makes_another_come_out_differently_is_judged_by_that(
    court: Court, node: Node
) -> None:
    court.takes(
        node.insert("r", {"n": -3}, at=10),
        node.update("r", {"n": -2}, at=11, atomic=change("increment", 1)),
        # The author knew of nothing in between: 5. Composed with what was before it is 1.
        node.update("r", {"n": 5}, at=20, atomic=change("increment", 3)),
    )
    assert court.codes(N_IS_1, node.update("r", {"n": 1}, at=15)) == REFUSED
    assert court.codes(N_IS_1, node.insert("r", {"n": 1}, at=15)) == REFUSED
    assert court.codes(N_IS_1, node.update("r", {"title": "x"}, at=15), node.update("r", {"n": 1}, at=25)) == []


class TestRecords:
    """What a record shows is what it is judged by."""

    def test_a_field_that_was_never_set_is_null_and_one_that_there_is_not_is_missing(
        self, court_with_records: Court, node: Node
    ) -> None:
        court = court_with_records
        court.takes(node.insert("r", {"title": "x"}))
        assert court.codes({"todos": {"userId": None}}, node.update("r", {"title": "y"})) == []
        assert court.codes({"todos": {"other": None}}, node.update("r", {"title": "y"})) == REFUSED
        assert court.codes({"todos": {"userId": None}}, node.insert("r", {"title": "y"})) == REFUSED
        assert court.codes({"todos": {"userId": None}}, node.insert("s", {"title": "y"})) == REFUSED

    def test_values_are_as_the_columns_have_them(self, court_with_records: Court, node: Node) -> None:
        court = court_with_records
        stored = {"userId": 5, "done": 1, "n": 1.0}
        with court.store.transaction() as tx:
            append(tx, node.insert("r", stored))
        for fits in ({"userId": None}, {"done": True}, {"n": 1}):
            assert court.codes({"todos": fits}, node.update("r", {"title": "y"})) == []
        for strange in ({"userId": 5}, {"done": 1}, {"n": True}, {"n": "1"}):
            assert court.codes({"todos": strange}, node.update("r", {"title": "y"})) == REFUSED

    def test_what_another_kind_of_server_has_written_counts(self, court_with_records: Court, node: Node) -> None:
        court = court_with_records
        assert court.codes(ALICE, node.insert("r", {"userId": "alice"})) == []
        with court.store.transaction() as tx:
            append(tx, node.update("r", {"userId": "bob"}))
        assert court.codes(ALICE, node.update("r", {"title": "x"})) == REFUSED

    def test_a_scope_on_the_id(self, court: Court, node: Node) -> None:
        court.takes(node.insert("r", {"title": "x"}), node.insert("s", {"title": "x"}))
        assert court.codes({"todos": {"id": "r"}}, node.update("r", {"title": "y"})) == []
        assert court.codes({"todos": {"id": "r"}}, node.update("s", {"title": "y"})) == REFUSED
        assert court.codes({"todos": {"id": "r"}}, node.update("s", {"title": "y", "id": "r"})) == REFUSED


def test_what_a_delete_brings_about_is_the_servers_own_and_not_judged(judge: MakeJudge, node: Node) -> None:
    schema = schema_of(1, lists={"userId": "string"}, todos={"userId": "string", "list": "string"})
    court = judge(with_relations(schema, relation("items", "todos.list", "lists")))
    court.takes(
        node.insert("l", {"userId": "alice"}, collection="lists"), node.insert("t", {"userId": "bob", "list": "l"})
    )
    scopes: ScopeMap = {"lists": {"userId": "alice"}}
    (outcome,) = court.batches([node.delete("l", collection="lists")], authorities=[Authority("node-a", scopes)])
    assert outcome.rejections == []
    assert [entry.operation.record_id for entry in outcome.applied] == ["l", "t"]


def texts(court: Court, scopes: ScopeMap, operations: Sequence[Operation]) -> set[tuple[str, str, bool]]:
    return {refused_with(court, scopes, operation) for operation in operations}


def test_a_refusal_does_not_say_what_there_is(court: Court, node: Node) -> None:
    court.takes(node.insert("theirs", {"userId": "bob"}), node.insert("gone", {"userId": "bob"}), node.delete("gone"))
    court.takes(node.insert("mine", {"userId": "alice"}))
    tried: list[Operation] = []
    for record_id in ("theirs", "gone", "unknown"):
        tried += [
            node.update(record_id, {"title": "x"}),
            node.delete(record_id),
            node.insert(record_id, {"userId": "bob"}),
            node.update(record_id, {"userId": "bob"}),
        ]
    tried += [node.update("mine", {"userId": "bob"}), node.insert("mine", {})]
    tried += [node.write("update", "x", {"title": "x"}, collection=name) for name in ("notes", "nowhere")]
    assert len(texts(court, ALICE, tried)) == 1
    assert texts(court, {"todos": {"__readonly": True}}, tried) == texts(court, {}, tried) == texts(court, ALICE, tried)


# Records that move


@pytest.mark.parametrize("moves_history", [False, True])
@pytest.mark.parametrize("field", ["userId", "n", "done"])
def test_what_is_said_to_be_applied_is_what_is_in_the_log(
    judge: MakeJudge, node: Node, field: str, moves_history: bool
) -> None:
    court = judge(SETUPS["declared"])
    court.pipeline.rules = ApplyRules(SETUPS["declared"], moves_history=moves_history)
    one, other = {"userId": ("a", "b"), "n": (1, 2), "done": (True, False)}[field]
    (first,) = court.batches([node.insert("r", {field: one}), node.insert("s", {field: one})])
    (second,) = court.batches([node.update("r", {"title": "x"}), node.update("s", {"title": "x"})])
    assert (first.has_moved, second.has_moved) == (False, False)
    batch = [node.update("r", {"title": "y"}), node.update("r", {field: other}), node.update("s", {"title": "y"})]
    third, fourth = court.batches(batch, [node.insert("t", {})])
    assert third.has_moved
    applied = [*third.applied, *fourth.applied]
    stored = {entry.operation.id: entry for entry in court.store.entries_after(0, 100)}
    assert len(stored) == 8
    assert [(one.sequence, one.stamp) for one in applied] == [
        (stored[one.operation.id].sequence, stored[one.operation.id].stamp) for one in applied
    ]
    assert all(json.loads(stored[id_].stamp or "")[field] == other for id_ in ("node-a:1", "node-a:3", "node-a:5"))
    if moves_history:
        # All of the record, in its order, behind everything else that there was.
        of_r = [f"node-a:{number}" for number in (1, 3, 5, 6)]
        assert sorted(of_r, key=lambda one: stored[one].sequence) == of_r
        assert min(stored[one].sequence for one in of_r) > stored["node-a:4"].sequence


# Look-ups: the same whatever is found


def test_it_costs_the_same_whether_a_record_is_there_or_not(court: Court, node: Node) -> None:
    court.takes(*(node.insert(f"theirs-{n}", {"userId": "bob"}) for n in range(3)))
    found = [_calls(court, [node.update(f"{name}-{n}", {"title": "x"}) for n in range(3)]) for name in ("theirs", "no")]
    assert found[0] == found[1]
    assert found[0]


def _calls(court: Court, batch: Sequence[Operation]) -> list[str]:
    """The calls to the store that the refusal of a batch takes."""
    calls: list[str] = []
    with court.store.transaction() as tx:

        class Listening:
            def __getattr__(self, name: str) -> Any:
                calls.append(name)
                return getattr(tx, name)

        (outcome,) = court.pipeline.apply_batches(
            Listening(),
            [batch],
            court.now_ms,
            [Authority("node-a", ALICE)],
        )
    assert [one.code for one in outcome.rejections] == REFUSED * len(batch)
    return calls
