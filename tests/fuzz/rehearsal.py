"""The core for one peer, without sockets, clocks and threads: session, codecs, pipeline, store, views, presence."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from itertools import count

import msgspec

from kora_daemon.apply.authority import Authority
from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.model.operation import Operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import ScopeMap
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.moves import Phase
from kora_daemon.protocol.rules import AcceptedScope, SessionRules
from kora_daemon.protocol.session import Session
from kora_daemon.server.awareness import AwarenessRelay
from kora_daemon.server.readers import Readers
from kora_daemon.store.memory import MemoryStore
from kora_daemon.wire.formats import BINARY, TEXT, SharedMessage
from kora_daemon.wire.frame import Frame
from tests.fuzz.target import Disagreement

NOON_MS = 1_796_000_000_000
"""Later than all that was recorded."""
MOST_EVENTS = 20_000
"""Of one session: more would be a loop."""
_OTHERS_SCOPES: ScopeMap = {"todos": {"title": "x"}}


class Rehearsal:
    """A daemon in the small. `grant` is what the provider will say; promises are checked on the way."""

    def __init__(self, schema: Schema, grant: ScopeMap | None, accepted_scope: AcceptedScope = "full") -> None:
        ids = count(1)
        self.elapsed_ms = 0
        self.grant = grant
        self.is_quiet = False
        """The peer acknowledges nothing of its own accord."""
        self.fails = False
        """The store does not take the next batch."""
        self._store = MemoryStore(node_id="server")
        self._store.open()
        self._store.upgrade(schema)
        self._pipeline = Pipeline("server", ApplyRules(schema, moves_history=accepted_scope != "full"))
        scoped = {name: frozenset(one.scoped) for name, one in schema.collections.items()}
        self._readers = Readers(self._store, scoped=scoped)
        self._session = Session(
            1, SessionRules("server", accepted_scope=accepted_scope, batch_size=3), self._now, lambda: f"s-{next(ids)}"
        )
        self._presence = AwarenessRelay()
        self._presence.add_client(2, 7, self._tell_other)
        self._events: deque[on.AnyEvent] = deque()
        self._uploaded: deque[str] = deque()

    @property
    def _now(self) -> on.Moment:
        return on.Moment(NOON_MS + self.elapsed_ms, self.elapsed_ms)

    @property
    def is_over(self) -> bool:
        """Whether the session has ended."""
        return self._session.phase is Phase.CLOSED

    def hear(self, frame: Frame) -> None:
        """The peer says this."""
        if self._session.hears:
            self.happens((BINARY if frame.binary else TEXT).decode(frame.payload, 1_000))

    def happens(self, event: on.AnyEvent) -> None:
        """An event, and all that comes of it."""
        self._events.append(event)
        for _ in range(MOST_EVENTS):
            if not self._events:
                return
            event = self._events.popleft()
            if isinstance(event, say.OperationBatch) and not self.is_over:
                self._uploaded.append(event.message_id)
            for action in self._session.step(event, self._now):
                _DO[type(action)](self, action)
        raise Disagreement("a session that never comes to rest")

    def passes(self, ms: int) -> None:
        """Time goes by."""
        self.elapsed_ms += ms
        self.happens(on.Tick())

    def others_write(self, operation: Operation) -> None:
        """Another device's operation is in the log."""
        self._apply([operation], None)
        self.happens(on.FrontierMoved(self._store.frontier()))

    def _apply(self, operations: list[Operation], authority: Authority | None) -> list[Rejection]:
        with self._store.transaction() as tx:
            (outcome,) = self._pipeline.apply_batches(tx, [operations], self._now.wall_ms, [authority])
        return outcome.rejections

    def _send(self, action: do.Send) -> None:
        message = action.message
        for codec in (TEXT, BINARY):
            _readable(codec.encode(message))
        if isinstance(message, say.Acknowledgment) and message.acknowledged_message_id != self._uploaded.popleft():
            raise Disagreement("an acknowledgment out of order")

    def _deliver(self, action: do.Deliver) -> None:
        batch = action.batch
        for codec in (TEXT, BINARY):
            _readable(codec.encode_batch(batch))
        if not self.is_quiet:
            delivered = batch.maximum if batch.base is not None else msgspec.UNSET
            self._events.append(say.Acknowledgment("a", batch.message_id, 1, delivered))

    def _authenticate(self, _action: do.Authenticate) -> None:
        self._events.append(on.Authenticated("user", self.grant))

    def _read_log(self, action: do.ReadLog) -> None:
        self._events.append(self._readers._greet(action))

    def _read_page(self, action: do.ReadPage) -> None:
        self._events.append(on.PageRead(self._readers._page(action.read, self._session.view)))

    def _commit(self, action: do.Commit) -> None:
        if self.fails:
            self._events.append(on.StoreFailed())
            return
        authority = Authority(self._session.node_id, self._session.scopes, "user", None, "warn")
        rejections = self._apply(list(action.operations), authority)
        self._events += [on.Committed(rejections), on.FrontierMoved(self._store.frontier())]

    def _remember(self, action: do.Remember) -> None:
        with self._store.transaction() as tx:
            tx.remember(action.news, self._now.wall_ms)

    def _share(self, action: do.Share) -> None:
        message = action.message
        if isinstance(message, say.AwarenessUpdate):
            if not float(message.client_id).is_integer():
                return
            self._presence.add_client(1, int(message.client_id), self._tell_other)
            self._presence.handle_update(1, message.client_id, message.states)
            self._presence.send_round(self.elapsed_ms / 1000)
        else:
            self._tell_other(SharedMessage(message))

    def _tell_other(self, message: SharedMessage) -> bool:
        for codec in (TEXT, BINARY):
            if not isinstance(message.message, say.BlobPush):
                _readable(message.frame(codec))
        return True

    def _nothing(self, _action: do.Action) -> None:
        pass


_DO: dict[type[do.Action], Callable[[Rehearsal, do.Action], None]] = {
    do.Send: Rehearsal._send,
    do.Deliver: Rehearsal._deliver,
    do.Authenticate: Rehearsal._authenticate,
    do.ReadLog: Rehearsal._read_log,
    do.ReadPage: Rehearsal._read_page,
    do.Commit: Rehearsal._commit,
    do.Remember: Rehearsal._remember,
    do.Share: Rehearsal._share,
    do.Joined: Rehearsal._nothing,
    do.Close: Rehearsal._nothing,
}


def _readable(frame: Frame) -> None:
    """Stock clients can read it: JSON as the standard has it, in whole characters."""
    if not frame.binary:
        json.loads(frame.payload.decode(), parse_int=float, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise Disagreement(f"{name} goes out to clients, which is no JSON")
