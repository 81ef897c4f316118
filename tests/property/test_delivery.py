"""Whatever is lost, late or refused on the way: a client ends with exactly what it may see, each operation once."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Struct

from kora_daemon.model.delivery import DeliveryBatch, DeliveryEntry, Page
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.delivery import LogSpan
from kora_daemon.protocol.delta import resume_after
from kora_daemon.protocol.moves import Phase
from kora_daemon.protocol.rules import SessionRules
from kora_daemon.protocol.session import Session
from tests.support.client_model import VectorClient, WatermarkClient
from tests.support.operations import entry

BATCH_SIZE = 3
RULES = SessionRules("server", batch_size=BATCH_SIZE)
OWN = "node-own"
PATIENCE = 2_000
"""Steps in which everything has to be settled once nothing is lost any more."""


class Logged(Struct):
    """One operation of the log, and whether the client may see it; `order` is its place in causal order."""

    entry: DeliveryEntry
    is_visible: bool
    number: int = 0
    order: int = 0


growths = st.lists(
    st.tuples(
        st.sampled_from([OWN, "node-b", "node-c"]),
        st.sampled_from([True, True, False]),
        st.booleans(),
    ),
    max_size=8,
)


class OneClient(RuleBasedStateMachine):
    """A log, one session on it, and the two directions of its connection."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = (f"s-{n}" for n in itertools.count())
        self.session_numbers = itertools.count(1)
        self.elapsed_ms = 0
        self.log: list[Logged] = []
        self.pages: dict[Any, Page] = {}
        self.down: deque[DeliveryBatch] = deque()
        self.up: deque[say.Acknowledgment] = deque()
        self.sure = 0
        """The first so many of `up` went right behind the handshake, over a connection that stands."""
        self.reading: do.ReadPage | None = None
        self.response: say.HandshakeResponse | None = None

    @property
    def frontier(self) -> int:
        return len(self.log)

    def take(self, event: on.AnyEvent) -> None:
        for action in self.session.step(event, on.Moment(0, self.elapsed_ms)):
            if isinstance(action, do.Deliver):
                self.check(action.batch)
                self.down.append(action.batch)
            elif isinstance(action, do.ReadPage):
                assert self.reading is None
                self.reading = action
            elif isinstance(action, do.Send) and isinstance(action.message, say.HandshakeResponse):
                self.response = action.message
        assert self.session.phase is not Phase.CLOSED

    def check(self, batch: DeliveryBatch) -> None:
        assert len(batch.entries) <= BATCH_SIZE

    def connect(self, handshake: say.Handshake) -> None:
        self.session = Session(next(self.session_numbers), RULES, on.Moment(0, self.elapsed_ms), self.ids.__next__)
        self.reading = None
        self.take(handshake)
        self.take(on.Authenticated(""))
        watermark = handshake.last_delivery_sequence or 0
        start = watermark if watermark <= self.frontier else 0
        self.take(on.LogRead(self.frontier, {}, self.delta(handshake), start=start))

    def delta(self, _handshake: say.Handshake) -> list[int]:
        return []

    @rule(growth=growths)
    def the_log_grows(self, growth: list[tuple[str, bool, bool]]) -> None:
        for node_id, is_visible, from_here in growth:
            sequence = self.frontier + 1
            origin = self.session.number if node_id == OWN and from_here else 0
            self.log.append(Logged(entry(sequence, node_id, origin), is_visible))
        self.pages.clear()

    @rule()
    def the_session_hears_of_it(self) -> None:
        self.take(on.FrontierMoved(self.frontier))

    @rule()
    def the_session_is_told_that_nothing_new_is_visible(self) -> None:
        after = self.session.live_at
        if after is not None and not any(one.is_visible for one in self.log[after:]):
            self.session.pass_over(self.frontier)

    @precondition(lambda self: self.reading)
    @rule(size=st.integers(1, 12))
    def a_page_is_read(self, size: int) -> None:
        assert self.reading is not None
        read, self.reading = self.reading.read, None
        if isinstance(read, LogSpan):
            page = self.span(read, size)
        else:
            page = Page.of(0, 0, [self.log[n - 1].entry for n in read.sequences if self.log[n - 1].is_visible])
        self.take(on.PageRead(page))

    def span(self, read: LogSpan, size: int) -> Page:
        """The page of a part of the log, ending early behind `size` operations; one and the same for all who ask."""
        upto = min(read.upto, read.after + size)
        key = (read.after, upto)
        if key not in self.pages:
            visible = [one.entry for one in self.log[read.after : upto] if one.is_visible]
            self.pages[key] = Page.of(read.after, upto, visible)
        return self.pages[key]

    @precondition(lambda self: self.up)
    @rule()
    def an_acknowledgment_arrives(self) -> None:
        self.sure = max(0, self.sure - 1)
        self.take(self.up.popleft())

    @precondition(lambda self: self.up and not self.sure)
    @rule()
    def an_acknowledgment_is_lost(self) -> None:
        self.up.popleft()

    @rule(ms=st.sampled_from([100, 2_000, 60_000]))
    def time_passes(self, ms: int) -> None:
        self.elapsed_ms += ms
        self.take(on.Tick())

    def receive(self, *, fails: bool) -> None:
        raise NotImplementedError

    @precondition(lambda self: self.down)
    @rule(fails=st.sampled_from([False, False, True]))
    def the_client_takes_a_batch(self, fails: bool) -> None:
        self.receive(fails=fails)

    def it_comes_to_rest(self) -> None:
        raise NotImplementedError

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.it_comes_to_rest()

    def settle(self) -> None:
        """From now on nothing is lost, refused or late."""
        for _ in range(PATIENCE):
            if self.reading:
                self.a_page_is_read(7)
            elif self.down:
                self.receive(fails=False)
            elif self.up:
                self.an_acknowledgment_arrives()
            elif self.session.due_ms is not None:
                self.elapsed_ms = max(self.elapsed_ms, self.session.due_ms)
                self.take(on.Tick())
            else:
                self.the_session_hears_of_it()
                if not self.reading:
                    return
        raise AssertionError("the stream does not come to rest")


class OneWatermarkClient(OneClient):
    """A client of the delivery stream."""

    def __init__(self) -> None:
        super().__init__()
        self.client = WatermarkClient()
        self.own_upto = 0

    @initialize(growth=growths)
    def begin(self, growth: list[tuple[str, bool, bool]]) -> None:
        self.session = Session(0, RULES, on.Moment(0, 0), self.ids.__next__)
        self.the_log_grows(growth)
        self.it_connects(0, 0)

    @rule(leftovers=st.integers(0, 9), early=st.integers(0, 9))
    def it_connects(self, leftovers: int, early: int) -> None:
        """Most frames of the last connection are lost; the first few are applied while the next one is opened.

        Some of these before its handshake is answered: what is final among them does not count for it.
        """
        start = self.client.watermark
        late = list(self.down)[:leftovers]
        self.down.clear()
        self.up.clear()
        for batch in late[:early]:
            self.down.append(batch)
            self.receive(fails=False)
        self.sure = len(self.up)
        self.own_upto = self.frontier if start == 0 or start > self.frontier else 0
        self.connect(say.Handshake("h", OWN, {}, 1, last_delivery_sequence=start))
        self.down.extendleft(reversed(late[early:]))
        assert self.response is not None
        announced = self.response.server_max_delivery_sequence
        assert isinstance(announced, int)
        self.client.connected(announced)

    def check(self, batch: DeliveryBatch) -> None:
        super().check(batch)
        assert all(one.sequence <= self.own_upto for one in batch.entries if one.node_id == OWN)

    @precondition(lambda self: self.client.watermark > 0)
    @rule(data=st.data())
    def the_log_is_rolled_back(self, data: st.DataObject) -> None:
        del self.log[data.draw(st.integers(0, self.client.watermark - 1)) :]
        self.pages.clear()
        self.it_connects(0, 0)

    def receive(self, *, fails: bool) -> None:
        acknowledgment = self.client.receive(self.down.popleft(), fails=fails)
        if acknowledgment is not None:
            self.up.append(acknowledgment)

    def expected(self, upto: int) -> list[int]:
        others = (one.entry for one in self.log[:upto] if one.is_visible and one.entry.node_id != OWN)
        return [one.sequence for one in others]

    def of_others(self) -> list[int]:
        return [n for n in self.client.taken if self.log[n - 1].entry.node_id != OWN]

    @invariant()
    def it_holds_exactly_what_it_may_see_below_its_watermark(self) -> None:
        assert self.of_others() == self.expected(self.client.watermark)
        assert self.client.taken == sorted(set(self.client.taken))

    @rule()
    def it_comes_to_rest(self) -> None:
        self.settle()
        assert self.of_others() == self.expected(self.frontier)
        assert self.client.is_synced


class OneVectorClient(OneClient):
    """A client without a watermark."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, tuple[str, int]] = {}
        self.client = VectorClient(self.numbers)
        self.written: dict[str, int] = {}

    @initialize(growth=growths)
    def begin(self, growth: list[tuple[str, bool, bool]]) -> None:
        self.session = Session(0, RULES, on.Moment(0, 0), self.ids.__next__)
        self.the_log_grows(growth)
        self.it_connects()

    @rule(growth=growths)
    def the_log_grows(self, growth: list[tuple[str, bool, bool]]) -> None:
        super().the_log_grows(growth)
        for one in self.log[self.frontier - len(growth) :]:
            node_id = one.entry.node_id
            one.number = self.written[node_id] = self.written.get(node_id, 0) + 1
            # node-c was offline: its operations arrive late and belong in front of the others.
            one.order = one.number if node_id == "node-c" else 1_000 + one.entry.sequence
            self.numbers[one.entry.operation_id] = (node_id, one.number)
            if node_id == OWN:
                self.client.wrote(OWN, one.number)

    def delta(self, handshake: say.Handshake) -> list[int]:
        missing = [one for one in self.log if one.number > handshake.version_vector.get(one.entry.node_id, 0)]
        missing.sort(key=lambda one: one.order)
        first = resume_after([one.entry.operation_id for one in missing], handshake.delta_cursor)
        return [one.entry.sequence for one in missing[first:]]

    @rule()
    def it_connects(self) -> None:
        self.down.clear()
        self.up.clear()
        self.sure = 0
        self.connect(say.Handshake("h", OWN, dict(self.client.vector), 1, delta_cursor=self.client.cursor))
        self.client.connected()

    def receive(self, *, fails: bool) -> None:
        del fails  # such a client acknowledges whatever came
        self.up.append(self.client.receive(self.down.popleft()))

    @rule()
    def it_comes_to_rest(self) -> None:
        self.settle()
        visible = {one.entry.operation_id for one in self.log if one.is_visible and one.entry.node_id != OWN}
        assert set(self.client.taken) == visible
        assert self.client.is_synced


TestWatermarkClients = OneWatermarkClient.TestCase
TestWatermarkClients.settings = settings(max_examples=300, stateful_step_count=20, deadline=None)

TestVectorClients = OneVectorClient.TestCase
TestVectorClients.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
