"""Where a stream begins, what a client is told of it, and what is remembered (scopes.md sections 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import asdict, replace

from kora_daemon.model.node import NodeMemory, NodeNews
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.scope import ScopeMap
from kora_daemon.model.view import View
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.arrears import HEARD_MS
from kora_daemon.protocol.resume import MAX_VIEWS, announced, scope_digest, start_of, stream_news, view_digest
from kora_daemon.protocol.rules import AcceptedScope, SessionRules
from tests.support.operations import entry, operation, upload
from tests.support.rehearsal import SERVER, Rehearsal, handshake_of, of_kind, said

MINE: ScopeMap = {"todos": {"userId": "alice"}}
OURS: ScopeMap = {"todos": {"orgId": 1}}
FRONTIER = 100


def digest(scopes: ScopeMap | None) -> str:
    return scope_digest(View(scopes))


def begins_at(
    watermark: int | None,
    memory: NodeMemory | None = None,
    *,
    scopes: ScopeMap | None = MINE,
    as_asked: bool = False,
    floor: int = 0,
    subsets: tuple[tuple[str, Mapping[str, Any]], ...] = (),
) -> int:
    asked = do.ReadLog("node-a", {}, watermark, view=View(scopes, subsets), as_asked=as_asked)
    return start_of(asked, FRONTIER, floor, memory)


def test_a_client_whose_scope_is_the_remembered_one_goes_on() -> None:
    assert begins_at(40, NodeMemory(scope=digest(MINE))) == 40
    assert begins_at(FRONTIER, NodeMemory(scope=digest(MINE))) == FRONTIER


def test_whatever_it_asked_for_itself() -> None:
    # The whole point: stock clients ask for none, or for another one after a restart of the app.
    for as_asked in (True, False):
        assert begins_at(40, NodeMemory(scope=digest(MINE)), as_asked=as_asked) == 40
        assert begins_at(40, NodeMemory(scope=digest(OURS)), as_asked=as_asked) == 0


def test_nothing_remembered_and_the_scope_as_asked_is_trusted() -> None:
    assert begins_at(40, None, as_asked=True) == 40
    assert begins_at(40, NodeMemory(claimed_by="alice"), as_asked=True) == 40
    assert begins_at(40, None, scopes=None, as_asked=True) == 40


def test_nothing_remembered_and_another_scope_than_asked_for_is_not() -> None:
    assert begins_at(40, None) == 0
    assert begins_at(40, NodeMemory(claimed_by="alice", settled="v")) == 0


@pytest.mark.parametrize("before", [None, MINE, OURS, {}, {"todos": {}}, {"todos": {"userId": "alice", "orgId": 1}}])
@pytest.mark.parametrize("after", [None, MINE, OURS, {}, {"todos": {}}, {"todos": {"userId": "alice", "orgId": 1}}])
def test_any_change_of_scopes_is_a_new_beginning(before: ScopeMap | None, after: ScopeMap | None) -> None:
    start = begins_at(40, NodeMemory(scope=digest(before)), scopes=after)
    assert start == (40 if before == after else 0)


def test_only_scopes_matter_not_subsets_nor_flags_nor_order() -> None:
    memory = NodeMemory(scope=digest({"todos": {"userId": "alice", "orgId": 1}, "notes": {}}))
    same: ScopeMap = {"notes": {"__readonly": True}, "todos": {"orgId": 1, "userId": "alice"}}
    assert begins_at(40, memory, scopes=same) == 40
    assert begins_at(40, memory, scopes=same, subsets=(("todos", {"done": True}),)) == 40


def test_values_that_scopes_tell_apart_are_told_apart() -> None:
    values: list[Any] = [1, True, "1", None, 0, False, "", "null", "A", "a", 1.5]
    assert len({digest({"todos": {"v": value}}) for value in values}) == len(values)


def test_a_scope_of_halves_of_characters_can_be_told_from_others() -> None:
    assert digest({"todos": {"v": "\ud800"}}) != digest({"todos": {"v": "\ud801"}})


def test_nothing_is_told_by_no_digest() -> None:
    assert digest(None) == ""
    assert digest({}) != ""
    assert view_digest(View()) == ""
    assert view_digest(View(None, (("todos", {}),))) != ""
    assert "alice" not in digest(MINE)


def test_a_client_that_has_nothing_begins_at_the_beginning() -> None:
    assert begins_at(0, None) == 0
    assert begins_at(None, None) == 0
    assert begins_at(0, NodeMemory(scope=digest(MINE))) == 0


def test_above_the_log_there_is_nothing_to_go_on_from() -> None:
    assert begins_at(FRONTIER + 1, NodeMemory(scope=digest(MINE))) == 0
    assert begins_at(FRONTIER + 1, None, as_asked=True) == 0


def test_a_watermark_of_a_log_that_was_replaced_is_of_no_meaning() -> None:
    known = NodeMemory(scope=digest(MINE))
    assert begins_at(40, known, floor=50) == 0
    assert begins_at(40, None, floor=50, as_asked=True) == 0
    assert begins_at(50, known, floor=50) == 50
    assert begins_at(40, NodeMemory(scope=digest(MINE), floor=50), floor=50) == 40
    assert begins_at(40, NodeMemory(scope=digest(MINE), floor=30), floor=50) == 0


@pytest.mark.parametrize(
    ("watermark", "start", "told"),
    [(0, 0, 100), (40, 40, 100), (100, 100, 100), (40, 0, 0), (100, 0, 0), (101, 0, 100), (10**9, 0, 100)],
)
def test_a_client_that_has_to_start_over_is_told_of_less_than_it_has(watermark: int, start: int, told: int) -> None:
    assert announced(watermark, start, FRONTIER) == told
    assert (watermark > told) == (start != watermark)


def news(
    scopes: ScopeMap | None, memory: NodeMemory | None = None, *, start: int = 0, floor: int = 0
) -> tuple[str | None, int | None] | None:
    made = stream_news("node-a", View(scopes), start, on.LogRead(FRONTIER, {}, (), floor, start, memory))
    if made is None:
        return None
    assert (made.node_id, made.claimed_by, made.settled) == ("node-a", None, None)
    return made.scope, made.floor


def test_a_scope_is_remembered_once() -> None:
    assert news(MINE) == (digest(MINE), 0)
    assert news(MINE, NodeMemory(scope=digest(MINE))) is None
    assert news(MINE, NodeMemory(scope=digest(OURS))) == (digest(MINE), 0)
    assert news(MINE, NodeMemory(claimed_by="alice")) == (digest(MINE), 0)


def test_of_who_sees_everything_nothing_is_kept_unless_there_was_a_scope_before() -> None:
    assert news(None) is None
    assert news(None, NodeMemory(claimed_by="alice")) is None
    assert news(None, NodeMemory(scope=digest(MINE))) == ("", 0)
    assert news(None, NodeMemory(scope="")) is None


def test_that_a_device_has_begun_anew_on_a_restored_log_is_remembered() -> None:
    assert news(None, None, start=0, floor=50) == ("", 50)
    assert news(None, None, start=60, floor=50) is None
    assert news(MINE, NodeMemory(scope=digest(MINE)), floor=50) == (digest(MINE), 50)
    assert news(MINE, NodeMemory(scope=digest(MINE), floor=50), floor=50) is None


def after(memory: NodeMemory | None, view: View, watermark: int, floor: int = 0) -> NodeMemory:
    """What is remembered after a session of a device with that watermark in that view."""
    asked = do.ReadLog("node-a", {}, watermark, view=view)
    log = on.LogRead(FRONTIER, {}, (), floor, start_of(asked, FRONTIER, floor, memory), memory)
    made = stream_news("node-a", view, watermark, log)
    known = memory or NodeMemory()
    if made is None:
        return known
    return replace(
        known, **{name: value for name, value in asdict(made).items() if value is not None and name != "node_id"}
    )


ALL = View(OURS)
DONE = View(OURS, (("todos", {"done": True}),))


def trusted(memory: NodeMemory | None, view: View, watermark: int = 40) -> bool:
    return start_of(do.ReadLog("node-a", {}, watermark, view=view), FRONTIER, 0, memory) == watermark


def test_who_has_to_begin_anew_in_one_view_has_to_in_all_others() -> None:
    # A watermark of a live query that ended before the scope changed says nothing of what can be seen since.
    memory = after(NodeMemory(scope=digest(MINE)), DONE, 40)
    assert trusted(memory, DONE)
    assert not trusted(memory, ALL)
    memory = after(memory, ALL, 40)
    assert trusted(memory, DONE)
    assert trusted(memory, ALL)


def test_a_view_that_is_new_to_the_client_begins_without_that() -> None:
    memory = after(after(NodeMemory(scope=digest(MINE)), DONE, 40), ALL, 0)
    assert trusted(memory, ALL)


def test_while_scopes_stay_the_same_nothing_is_kept_of_views() -> None:
    memory = after(after(None, ALL, 0), DONE, 0)
    assert memory == NodeMemory(scope=digest(OURS))
    assert trusted(memory, View(OURS, (("todos", {"done": False}),)))


def test_another_change_or_another_log_forgets_the_views() -> None:
    memory = after(after(NodeMemory(scope=digest(MINE)), DONE, 40), ALL, 40)
    memory = after(after(memory, View(MINE), 40), ALL, 40)
    assert not trusted(memory, DONE)
    memory = after(after(memory, DONE, 40), DONE, 40, floor=50)
    assert not trusted(memory, ALL)


def test_who_sees_everything_and_had_to_begin_anew_has_to_in_all_views() -> None:
    memory = after(None, View(), FRONTIER + 1)
    assert memory.scope == ""
    assert trusted(memory, View())
    assert not trusted(memory, View(None, (("todos", {}),)))


def test_the_views_that_are_remembered_are_bounded() -> None:
    memory = NodeMemory(scope=digest(MINE))
    views = [View(OURS, (("todos", {"n": number}),)) for number in range(MAX_VIEWS + 1)]
    for view in views:
        memory = after(memory, view, 40)
    assert [trusted(memory, view) for view in views] == [False] + [True] * MAX_VIEWS


# A session


class Stage(Rehearsal):
    """A session with scopes; `grant` is what authentication gives it."""

    def __init__(self, grant: ScopeMap | None, accepted: AcceptedScope = "full") -> None:
        super().__init__(SessionRules(SERVER, accepted_scope=accepted))
        self.grant = grant

    def opens(
        self,
        memory: NodeMemory | None = None,
        *,
        has_gaps: bool = False,
        own: int = 0,
        stored: int | None = None,
        **handshake: Any,
    ) -> say.HandshakeResponse:
        """The whole handshake; its answer, which says `own` of the device's own operations, of which `stored` are."""
        self.take(handshake_of(**handshake))
        [asked] = of_kind(do.ReadLog, self.take(on.Authenticated("alice", self.grant)))
        self.asked = asked
        start = start_of(asked, FRONTIER, 0, memory)
        known = own if stored is None else stored
        read = on.LogRead(FRONTIER, {"node-a": own}, start=start, memory=memory, has_gaps=has_gaps, own=known)
        [response, *_] = said(self.take(read))
        assert isinstance(response, say.HandshakeResponse)
        return response

    def remembered(self) -> list[NodeNews]:
        return [action.news for action in of_kind(do.Remember, self.actions)]

    def acknowledge(self, message_id: str, maximum: int, last: int = 1) -> None:
        self.take(say.Acknowledgment("a", message_id, last, maximum))


def test_the_reset_of_a_scope_that_changed() -> None:
    stage = Stage(MINE)
    response = stage.opens(NodeMemory(scope=digest(OURS)), last_delivery_sequence=40)
    assert response.server_max_delivery_sequence == 0
    [batch] = stage.show([entry(70)])
    assert (batch.base, batch.maximum, batch.is_final) == (0, FRONTIER, True)


def test_no_reset_of_a_scope_that_the_server_gave_before() -> None:
    stage = Stage(MINE)
    response = stage.opens(NodeMemory(scope=digest(MINE)), last_delivery_sequence=40)
    assert response.server_max_delivery_sequence == FRONTIER
    [batch] = stage.show([entry(70)])
    assert (batch.base, batch.maximum) == (40, FRONTIER)


def test_a_scope_is_remembered_when_the_client_has_taken_something_of_it() -> None:
    stage = Stage(MINE)
    stage.opens(NodeMemory(scope=digest(OURS)), last_delivery_sequence=40)
    [batch] = stage.show([entry(70)])
    assert stage.remembered() == []
    # Of the connection before, or passed over as a duplicate: none of that is taken.
    stage.acknowledge("another", 40)
    stage.acknowledge(batch.message_id, 40)
    stage.acknowledge(batch.message_id, batch.maximum, last=0)
    assert stage.remembered() == []


def test_who_begins_anew_is_not_taken_at_the_word_of_what_it_held_before() -> None:
    """What it took of its last connection behind its handshake it gives up when it reads the answer."""
    stage = Stage(MINE)
    stage.opens(NodeMemory(scope=digest(OURS)), last_delivery_sequence=40)
    [batch] = stage.show([entry(70)])
    reads = len(stage.reads)
    stage.acknowledge("of the connection before", 50)
    assert len(stage.reads) == reads
    stage.acknowledge(batch.message_id, batch.maximum)
    progress = stage.session.progress
    assert progress is not None
    assert progress.acknowledged == FRONTIER


@pytest.mark.parametrize(
    ("held", "asked_from", "stored", "sent"),
    [
        ({"node-a": 1, "node-b": 7}, 2, 2, [70, 71]),
        ({"node-b": 7}, 2, 2, [70, 71]),
        ({"node-a": 2, "node-b": 7}, 1, 3, [70, 71]),
        ({"node-a": 2, "node-b": 7}, 1, 2, [70]),
        ({"node-a": 2, "node-b": 7}, 2, 2, [70]),
        ({"node-a": 3}, 2, 2, [70]),
        ({}, 2, 2, [70]),
    ],
    ids=[
        "lacks some",
        "lacks all",
        "lacks some, withholds some",
        "withholds some",
        "has them",
        "has more",
        "is silent",
    ],
)
def test_a_download_that_broke_off_goes_on_with_what_the_device_once_wrote_itself(
    held: dict[str, int], asked_from: int, stored: int, sent: list[int]
) -> None:
    stage, gaps = Stage(None), asked_from < stored
    stage.opens(None, last_delivery_sequence=40, version_vector=held, own=asked_from, stored=stored, has_gaps=gaps)
    [batch] = stage.show([entry(70), entry(71, "node-a")])
    assert [one.sequence for one in batch.entries] == sent


def test_it_is_remembered_once() -> None:
    stage = Stage(MINE)
    stage.opens(None, last_delivery_sequence=0)
    [batch] = stage.show([entry(70)])
    stage.acknowledge(batch.message_id, batch.maximum)
    stage.acknowledge(batch.message_id, batch.maximum)
    assert stage.remembered() == [NodeNews("node-a", scope=digest(MINE), floor=0)]


def test_a_client_without_a_watermark_has_no_place_to_remember() -> None:
    stage = Stage(MINE)
    response = stage.opens(None, last_delivery_sequence=None)
    assert response.server_max_delivery_sequence is UNSET
    [batch] = stage.show([entry(70)])
    stage.take(say.Acknowledgment("a", batch.message_id, 1))
    assert stage.remembered() == []


@pytest.mark.parametrize(
    ("grant", "asked", "as_asked", "confined"),
    [
        (None, None, True, False),
        (None, MINE, True, False),
        (MINE, None, False, True),
        (MINE, MINE, True, True),
        (MINE, {"todos": {}}, False, True),
        (MINE, {"todos": {"userId": "alice"}, "notes": {}}, False, True),
        ({"todos": {}}, MINE, True, True),
        ({**MINE, "notes": {"__readonly": True}}, {**MINE, "notes": {}}, True, True),
    ],
)
def test_whether_a_client_has_got_what_it_asked_for(
    grant: ScopeMap | None, asked: ScopeMap | None, as_asked: bool, confined: bool
) -> None:
    stage = Stage(grant)
    stage.opens(None, sync_scope=asked)
    assert (stage.asked.as_asked, stage.asked.confined) == (as_asked, confined)


@pytest.mark.parametrize(
    ("setting", "asked", "told"),
    [
        ("full", None, {"todos": {"userId": "alice"}}),
        ("full", {"todos": {"done": False}}, {"todos": {"userId": "alice", "done": False}}),
        ("collections", None, {"todos": {}}),
        ("collections", {"todos": {"done": False}}, {"todos": {}}),
        ("none", None, UNSET),
        ("none", {"todos": {"done": False}}, {"todos": {}}),
    ],
)
def test_what_a_client_is_told_of_its_scopes(setting: AcceptedScope, asked: Any, told: Any) -> None:
    stage = Stage({"todos": {"userId": "alice", "__readonly": True}}, setting)
    assert stage.opens(None, sync_scope=asked).accepted_scope == told
    assert stage.session.view.by_record == (setting != "full")


def test_who_is_not_restricted_is_told_so_by_nothing() -> None:
    assert Stage(None).opens(None).accepted_scope is UNSET
    assert Stage({}).opens(None).accepted_scope == {}
    assert Stage({}).opens(None, sync_scope=MINE).accepted_scope == {}


# Withheld writes


def settled(stage: Stage) -> list[tuple[str | None, int | None]]:
    return [(news.settled, news.settled_upto) for news in stage.remembered() if news.settled is not None]


def test_the_last_answer_to_who_was_asked_for_gaps_settles_the_view() -> None:
    stage = Stage(MINE)
    stage.opens(None, has_gaps=True)
    stage.take(say.OperationBatch("up-1", [operation(1)], False, 0, 900))
    stage.take(say.OperationBatch("up-2", [operation(2)], True, 1, 900))
    stage.take(on.Committed([]))
    assert settled(stage) == []
    told = stage.take(on.Committed([]))
    assert [type(action) for action in told[:2]] == [do.Send, do.Remember]
    stage.take(upload(operation(3), message_id="up-3"))
    stage.take(on.Committed([]))
    assert settled(stage) == [(view_digest(View(MINE)), 2)]


def test_an_empty_batch_settles_it_too() -> None:
    stage = Stage(MINE)
    stage.opens(None, has_gaps=True)
    stage.take(say.OperationBatch("up-1", [], True, 0, 90))
    stage.take(on.Committed([]))
    assert settled(stage) == [(view_digest(View(MINE)), 0)]


def test_it_is_settled_up_to_what_the_device_itself_has_sent() -> None:
    stage = Stage(MINE)
    stage.opens(None, has_gaps=True, own=4)
    stage.take(say.OperationBatch("up-1", [operation(7), operation(6)], False, 0, 900))
    stage.take(say.OperationBatch("up-2", [operation(9, node_id="node-b")], True, 0, 900))
    stage.take(on.Committed([]))
    stage.take(on.Committed([]))
    assert settled(stage) == [(view_digest(View(MINE)), 7)]


def test_who_sends_nothing_has_settled_what_was_there() -> None:
    stage = Stage(MINE)
    stage.opens(None, has_gaps=True, own=4)
    stage.take(say.OperationBatch("up-1", [], True, 0, 90))
    stage.take(on.Committed([]))
    assert settled(stage) == [(view_digest(View(MINE)), 4)]


def refused(number: int) -> Rejection:
    return Rejection(f"op-{number}", "todos", "r", "SCOPE_VIOLATION", "The operation is outside the scope")


def test_a_refusal_may_be_lost_so_nothing_is_settled_before_it_was_heard() -> None:
    stage = Stage(MINE)
    stage.opens(None, has_gaps=True, own=4)
    stage.take(say.OperationBatch("up-1", [operation(5)], False, 0, 900))
    stage.take(say.OperationBatch("up-2", [operation(6)], True, 1, 900))
    stage.take(on.Committed([refused(5)]))
    stage.take(on.Committed([]))
    assert settled(stage) == []
    assert stage.session.due_ms is not None
    stage.pass_time(HEARD_MS + 500)
    stage.take(on.Tick(silent_ms=501))
    assert settled(stage) == []
    stage.take(on.Tick(silent_ms=500))
    stage.take(on.Tick())
    assert settled(stage) == [(view_digest(View(MINE)), 6)]


def test_what_is_refused_of_who_was_not_asked_is_no_gap_once_that_was_heard() -> None:
    stage = Stage(MINE)
    stage.opens(None, own=4)
    stage.take(upload(operation(5), operation(6), operation(7)))
    stage.take(on.Committed([refused(6)]))
    stage.take(upload(operation(8), message_id="up-2"))  # not answered yet
    stage.pass_time(HEARD_MS)
    stage.take(on.Tick())
    assert settled(stage) == [(view_digest(View(MINE)), 7)]
    stage.take(on.Committed([]))
    stage.pass_time(HEARD_MS)
    stage.take(on.Tick())
    assert len(settled(stage)) == 1
    stage.take(upload(operation(9), message_id="up-3"))
    stage.take(on.Committed([refused(9)]))
    stage.take(upload(operation(10), message_id="up-4"))
    stage.pass_time(HEARD_MS - 1)
    stage.take(on.Committed([]))
    stage.take(on.Tick())
    assert len(settled(stage)) == 1
    stage.pass_time(1)
    stage.take(on.Tick())
    assert settled(stage)[1:] == [(view_digest(View(MINE)), 9)]


def test_what_it_has_left_out_stays_a_gap() -> None:
    stage = Stage(MINE)
    stage.opens(None, own=4)
    stage.take(upload(operation(5), operation(7), operation(9, node_id="node-b")))
    stage.take(on.Committed([refused(7)]))
    stage.pass_time(HEARD_MS)
    stage.take(on.Tick())
    assert settled(stage) == [(view_digest(View(MINE)), 5)]


def test_who_knows_no_refusals_is_not_waited_for() -> None:
    stage = Stage(MINE)
    stage.opens(None, has_gaps=True, own=4)
    stage.session.uploads.explains_rejections = False
    stage.take(say.OperationBatch("up-1", [operation(5)], True, 0, 900))
    stage.take(on.Committed([refused(5)]))
    assert settled(stage) == [(view_digest(View(MINE)), 5)]


def test_who_was_not_asked_settles_nothing() -> None:
    stage = Stage(MINE)
    stage.opens(None)
    stage.take(upload(operation(1)))
    stage.take(on.Committed([]))
    assert settled(stage) == []


def test_a_batch_that_is_not_taken_settles_nothing() -> None:
    stage = Stage(MINE)
    stage.opens(None, has_gaps=True)
    stage.take(upload(operation(1, wall_time=stage.wall_ms + 3_600_000)))
    assert settled(stage) == []


def test_a_batch_that_the_store_did_not_take_settles_nothing() -> None:
    stage = Stage(MINE)
    stage.opens(None, has_gaps=True)
    stage.take(upload(operation(1)))
    stage.take(on.StoreFailed())
    assert settled(stage) == []


def test_the_view_that_is_settled_is_that_of_scopes_and_subsets() -> None:
    query = {"collection": "todos", "where": {"done": False}}
    stage = Stage(MINE)
    stage.opens(None, has_gaps=True, sync_queries=[query])
    stage.take(upload())
    stage.take(on.Committed([]))
    [(view, _)] = settled(stage)
    assert view == view_digest(View(MINE, (("todos", {"done": False}),)))
    assert view != view_digest(View(MINE))
