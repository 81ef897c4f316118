"""In whose name a session writes: claims, handover, strangers, numbers out of reach (auth.md section 5)."""

from __future__ import annotations

from typing import Any

import pytest

import kora_daemon.apply.authority as module
from kora_daemon.apply.authority import MAX_SEQUENCE_JUMP, VISITOR, Authority, NodeBinding
from kora_daemon.apply.pipeline import BatchOutcome
from kora_daemon.model.node import NodeMemory, NodeNews
from kora_daemon.model.operation import MAX_SAFE_INTEGER, Operation
from tests.support.judging import SERVER, Judge, MakeJudge, constraint, with_constraints
from tests.support.records import TODOS, Node

REFUSED = ["NODE_ID_MISMATCH"]


@pytest.fixture
def court(judge: MakeJudge) -> Judge:
    return judge(TODOS)


def whose(user: str, node: str = "phone", binding: NodeBinding = "enforce", **more: Any) -> Authority:
    return Authority(node, None, user, binding=binding, **more)


def sent(court: Judge, authority: Authority, *operations: Operation) -> BatchOutcome:
    (outcome,) = court.batches(operations, authorities=[authority])
    return outcome


def codes(court: Judge, authority: Authority, *operations: Operation) -> list[str]:
    return [one.code for one in sent(court, authority, *operations).rejections]


def owner(court: Judge, node: str = "phone") -> str | None:
    memory = court.store.node_memory(node)
    return None if memory is None else memory.claimed_by


def test_a_node_belongs_to_whom_uploads_with_it_first(court: Judge) -> None:
    phone = Node("phone")
    assert codes(court, whose("alice"), phone.insert("a", {})) == []
    assert owner(court) == "alice"
    assert codes(court, whose("bob"), phone.insert("b", {})) == REFUSED
    assert codes(court, whose("alice"), phone.insert("c", {})) == []
    assert (owner(court), set(court.live("todos"))) == ("alice", {"a", "c"})


def test_in_one_write_the_first_batch_wins(court: Judge) -> None:
    phone = Node("phone")
    outcomes = court.batches(
        [phone.insert("a", {})],
        [phone.insert("b", {})],
        [phone.insert("c", {})],
        authorities=[whose("alice"), whose("bob"), whose("alice")],
    )
    assert [[one.code for one in outcome.rejections] for outcome in outcomes] == [[], REFUSED, []]
    assert owner(court) == "alice"


def test_only_what_is_accepted_claims(court: Judge) -> None:
    phone = Node("phone")
    closed = Authority("phone", {}, "bob", binding="enforce")
    assert codes(court, closed, phone.insert("a", {})) == ["SCOPE_VIOLATION"]
    assert codes(court, whose("bob"), phone.insert("b", {"n": "no number"}, at=1)) in ([], ["INVALID_VALUE"])
    assert sent(court, whose("carol", "tablet")).rejections == []
    assert owner(court, "tablet") is None


def test_what_a_constraint_refuses_claims_nothing(judge: MakeJudge) -> None:
    court = judge(with_constraints(TODOS, todos=[constraint("unique", "title")]))
    court.takes(Node("other").insert("a", {"title": "taken"}))
    phone = Node("phone")
    assert codes(court, whose("bob"), phone.insert("b", {"title": "taken"})) == ["CONSTRAINT_VIOLATION"]
    assert owner(court) is None
    assert codes(court, whose("alice"), phone.insert("c", {"title": "free"})) == []
    assert owner(court) == "alice"


def test_a_duplicate_claims_nothing_and_is_refused_to_nobody(court: Judge) -> None:
    phone = Node("phone")
    operation = phone.insert("a", {})
    court.takes(operation)
    assert codes(court, whose("bob"), operation) == []
    assert owner(court) is None
    assert codes(court, whose("alice"), phone.insert("b", {})) == []
    assert codes(court, whose("bob", "laptop"), operation) == []


def test_operations_of_other_devices_are_refused_and_claim_nothing(court: Judge) -> None:
    laptop, phone = Node("laptop"), Node("phone")
    outcome = sent(court, whose("bob", "laptop"), laptop.insert("a", {}), phone.insert("b", {}), phone.insert("c", {}))
    assert [one.code for one in outcome.rejections] == REFUSED * 2
    assert outcome.strangers == 2
    assert (owner(court, "laptop"), owner(court)) == ("bob", None)
    assert set(court.live("todos")) == {"a"}
    assert court.store.version_vector() == {"laptop": 1}


@pytest.mark.parametrize("binding", ["warn", "off"])
def test_a_warning_refuses_nothing_and_counts(court: Judge, binding: NodeBinding) -> None:
    laptop, phone = Node("laptop"), Node("phone")
    assert codes(court, whose("alice"), phone.insert("a", {})) == []
    outcome = sent(court, whose("bob", "laptop", binding), laptop.insert("b", {}), phone.insert("c", {}))
    assert (outcome.rejections, outcome.strangers) == ([], 1 if binding == "warn" else 0)
    outcome = sent(court, whose("bob", "phone", binding), phone.insert("d", {}))
    assert (outcome.rejections, outcome.strangers) == ([], 1 if binding == "warn" else 0)
    assert owner(court) == "alice"
    assert owner(court, "laptop") == ("bob" if binding == "warn" else None)


def test_without_binding_nothing_is_claimed(court: Judge) -> None:
    assert codes(court, whose("alice", binding="off"), Node("phone").insert("a", {})) == []
    assert court.store.node_memory("phone") is None


# Users of one browser share a device, hence a node id


def test_a_device_goes_with_the_token_that_was_given_to_it(court: Judge) -> None:
    phone = Node("phone")
    assert codes(court, whose("alice", device_id="phone"), phone.insert("a", {})) == []
    assert codes(court, whose("bob", device_id="phone"), phone.insert("b", {})) == []
    assert codes(court, whose("bob", device_id="phone", handover=False), phone.insert("c", {})) == REFUSED
    assert codes(court, whose("bob", device_id="laptop"), phone.insert("d", {})) == REFUSED
    assert codes(court, whose("bob"), phone.insert("e", {})) == REFUSED
    # Being handed over does not make it another's.
    assert owner(court) == "alice"


def test_the_device_of_a_token_gives_no_other_name(court: Judge) -> None:
    tablet = Node("tablet")
    assert codes(court, whose("bob", "phone", device_id="tablet"), tablet.insert("a", {})) == REFUSED


# Visitors


def test_what_visitors_have_used_is_free(court: Judge) -> None:
    phone = Node("phone")
    assert codes(court, whose(VISITOR), phone.insert("a", {})) == []
    assert owner(court) == VISITOR
    assert codes(court, whose(VISITOR), phone.insert("b", {})) == []
    assert codes(court, whose("alice"), phone.insert("c", {})) == []
    assert owner(court) == "alice"
    assert codes(court, whose(VISITOR), phone.insert("d", {})) == REFUSED
    assert owner(court) == "alice"


# The server is nobody's device


def test_nobody_is_the_server(court: Judge) -> None:
    server = Node(SERVER)
    assert codes(court, whose("bob", SERVER), server.insert("a", {})) == REFUSED
    assert codes(court, whose("bob", SERVER, device_id=SERVER), server.insert("b", {})) == REFUSED
    outcome = sent(court, whose("bob", SERVER, "warn"), server.insert("c", {}))
    assert (outcome.rejections, outcome.strangers) == ([], 1)
    assert court.store.node_memory(SERVER) is None


# Numbers


@pytest.fixture
def small_jump(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "MAX_SEQUENCE_JUMP", 100)
    return 100


def numbered(node: Node, number: int) -> Operation:
    operation = node.insert(f"{node.name}-{number}", {})
    operation.sequence_number = number
    return operation


def test_a_number_may_lie_so_far_above_those_known_and_no_further(court: Judge, small_jump: int) -> None:
    phone = Node("phone")
    assert codes(court, whose("alice"), numbered(phone, 5), numbered(phone, 105)) == []
    assert codes(court, whose("alice"), numbered(phone, 206)) == ["INVALID_OPERATION"]
    assert court.store.version_vector() == {"phone": 105}
    assert codes(court, whose("alice"), numbered(phone, 205)) == []
    assert codes(court, whose("alice"), numbered(phone, 305), numbered(phone, 405), numbered(phone, 7)) == []
    assert codes(court, whose("alice"), numbered(phone, MAX_SAFE_INTEGER)) == ["INVALID_OPERATION"]


def test_what_was_refused_lifts_nothing(court: Judge, small_jump: int) -> None:
    phone = Node("phone")
    assert codes(court, whose("alice"), numbered(phone, 1_000), numbered(phone, 1_050)) == ["INVALID_OPERATION"] * 2
    closed = Authority("phone", {}, "alice")
    assert codes(court, closed, numbered(phone, 90), numbered(phone, 180)) == ["SCOPE_VIOLATION"] * 2
    assert codes(court, whose("alice"), numbered(phone, 180)) == ["INVALID_OPERATION"]


@pytest.mark.parametrize("binding", ["off", "warn", "enforce"])
def test_it_holds_for_other_devices_too_whatever_the_binding(
    court: Judge, small_jump: int, binding: NodeBinding
) -> None:
    phone = Node("phone")
    assert codes(court, whose("alice"), numbered(phone, 5)) == []
    forged = numbered(phone, 1_000_000_000)
    assert codes(court, whose("bob", "laptop", binding), forged) == ["INVALID_OPERATION"]
    assert court.store.version_vector() == {"phone": 5}


def test_a_duplicate_may_have_any_number_and_so_may_the_servers_own_side(court: Judge) -> None:
    forged = numbered(Node("phone"), MAX_SEQUENCE_JUMP * 5)
    court.takes(forged)
    assert codes(court, whose("alice"), forged) == []


def test_outside_of_the_scope_no_number_is_told(court: Judge) -> None:
    closed = Authority("laptop", {}, "bob", binding="enforce")
    tried = [numbered(Node("phone"), number) for number in (1, MAX_SEQUENCE_JUMP * 2, MAX_SAFE_INTEGER)]
    assert codes(court, closed, *tried) == ["SCOPE_VIOLATION"] * 3


def test_a_claim_leaves_what_else_is_remembered(court: Judge) -> None:
    with court.store.transaction() as tx:
        tx.remember(NodeNews("phone", scope="s", floor=3, settled="v"), 1)
    assert codes(court, whose("alice"), Node("phone").insert("a", {})) == []
    assert court.store.node_memory("phone") == NodeMemory("alice", "s", 3, "v")
