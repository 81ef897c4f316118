"""A session walked at random through its table of legal moves keeps its promises, whatever peers and stores do."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Raw

from kora_daemon.errors import ProtocolError, SessionMisuse
from kora_daemon.model.delivery import Page
from kora_daemon.model.outcome import Rejection
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.delivery import LogSpan
from kora_daemon.protocol.moves import AUTHENTICATED, Phase
from kora_daemon.protocol.rules import SessionRules
from kora_daemon.protocol.session import Session
from kora_daemon.protocol.uploads import UploadLimits
from tests.support.operations import NOON_MS, entry, operation

RULES = SessionRules("server", batch_size=3, limits=UploadLimits(400, 5, 60))
ODD = Rejection("odd", "", "", "INVALID_OPERATION", "malformed")
ANSWERING = (Phase.AUTHENTICATING, Phase.AUTHENTICATED)

numbers = st.integers(0, 9)
odd_values: st.SearchStrategy[Any] = st.sampled_from([None, True, -1, 1.5, "5", [], {}, 10**400])
handshakes = st.builds(
    say.Handshake,
    message_id=st.just("h"),
    node_id=st.sampled_from(["node-a", "node-b", ""]),
    version_vector=st.dictionaries(st.sampled_from(["node-a", "node-b"]), numbers | odd_values),
    schema_version=st.sampled_from([1, 1, 1, 2, 0.5]),
    auth_token=odd_values,
    sync_scope=st.sampled_from([None, {"todos": {"title": "x"}}, {"notes": {}}]),
    sync_queries=odd_values,
    delta_cursor=odd_values,
    last_delivery_sequence=numbers | odd_values,
)
good_handshakes = st.builds(
    say.Handshake,
    message_id=st.just("h"),
    node_id=st.sampled_from(["node-a", "node-b"]),
    version_vector=st.just({"node-b": 1}),
    schema_version=st.just(1),
    sync_scope=st.sampled_from([None, None, {"todos": {"title": "x"}}]),
    last_delivery_sequence=st.none() | numbers,
)
wall_times = st.sampled_from([NOON_MS, 0, -1])
titles = st.sampled_from(["x", "x", "y" * 500])
uploads = st.lists(st.tuples(wall_times, titles), max_size=6)
acknowledgments = st.builds(
    say.Acknowledgment,
    message_id=st.just("a"),
    acknowledged_message_id=st.sampled_from([f"s-{n}" for n in range(20)]),
    last_sequence_number=numbers | odd_values,
    delivery_sequence=numbers | odd_values,
)
other_messages = st.sampled_from(
    [
        say.ErrorMessage("m", "C", "t", True),
        say.AwarenessUpdate("m", 1, {"1": Raw(b"{}")}),
        say.DocumentUpdate("m", "todos", "r", "body", "AA=="),
        say.BlobRequest("m", "r", "h"),
        say.BlobResponse("m", "r", None),
        say.BlobPush("m", "h", "AA=="),
        on.Unknown("heartbeat"),
    ]
)


class AnySession(RuleBasedStateMachine):
    """Does what a connection does with a session, and remembers what was promised."""

    def __init__(self) -> None:
        super().__init__()
        ids = itertools.count(1)
        self.wall_ms, self.elapsed_ms = NOON_MS, 0
        self.session = Session(1, RULES, self.now, lambda: f"s-{next(ids)}")
        self.upload_numbers = itertools.count(1)
        self.asked: do.Authenticate | do.ReadLog | None = None
        self.reading: do.ReadPage | None = None
        self.frontier = 0
        self.accepted = False
        self.closes = 0
        self.committed: set[str] = set()
        self.handed_over: deque[tuple[str, set[str]]] = deque()
        self.durable: deque[str] = deque()

    @property
    def now(self) -> on.Moment:
        return on.Moment(self.wall_ms, self.elapsed_ms)

    @property
    def is_open(self) -> bool:
        return self.session.phase in (Phase.SYNCING, Phase.STREAMING)

    def take(self, event: on.AnyEvent) -> None:
        """Hand an event in and check what is wanted for it."""
        was_closed = self.session.phase is Phase.CLOSED
        wanted = self.session.step(event, self.now)
        assert not (was_closed and wanted)
        for position, action in enumerate(wanted):
            if isinstance(action, do.Close):
                assert position == len(wanted) - 1
                assert action.code != do.GOING_AWAY or not self.handed_over
                self.closes += 1
            elif isinstance(action, do.Authenticate | do.ReadLog):
                assert self.asked is None
                self.asked = action
            elif isinstance(action, do.ReadPage):
                assert self.reading is None
                self.reading = action
            elif isinstance(action, do.Commit):
                self.check_handed_over(event, action)
            elif isinstance(action, do.Send):
                self.check_said(action.message)
            else:
                assert self.accepted

    def check_handed_over(self, event: on.AnyEvent, commit: do.Commit) -> None:
        assert isinstance(event, say.OperationBatch)
        names = [one.id for one in commit.operations]
        assert names == [one.id for one in event.operations if one.id in set(names)]
        self.handed_over.append((event.message_id, set(names)))

    def check_said(self, message: say.Message) -> None:
        if isinstance(message, say.HandshakeResponse):
            assert not self.accepted
            self.accepted = message.accepted
        elif isinstance(message, say.Acknowledgment):
            assert message.acknowledged_message_id == self.durable.popleft()
        elif isinstance(message, say.OperationRejected):
            assert message.operation_id not in self.committed
        else:
            assert isinstance(message, say.ErrorMessage) or self.accepted

    @initialize(handshake=good_handshakes, steps=st.sampled_from([3] * 6 + [2, 1, 0, 0]), frontier=numbers)
    def begin(self, handshake: say.Handshake, steps: int, frontier: int) -> None:
        """Most walks begin inside a session, some before or in the middle of the handshake."""
        self.frontier = frontier
        if steps > 0:
            self.take(handshake)
        if steps > 1:
            self.the_provider_agrees()
        if steps > 2:
            self.the_log_is_read()

    # The peer

    def hears(self) -> bool:
        return self.session.phase not in ANSWERING

    @precondition(hears)
    @rule(message=handshakes | acknowledgments | other_messages)
    def peer_says(self, message: on.AnyEvent) -> None:
        self.take(message)

    @precondition(hears)
    @rule(stamps=uploads, damaged=st.booleans())
    def peer_uploads(self, stamps: list[tuple[int, str]], damaged: bool) -> None:
        number = next(self.upload_numbers)
        made = [
            operation(index, id=f"op-{number}-{index}", wall_time=wall_time, data={"title": title})
            for index, (wall_time, title) in enumerate(stamps)
        ]
        batch = say.OperationBatch(f"up-{number}", made, True, 0, 5_000)
        if damaged:
            batch = say.DamagedBatch(f"up-{number}", made, True, 0, 5_000, [ODD], 0)
        self.take(batch)

    @precondition(lambda self: not self.hears())
    @rule(message=handshakes | acknowledgments | other_messages)
    def a_message_is_handed_in_too_early(self, message: on.AnyEvent) -> None:
        self.misuse(message)

    # The daemon

    @rule(ms=st.sampled_from([1, 500, 2_000, 30_000]))
    def time_passes(self, ms: int) -> None:
        self.wall_ms += ms
        self.elapsed_ms += ms
        self.take(on.Tick())

    @precondition(lambda self: self.session.phase not in AUTHENTICATED)
    @rule(verdict=st.sampled_from([on.Revoked(), on.Renewal("come again")]))
    def somebody_unknown_is_judged(self, verdict: on.Event) -> None:
        before = self.session.phase
        self.take(verdict)
        assert self.session.phase is before

    @rule(growth=st.integers(0, 4))
    def the_log_grows(self, growth: int) -> None:
        self.frontier += growth
        self.take(on.FrontierMoved(self.frontier))

    @rule()
    def the_provider_agrees(self) -> None:
        self.answer(do.Authenticate, on.Authenticated("u"))

    @rule()
    def the_log_is_read(self) -> None:
        delta = list(range(1, self.frontier + 1))
        self.answer(do.ReadLog, on.LogRead(self.frontier, {"node-a": 1}, delta))

    def answer(self, question: type[do.Action], answer: on.Event) -> None:
        if isinstance(self.asked, question):
            self.asked = None
            self.take(answer)
        else:
            self.misuse(answer)

    @rule(hidden=st.sets(numbers), cut=st.integers(0, 9))
    def a_page_is_read(self, hidden: set[int], cut: int) -> None:
        if self.reading is None:
            self.misuse(on.PageRead(Page.of(0, 0, [])))
            return
        read, self.reading = self.reading.read, None
        if isinstance(read, LogSpan):
            assert read.after <= read.upto <= self.frontier
            upto = min(read.upto, read.after + 1 + cut)
            sequences, span = list(range(read.after + 1, upto + 1)), (read.after, upto)
        else:
            sequences, span = list(read.sequences), (0, 0)
        entries = [entry(n, f"node-{'abc'[n % 3]}", n % 3) for n in sequences if n not in hidden]
        self.take(on.PageRead(Page.of(*span, entries)))

    @rule(refused=st.booleans())
    def the_writer_commits(self, refused: bool) -> None:
        if not self.handed_over:
            self.misuse(on.Committed([]))
            return
        message_id, names = self.handed_over.popleft()
        if self.session.phase is not Phase.CLOSED:
            self.durable.append(message_id)
        self.committed = set() if refused else names
        self.take(on.Committed([Rejection(name, "todos", "r", "C", "t") for name in names if refused]))
        assert not self.durable

    # What ends a session; rarely, or no walk would get far

    @rule(likely=st.integers(0, 7), data=st.data())
    def something_bad_happens(self, likely: int, data: st.DataObject) -> None:
        if likely:
            return
        fatal: list[on.AnyEvent] = [on.Draining()]
        if self.hears():
            fatal += [on.Malformed(ProtocolError("no JSON"))]
            fatal += [say.OperationBatch("up", [operation(wall_time=NOON_MS * 2)], True, 0, 900)]
        if isinstance(self.asked, do.Authenticate):
            fatal += [on.AuthenticationRefused(), on.AuthenticationUnavailable()]
        elif self.asked or self.reading or self.handed_over:
            fatal += [on.StoreFailed()]
        if self.session.phase in AUTHENTICATED:
            fatal += [on.Revoked(), on.Renewal("come again")]
        event = data.draw(st.sampled_from(fatal))
        self.take(event)
        drains = isinstance(event, on.Draining) and self.handed_over
        assert drains or self.session.phase is Phase.CLOSED

    def misuse(self, event: on.AnyEvent) -> None:
        """What the table excludes is a bug that shows and changes nothing; to a closed session it is just late."""
        phase = self.session.phase
        if phase is Phase.CLOSED:
            self.take(event)
            return
        with pytest.raises(SessionMisuse):
            self.session.step(event, self.now)
        assert self.session.phase is phase

    # What holds at all times

    @invariant()
    def it_closes_once(self) -> None:
        assert self.closes == (self.session.phase is Phase.CLOSED)

    @invariant()
    def it_says_when_it_wants_to_be_woken(self) -> None:
        due_ms: Any = self.session.due_ms
        assert due_ms is None or isinstance(due_ms, int)
        assert self.session.phase is not Phase.CLOSED or due_ms is None

    @invariant()
    def nobody_streams_without_an_accepted_handshake(self) -> None:
        assert self.accepted or not self.is_open


TestAnySession = AnySession.TestCase
TestAnySession.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
