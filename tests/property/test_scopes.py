"""For random grants, records and operations no session receives or changes what a plain oracle forbids, and each gets
everything that it allows.

Real servers over transports within the process: on every store, with the fields that scopes go by declared or not,
without a schema, and with scopes that go by records. `tests.support.scope_oracle` knows the rules.

`KORA_SCOPE_EXAMPLES` says how many worlds are made up for each.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.auth.contract import AuthContext
from kora_daemon.model.schema import Kind, Schema
from kora_daemon.protocol.moves import Phase
from kora_daemon.server import readers, tail
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.transport import MemoryPeer, memory_transport
from kora_daemon.store.contract import Store
from tests.support.devices import wall_ms
from tests.support.records import schema_of
from tests.support.scope_oracle import READ_ONLY, Oracle, Scopes, Sent, Subsets, effective, told
from tests.support.stores import RECORD_STORES

EXAMPLES = int(os.environ.get("KORA_SCOPE_EXAMPLES", "12"))
FIELDS: dict[str, Kind] = {"owner": "string", "n": "number", "done": "boolean", "tag": "json", "title": "string"}
SCHEMA = schema_of(1, todos=FIELDS, notes=FIELDS)
DECLARED = SCHEMA.with_scopes(dict.fromkeys(("todos", "notes"), ("owner", "n", "done", "tag")))
COLLECTIONS = ["todos", "todos", "todos", "notes", "unlisted"]
"""The last has no table in any schema."""


class Mode(NamedTuple):
    schema: Schema | None
    by_record: bool = False


MODES = {
    "declared": Mode(DECLARED),
    "undeclared": Mode(SCHEMA),
    "log alone": Mode(None),
    "by record": Mode(DECLARED, by_record=True),
    "by record, undeclared": Mode(SCHEMA, by_record=True),
}
DEVICES = ["one", "two", "three"]

values: dict[str, st.SearchStrategy[Any]] = {
    "owner": st.sampled_from(["u", "v", None]),
    "n": st.sampled_from([0, 1, 1.0, -0.0, None]),
    "done": st.sampled_from([True, False, None]),
    "tag": st.sampled_from([1, True, "1", None, [1], {}]),
    "title": st.sampled_from(["t", None]),
}
wanted_values = {
    "owner": st.sampled_from(["u", "u", "v", None]),
    "n": st.sampled_from([0, 1, None, True, "1"]),
    "done": st.sampled_from([True, False, None, 1]),
    "tag": st.sampled_from([1, True, "1", None]),
    "title": st.sampled_from(["t", None, "t" * 300]),
    "ghost": st.none(),
    "id": st.sampled_from(["a", "b"]),
}
FOCUS = ["owner", "owner", "n", "done", "tag"]
"""What most is about in a world."""


@st.composite
def fields(draw: st.DrawFn, focus: str) -> dict[str, Any]:
    """What an operation says."""
    names = st.sampled_from([focus, focus, focus, *values])
    return {name: draw(values[name]) for name in draw(st.lists(names, max_size=3, unique=True))}


@st.composite
def wheres(draw: st.DrawFn, focus: str, most: int = 2) -> dict[str, Any]:
    names = st.sampled_from([*[focus] * 6, *wanted_values])
    return {name: draw(wanted_values[name]) for name in draw(st.lists(names, max_size=most, unique=True))}


@st.composite
def scope_maps(draw: st.DrawFn, focus: str, *, flags: bool = True) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for name in draw(st.lists(st.sampled_from(["todos", "todos", "notes", "unlisted"]), max_size=3, unique=True)):
        made[name] = draw(wheres(focus))
        if flags and draw(st.integers(0, 9)) == 0:
            made[name][READ_ONLY] = True
    return made


def grants(focus: str) -> st.SearchStrategy[Scopes]:
    return st.one_of(st.none(), scope_maps(focus), scope_maps(focus), scope_maps(focus))


def requests(focus: str) -> st.SearchStrategy[Any]:
    """What a client asks for."""
    return st.one_of(st.none(), st.none(), scope_maps(focus, flags=False), st.just({"todos": None}), st.just({}))


def subset_lists(focus: str) -> st.SearchStrategy[list[tuple[str, dict[str, Any]]]]:
    subset = st.tuples(st.sampled_from(["todos", "notes"]), wheres(focus, 1))
    return st.one_of(st.just([]), st.just([]), st.lists(subset, max_size=2))


class Memory(NamedTuple):
    """What a server remembers of a device: its scope, and the views that have begun since one had to begin anew."""

    scope: str
    begun: frozenset[str] | None = None


class Link:
    """A connection of a device: what it may see and what it was sent, held against the oracle as it comes."""

    def __init__(self, world: World, node_id: str, peer: MemoryPeer, watermark: int, subsets: Subsets) -> None:
        self.world = world
        self.node_id = node_id
        self.peer = peer
        self.watermark = self.claimed = watermark
        self.subsets = subsets
        self.scopes: Scopes = None
        self.start = 0
        self.lacks_own = False
        """It has lost its store, or says that it has not got back all that was its own."""
        self.since = world.oracle.now
        self.frontier = world.store.frontier()
        self.received: list[str] = []
        self.uploaded: set[str] = set()
        self.frames: list[Sent] = []
        """Read, not taken yet."""
        self.chain: int | None = None
        """The watermark that all batches sent so far lead to."""
        self.acknowledged: set[int] = set()
        self.took = False
        self._numbers = itertools.count(1)

    async def say(self, **message: Any) -> str:
        message_id = f"{self.node_id}-{next(self._numbers)}"
        await self.peer.send(json.dumps({"messageId": message_id, **message}))
        return message_id

    async def hear(self) -> Sent:
        with trio.fail_after(10):
            message: Sent = json.loads(await self.peer.receive())
        return message

    async def upload(self, *batches: list[Sent]) -> dict[str, str]:
        """Upload batches at once; what was refused of them. Deliveries on the way are kept for later."""
        sent = [
            await self.say(type="operation-batch", operations=batch, isFinal=True, batchIndex=0) for batch in batches
        ]
        refused: dict[str, str] = {}
        while sent:
            message = await self.hear()
            if message["type"] == "operation-batch":
                self.frames.append(message)
            elif message["type"] == "operation-rejected":
                assert message["retriable"] is False
                refused[message["operationId"]] = message["code"]
            else:
                assert message["type"] == "acknowledgment", message
                assert message["acknowledgedMessageId"] == sent.pop(0)
        return refused

    async def take(self, count: int = 1_000) -> None:
        """Take up to so many batches, as a stock client does."""
        while count and (self.frames or self.unread):
            message = self.frames.pop(0) if self.frames else await self.hear()
            assert message["type"] == "operation-batch", message
            count -= 1
            await self._apply(message)

    @property
    def unread(self) -> int:
        return self.peer._incoming.statistics().current_buffer_used

    async def _apply(self, batch: Sent) -> None:
        base, maximum = batch["baseDeliverySequence"], batch["maxDeliverySequence"]
        # Or where the client has said to be, once that is overdue.
        goes_on = base == self.start if self.chain is None else base == self.chain or base in self.acknowledged
        assert goes_on, "each batch goes on where the last has ended"
        assert base <= maximum
        self.chain = maximum
        if not self.world.moves_history:
            places = self.world.sequences()
            numbers = [base, *(places[operation["id"]] for operation in batch["operations"]), maximum]
            assert numbers == sorted(numbers), "what is in a batch lies between its ends"
            assert numbers[0] < numbers[1] or len(numbers) == 2
        if base < self.watermark:
            await self._acknowledge(batch, 0, self.watermark)
        if base != self.watermark:
            return
        for operation in batch["operations"]:
            self.check(operation)
            self.received.append(operation["id"])
        self.watermark = maximum
        self.acknowledged.add(maximum)
        self.took = True
        last = batch["operations"][-1]["sequenceNumber"] if batch["operations"] else 0
        await self._acknowledge(batch, last, maximum)

    async def _acknowledge(self, batch: Sent, last: int, watermark: int) -> None:
        named = {"acknowledgedMessageId": batch["messageId"], "lastSequenceNumber": last}
        await self.say(type="acknowledgment", deliverySequence=watermark, **named)

    @property
    def view(self) -> str:
        return exactly([told(self.scopes), sorted({exactly(one) for one in self.subsets})])

    def sees(self, operation: Sent, moment: int) -> bool:
        world = self.world
        return world.oracle.may_read(self.scopes, self.subsets, operation, moment, by_record=world.mode.by_record)

    def moments(self, operation: Sent) -> range:
        """The moments since it could be sent, now included."""
        place = self.world.places[operation["id"]]
        return range(max(place + 1, self.since), self.world.oracle.now + 1)

    def check(self, operation: Sent) -> None:
        """It may be sent: it could be seen at some time since then."""
        known = self.world.oracle.log[self.world.places[operation["id"]]]
        assert {**operation, "timestamp": None} == {**known, "timestamp": None}, "operations are sent as they came"
        assert any(self.sees(operation, one) for one in self.moments(operation)), (self.scopes, operation)
        if operation["nodeId"] == self.node_id:
            assert self.lacks_own
            assert operation["id"] not in self.uploaded, "an echo"

    def check_complete(self) -> None:
        """Everything that could be seen all the time has arrived. To be called when all is quiet and taken."""
        world = self.world
        received = set(self.received)
        for entry in world.store.entries_after(self.start, 10_000):
            operation = world.oracle.log[world.places[entry.operation.id]]
            own = operation["nodeId"] == self.node_id and (not self.lacks_own or entry.sequence > self.frontier)
            if operation["id"] in received or operation["id"] in self.uploaded or own:
                continue
            assert not all(self.sees(operation, one) for one in self.moments(operation)), (self.scopes, operation)
            if world.moves_history and self._goes_by_what_is_declared(operation["collection"]):
                # Whoever sees a record now has got all of it.
                assert not self.sees(operation, world.oracle.now), (self.scopes, operation)

    def _goes_by_what_is_declared(self, collection: str) -> bool:
        declared = DECLARED.collections.get(collection)
        wheres = [(self.scopes or {}).get(collection, {}), *(one for name, one in self.subsets if name == collection)]
        return declared is not None and {name for one in wheres for name in one} <= {READ_ONLY, *declared.scoped}


class World:
    """A server, its oracle, and the devices that are connected to it."""

    def __init__(self, store: Store, mode: Mode, draw: Any) -> None:
        self.store = store
        self.mode = mode
        self.moves_history = mode.by_record and mode.schema is DECLARED
        self.draw = draw
        self.focus = draw(st.sampled_from(FOCUS))
        self.oracle = Oracle(None if mode.schema is None else dict.fromkeys(("todos", "notes"), FIELDS))
        self.places: dict[str, int] = {}
        """Operation id -> its place in the oracle's log."""
        self.granted: Scopes = None
        self.links: dict[str, Link] = {}
        self.memory: dict[str, Memory] = {}
        self.clock = wall_ms() - 1_000_000
        self.counts = dict.fromkeys([*DEVICES, "desk"], 0)
        self.written: list[Sent] = []
        rules = ApplyRules(mode.schema, moves_history=self.moves_history)
        options = ServerOptions(
            apply=rules,
            accepted_scope="collections" if mode.by_record else "full",
            batch_size=draw(st.sampled_from([1, 2, 100])),
        )
        self.server = SyncServer(store, self, options)

    async def authenticate(self, token: str) -> AuthContext:
        return AuthContext(token, self.granted)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await self.server.start(nursery)
            self.nursery = nursery
            await self.connect("desk", None, None, [], 0)
            yield
            await self.quiet()
            await self.server.stop()
            nursery.cancel_scope.cancel()

    def sequences(self) -> dict[str, int]:
        """Operation id -> its delivery sequence now."""
        return {entry.operation.id: entry.sequence for entry in self.store.entries_after(0, 10_000)}

    # What happens

    async def connect(self, node_id: str, granted: Scopes, asked: Any, subsets: Subsets, watermark: int) -> None:
        """A device connects, perhaps again; what it is told at once is checked."""
        await self.leave(node_id)
        await self.quiet()
        self.granted = granted
        transport, peer = memory_transport()
        link = Link(self, node_id, peer, watermark, subsets)
        self.nursery.start_soon(self.server.handle_connection, transport)
        known = {one: self.draw(st.integers(0, 5)) for one in self.draw(st.sets(st.sampled_from(DEVICES)))}
        named: Sent = {} if asked is None else {"syncScope": asked}
        if subsets:
            named["syncQueries"] = [{"collection": name, "where": where} for name, where in subsets]
        await link.say(
            type="handshake",
            nodeId=node_id,
            versionVector=known,
            schemaVersion=1,
            lastDeliverySequence=watermark,
            authToken=node_id,
            **named,
        )
        response = await link.hear()
        assert response["accepted"] is True
        link.scopes = effective(granted, asked)
        self._check_response(link, response, asked, known)
        if granted is not None:
            visible = [one for one in self.oracle.log if self._in_scope(link, one)]
            allowed = {node_id, *known, *(one["nodeId"] for one in visible)}
            assert set(response["versionVector"]) <= allowed, "the vector tells of what is not shown"
        self.links[node_id] = link

    def _in_scope(self, link: Link, operation: Sent) -> bool:
        return self.oracle.may_read(link.scopes, [], operation, self.oracle.now, by_record=self.mode.by_record)

    def _check_response(self, link: Link, response: Sent, asked: Any, known: dict[str, int]) -> None:
        accepted = told(link.scopes)
        if self.mode.by_record and accepted is not None:
            accepted = {name: {} for name in accepted}
        assert exactly(response.get("acceptedScope")) == exactly(accepted)
        # Section 7: where the stream begins.
        claimed, memory = link.claimed, self.memory.get(link.node_id)
        now = exactly(told(link.scopes))
        if memory is None:
            trusted = now == exactly(told(effective(None, asked)))
        else:
            trusted = memory.scope == now and (memory.begun is None or link.view in memory.begun)
        link.start = claimed if trusted and claimed <= link.frontier else 0
        announced = response["serverMaxDeliverySequence"]
        if claimed > link.frontier or link.start == claimed:
            assert announced == link.frontier
        else:
            assert announced < claimed
        if claimed > announced:
            link.watermark = 0
        assert link.watermark == link.start
        made = [one["sequenceNumber"] for one in self.oracle.log if one["nodeId"] == link.node_id]
        link.lacks_own = link.start == 0 or (bool(known) and known.get(link.node_id, 0) < max(made, default=0))

    async def leave(self, node_id: str) -> None:
        link = self.links.pop(node_id, None)
        if link is not None:
            # What it has acknowledged is remembered.
            await link.upload([])
            if link.took:
                self._remember(link)
            await link.peer.close()

    def _remember(self, link: Link) -> None:
        before, scope = self.memory.get(link.node_id), exactly(told(link.scopes))
        went_on = link.start == link.claimed
        if before is not None and before.scope == scope:
            if before.begun is None and not went_on:
                self.memory[link.node_id] = Memory(scope, frozenset([link.view]))
            elif before.begun is not None:
                self.memory[link.node_id] = Memory(scope, before.begun | {link.view})
        elif before is None and went_on:
            if link.scopes is not None:
                self.memory[link.node_id] = Memory(scope)
        else:
            self.memory[link.node_id] = Memory(scope, frozenset([link.view]))

    async def upload(self, node_id: str, batches: list[list[Sent]]) -> None:
        """A device uploads; each operation is taken or refused as the oracle says, one after the other."""
        link = self.links[node_id]
        refused = await link.upload(*batches)
        assert set(refused.values()) <= {"SCOPE_VIOLATION"}
        assert refused.keys() <= {operation["id"] for operation in itertools.chain(*batches)}
        for operation in itertools.chain(*batches):
            if operation["id"] in self.oracle.ids:
                continue
            verdict = self.oracle.may_write(link.scopes, operation)
            is_refused = operation["id"] in refused
            assert verdict == "either" or (verdict == "no") == is_refused, (link.scopes, operation, refused)
            if not is_refused:
                self.places[operation["id"]] = self.oracle.now
                self.oracle.take(operation)
                link.uploaded.add(operation["id"])

    async def quiet(self) -> None:
        """Return when the server has nothing more to say to anybody."""
        services = self.server._services
        assert services is not None
        with trio.fail_after(10):
            while not all(self._is_quiet(one) for one in list(self.server._reception.connections)):
                await trio.sleep(0.0005)

    def _is_quiet(self, connection: Any) -> bool:
        services, session = self.server._services, connection.session
        assert services is not None
        reached = self.store.frontier()
        if session.phase is Phase.CLOSED:
            return True
        return (
            services.hub.frontier == reached
            and session._stream is not None
            and session._stream.next_read(reached) is None
            and session.uploads.idle
            and not session._reading
            and connection._backlog.is_idle
        )

    async def settle(self) -> None:
        """All is quiet, everything is taken, and nothing is missing."""
        for _ in range(100):
            await self.quiet()
            if not any(link.frames or link.unread for link in self.links.values()):
                break
            for link in self.links.values():
                await link.take()
        for link in self.links.values():
            link.check_complete()

    # Operations

    def operation(self, node_id: str) -> Sent:
        """One that a device makes up: partial, late, with lies about what was before, or one that was there already."""
        draw = self.draw
        if self.written and draw(st.integers(0, 9)) == 0:
            return draw(st.sampled_from(self.written))  # type: ignore[no-any-return]
        kind = draw(st.sampled_from(["insert", "update", "update", "delete"]))
        data = None if kind == "delete" else draw(fields(self.focus))
        previous = draw(st.one_of(st.none(), st.none(), fields(self.focus)))
        self.clock += 10
        late = draw(st.integers(0, 4)) == 0
        author = draw(st.sampled_from([node_id] * 8 + DEVICES))
        self.counts[author] += 1
        operation = {
            "id": f"{author}/{self.counts[author]}",
            "nodeId": author,
            "type": kind,
            "collection": draw(st.sampled_from(COLLECTIONS)),
            "recordId": draw(st.sampled_from(["a", "a", "b", "c"])),
            "data": data,
            "previousData": previous,
            "timestamp": {
                "wallTime": self.clock - (draw(st.integers(0, 300)) if late else 0),
                "logical": 0,
                "nodeId": author,
            },
            "sequenceNumber": self.counts[author],
            "causalDeps": [],
            "schemaVersion": 1,
        }
        self.written.append(operation)
        return operation

    async def step(self) -> None:
        """Whatever may happen next."""
        draw = self.draw
        what = draw(
            st.sampled_from(["connect", "connect", "write", "write", "write", "move", "move", "take", "settle"])
        )
        if what == "connect":
            node_id = draw(st.sampled_from(DEVICES))
            before = self.links.get(node_id)
            held = 0 if before is None else before.watermark
            reached = self.store.frontier()
            # How far a log reaches whose records move depends on which batches came into one write.
            claims = [held, held, held, 0, reached, reached + 1, draw(st.integers(0, 100)) % (reached + 1)]
            watermark = claims[draw(st.integers(0, len(claims) - 1))]
            await self.connect(
                node_id, draw(grants(self.focus)), draw(requests(self.focus)), draw(subset_lists(self.focus)), watermark
            )
            if draw(st.booleans()):
                await self.settle()
        elif what in ("write", "move"):
            # "move": by somebody who may do everything.
            node_id = "desk" if what == "move" or not self.links else draw(st.sampled_from(sorted(self.links)))
            batches = draw(st.lists(st.integers(0, 3), min_size=1, max_size=2))
            await self.upload(node_id, [[self.operation(node_id) for _ in range(count)] for count in batches])
        elif what == "take":
            await self.links[draw(st.sampled_from(sorted(self.links)))].take(draw(st.integers(1, 3)))
        else:
            await self.settle()


def exactly(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


async def play(kind: str, mode: Mode, draw: Any) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = World(RECORD_STORES[kind](folder), mode, draw)
        await stack.enter_async_context(world.running())
        await world.upload("desk", [[world.operation("desk") for _ in range(draw(st.integers(0, 6)))]])
        for _ in range(draw(st.integers(3, 14))):
            await world.step()
        await world.settle()


def run(kind: str, mode: str, data: st.DataObject) -> None:
    with capture_logs(), pytest.MonkeyPatch.context() as patch:
        # What is longer than a page is looked for in the scope index, where there is one.
        size = data.draw(st.sampled_from([1, 2, 3, 1_000]))
        patch.setattr(readers, "MAX_PAGE_ENTRIES", size)
        patch.setattr(tail, "MAX_PAGE_ENTRIES", size)
        trio.run(play, kind, MODES[mode], data.draw)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "examples"), [("memory", EXAMPLES), ("sqlite", EXAMPLES // 2)])
def test_sessions_get_what_they_may_and_change_what_they_may(kind: str, examples: int, mode: str) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(st.data())
    def search(data: st.DataObject) -> None:
        run(kind, mode, data)

    search()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_so_they_do_on_postgres(mode: str) -> None:
    @settings(max_examples=max(1, EXAMPLES // 6), deadline=None)
    @given(st.data())
    def search(data: st.DataObject) -> None:
        run("postgres", mode, data)

    search()


def test_no_case_was_lost() -> None:
    assert {"memory", "sqlite", "postgres"} <= RECORD_STORES.keys()
    assert set(DECLARED.collections["todos"].scoped) == {"owner", "n", "done", "tag"}
