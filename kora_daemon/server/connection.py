"""One peer: takes its frames to the session, performs what the session wants, and is the barrier a crash stops at.

Frames come in, and are answered on the spot, in the transport's task. What has to wait (a provider, the disk, a
goodbye) is its backlog, worked off in a task of its own. Whoever has news for a session (writer, hub, relays) calls in
and is back at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from kora_daemon.auth.contract import AuthContext, Caller, Standing
from kora_daemon.errors import AuthUnavailable, StoreError
from kora_daemon.model.scope import ScopeMap
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol.moves import AUTHENTICATED, Phase
from kora_daemon.protocol.session import Session
from kora_daemon.server.backlog import Backlog
from kora_daemon.server.clock import new_id, now, wall_s
from kora_daemon.server.deadlines import Deadlines
from kora_daemon.server.hearing import Hearing
from kora_daemon.server.identity import COME_AGAIN, Identity
from kora_daemon.server.ledger import Ledger
from kora_daemon.server.outage import Outage
from kora_daemon.server.pages import page_at_once, page_of
from kora_daemon.server.services import Origin, Services
from kora_daemon.server.submissions import Submissions
from kora_daemon.server.transport import Transport
from kora_daemon.wire.formats import BINARY, TEXT, Codec, SharedMessage
from kora_daemon.wire.frame import Frame


class Connection:
    """Lives as long as its transport. `number` is unique within the process, from 1."""

    def __init__(
        self, number: int, transport: Transport, services: Services, origin: Origin, *, limit_reached: str | None
    ) -> None:
        self.number = number
        self.origin = origin
        self.session = Session(number, services.rules, now(), new_id)
        self.session.hears_in_order = transport.keeps_order
        self._transport = transport
        self._codec: Codec = TEXT
        """The peer is answered in the form that it spoke in last (wire.md section 1)."""
        self._reads_text = False
        """It has written text. A stock client that knows nothing but protobuf goes offline over a text frame."""
        self._services = services
        self._limit_reached = limit_reached
        self._identity = Identity(AuthContext(""), 0, 0)
        self._events: list[on.AnyEvent] = []
        self._stepping = False
        self._backlog: Backlog[do.Action] = Backlog(self._work_off)
        self._hearing = Hearing(self, self.session, services)
        self._deadlines = Deadlines(
            self.session,
            transport,
            services.ping_interval_s,
            lambda: services.identification.rules.close_on_expiry,
            lambda: services.hub.sweep.stir(number),
        )
        self._closing: do.Close | None = None
        self.ledger = Ledger(services.telemetry, self.session, origin.address, getattr(transport, "name", "other"))
        self._submissions = Submissions(self.session, services, self.ledger, lambda: self._identity, self._happened)
        self._is_open = self._is_draining = False

    async def run(self) -> None:
        """Serve the peer until it is gone or the session closes. Nothing that goes wrong in here leaves it."""
        try:
            async with trio.open_nursery() as nursery:
                self._backlog.open(nursery)
                self._services.hub.connect(self)
                try:
                    await self._transport.serve(self, nursery)
                finally:
                    self._leave()
                nursery.cancel_scope.cancel()
        except* Exception as errors:
            self.ledger.crashed(errors.exceptions)
        finally:
            with trio.CancelScope(shield=True):
                await self._transport.close(do.INTERNAL_ERROR, "")
            self.ledger.closed(self._closing or self._transport.own_close)

    def _leave(self) -> None:
        """Nobody has news for this session any more, and it starts no task."""
        self._backlog.close()
        self.session.phase = Phase.CLOSED
        self._services.hub.leave(self)
        self._services.side.forget(self)
        self._services.read_ahead.forget(self.number)

    # What the transport calls

    def opened(self) -> None:
        """Frames may be sent."""
        self._is_open = True
        if self._limit_reached is not None:
            self.ledger.refused(self._limit_reached)
            self._perform_all(self.session.refuse())
        elif self._is_draining:
            self.drain()

    @property
    def is_ready(self) -> bool:
        """Whether the next frame may be handed in now."""
        return self._hearing.is_ready

    async def ready(self) -> None:
        """Return when the next frame may be handed in."""
        await self._hearing.ready()

    def receive(self, frame: Frame) -> None:
        """Take one frame."""
        if self._closing is not None:
            return
        if frame.binary:
            self._codec = BINARY
        else:
            self._codec, self._reads_text = TEXT, True
        self._happened(self._codec.decode(frame.payload, self._services.rules.limits.max_operations_per_batch))

    def overflowed(self) -> None:
        """The peer does not read what it is sent."""
        self._close(do.Close(do.SLOW_CONSUMER, "too much unread"))

    # What hub, writer and relays call

    def frontier_moved(self, frontier: int) -> None:
        """The log reaches `frontier`."""
        session = self.session
        if not session.view.unrestricted and (after := session.live_at) is not None:
            page = self._services.hub.tail.page(session.view, after, frontier)
            if page is not None and page.upto == frontier and not page.entries:
                session.pass_over(frontier)
                return
        self._happened(on.FrontierMoved(frontier))

    @property
    def node_id(self) -> str:
        """The device that it says to be."""
        return self.session.node_id

    @property
    def user_id(self) -> str:
        """Who authentication says it is."""
        return self.session.user_id

    @property
    def granted(self) -> ScopeMap | None:
        """What authentication grants."""
        return self._identity.context.scopes

    @property
    def scopes(self) -> ScopeMap | None:
        """What the session lives with."""
        return self.session.scopes

    def offer(self, message: SharedMessage) -> bool:
        """Send a message that can be done without, unless the peer is behind with reading, or about to go."""
        if self._closing is not None:
            return False
        frame = message.frame(self._codec)
        if not (frame.binary or self._reads_text):
            return False
        if not self._transport.has_room_for(len(frame.payload)):
            self._services.telemetry.measures.dropped_presence += 1
            return False
        self._transport.send(frame)
        return True

    @property
    def buffered_bytes(self) -> int:
        """Bytes for the peer that the network has not taken yet."""
        return self._transport.buffered_bytes

    def drain(self) -> None:
        """The daemon shuts down; whose connection is not open yet hears that as soon as it is."""
        self._is_draining = True
        if self._is_open:
            self._happened(on.Draining())

    @property
    def identity(self) -> Identity | None:
        """Who it is, None before authentication and after the end."""
        return self._identity if self.session.phase in AUTHENTICATED else None

    def judged(self, standing: Standing) -> None:
        """Take what a re-check has found."""
        self._deadlines.changed()
        if self.identity is not None and (change := self.identity.change(standing, wall_s())) is not None:
            self._dismiss(change)

    def _dismiss(self, event: on.Revoked | on.Renewal) -> None:
        self.ledger.dismissed(getattr(event, "reason", "revoked"))
        self._happened(event)

    def kick(self, *, refuse: bool) -> bool:
        """Close for an operator: the device comes again in a moment, or, refused, wants its user to sign in again.

        False when it is closing anyway.
        """
        if self._closing is not None:
            return False
        reason = "refused" if refuse else COME_AGAIN
        if self.identity is not None:
            self._dismiss(on.Revoked() if refuse else on.Renewal(f"closed by an operator, {COME_AGAIN}"))
        else:
            self.ledger.dismissed(reason)
            self._close(do.Close(do.AUTHENTICATION_FAILED if refuse else do.NORMAL, f"closed by an operator, {reason}"))
        return True

    @property
    def quiet_until(self) -> float:
        """Before that nothing can be overdue."""
        return self._deadlines.quiet_until

    def sweep(self) -> None:
        """Look for overdue things."""
        overdue = self._deadlines.look(self.identity)
        if isinstance(overdue, do.Close):
            self._close(overdue)
        elif isinstance(overdue, on.Renewal):
            self._dismiss(overdue)
        elif overdue is not None:
            self._happened(overdue)

    # Steps

    def _happened(self, event: on.AnyEvent) -> None:
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events:
                self._perform_all(self.session.step(self._events.pop(0), now()))
        except Exception as error:
            self.ledger.crashed([error])
            self._events.clear()
            self._close(do.Close(do.INTERNAL_ERROR, "internal error"))
        finally:
            self._stepping = False
            self._deadlines.changed()
        if self.session.hears:
            self._hearing.wake()

    def _perform_all(self, actions: list[do.Action]) -> None:
        for action in actions:
            _PERFORM[type(action)](self, action)

    def _send(self, action: do.Send) -> None:
        self._transport.send(self._codec.encode(action.message))
        self.ledger.told(action.message)

    def _deliver(self, action: do.Deliver) -> None:
        self._transport.send(self._codec.encode_batch(action.batch))
        self.ledger.delivered(action.batch)

    def _commit(self, action: do.Commit) -> None:
        self.ledger.uploaded(len(action.operations), action.size_bytes)
        # With a validator all batches take the longer way: none may overtake another.
        if self._services.validation is None:
            self._submissions.submit(action, action.operations)
        else:
            self._backlog.add(action)

    def _read_page(self, action: do.ReadPage) -> None:
        if (page := page_at_once(self._services.hub, self.session, action.read)) is not None:
            self._happened(on.PageRead(page))
        else:
            self._backlog.add(action)

    def _joined(self, _action: do.Joined) -> None:
        self.ledger.joined()
        self._transport.admit()
        self._services.hub.join(self)
        # The log may have grown between the handshake's read and now.
        self._happened(on.FrontierMoved(self._services.hub.frontier))

    def _close(self, action: do.Close) -> None:
        if self._closing is None:
            self._closing = action
            self._hearing.give_up()
            # A client that was told of an error opens another connection, which a late goodbye would break.
            self._backlog.give_up_for(action)

    # What has to wait

    async def _work_off(self, job: do.Action) -> None:
        if isinstance(job, do.Close):
            await self._transport.close(job.code, job.reason)
            return
        event = await self._work_patiently(job)
        if event is not None and self._closing is None:
            self._happened(event)

    async def _work_patiently(self, job: do.Action) -> on.Event | None:
        try:
            return await Outage(self._services.patience_s).outlast(lambda: self._work(job))
        except StoreError as error:
            self.ledger.read_failed(error)
            return on.StoreFailed()

    async def _work(self, job: do.Action) -> on.Event | None:
        services = self._services
        if isinstance(job, do.Commit) and services.validation is not None:
            verdicts = await services.validation.judge(job.operations, self._identity.context)
            self._submissions.submit(job, verdicts.accepted, verdicts.rejections)
            return None
        if isinstance(job, do.Authenticate):
            return await self._authenticate(job)
        if isinstance(job, do.ReadLog):
            await services.keepsakes.wait_for(job.node_id)
            return await services.readers.greet(job)
        if isinstance(job, do.ReadPage):
            return on.PageRead(await page_of(services, self.session, job.read, self._backlog.nursery))
        raise TypeError(f"{type(job).__name__} is no work for the drive task")

    async def _authenticate(self, job: do.Authenticate) -> on.Event:
        try:
            caller = Caller(job.node_id, self.origin.address)
            context = await self._services.admission.admit(job.token, self.origin.query_token, caller)
        except AuthUnavailable:
            self.ledger.authenticated("unavailable")
            return on.AuthenticationUnavailable()
        self.ledger.authenticated("refused" if context is None else "accepted")
        if context is None:
            return on.AuthenticationRefused()
        self._identity = Identity(context, trio.current_time(), wall_s())
        self._services.lobby.leave(self.number)
        return on.Authenticated(context.user_id, context.scopes)


_PERFORM: dict[type[do.Action], Callable[[Connection, Any], None]] = {
    do.Send: Connection._send,
    do.Deliver: Connection._deliver,
    do.Commit: Connection._commit,
    do.ReadPage: Connection._read_page,
    do.Remember: lambda connection, action: connection._submissions.remember(action.news),
    do.Share: lambda connection, action: connection._services.side.share(connection, action.message),
    do.Joined: Connection._joined,
    do.Authenticate: lambda connection, action: connection._backlog.add(action),
    do.ReadLog: lambda connection, action: connection._backlog.add(action),
    do.Close: Connection._close,
}
