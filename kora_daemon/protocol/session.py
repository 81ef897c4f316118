"""One session, sans-io: `step(event, now) -> actions`. The legal moves are a table of their own, see `moves`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, UnsetType

from kora_daemon.errors import ProtocolError, SessionMisuse
from kora_daemon.model.node import NodeNews
from kora_daemon.model.scope import ScopeMap, accepted_scope, effective_scopes
from kora_daemon.model.view import Subsets, View
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.arrears import Arrears
from kora_daemon.protocol.delivery import LogSpan, Progress, WatermarkStream
from kora_daemon.protocol.delta import VectorStream
from kora_daemon.protocol.handshake import Greeting, read_greeting
from kora_daemon.protocol.moves import ANSWERING, LEGAL, Phase
from kora_daemon.protocol.resume import announced, misses_own, stream_news
from kora_daemon.protocol.rules import SessionRules
from kora_daemon.protocol.uploads import Uploads


class Session:
    """The state of one peer. `number` tells sessions of the process apart, from 1."""

    def __init__(self, number: int, rules: SessionRules, now: on.Moment, next_id: Callable[[], str]) -> None:
        self.number = number
        self.rules = rules
        self.phase = Phase.CONNECTED
        self.node_id = ""
        self.user_id = ""
        self.scopes: ScopeMap | None = None
        """The effective ones."""
        self.view = View()
        self.uploads = Uploads(rules.limits, now.elapsed_ms, next_id)
        self._next_id = next_id
        self._handshake_due_ms = now.elapsed_ms + rules.handshake_timeout_ms
        self._client_schema_version: float = 0
        self._greeting: Greeting | None = None
        self._stream: WatermarkStream | VectorStream | None = None
        self._frontier = 0
        self._news: NodeNews | None = None
        """To be remembered once the client has taken something of its stream."""
        self._arrears = Arrears()
        self.hears_in_order = True
        """Whether messages arrive in the order in which they were sent."""
        self._reading = self._reading_stale = False
        self._draining = False
        self.starts_over = False
        """It had nothing of the log when it came, or nothing that counts."""

    @property
    def hears(self) -> bool:
        """Whether the next message may be handed in: not while an answer of ours is awaited."""
        return self.phase not in ANSWERING and not self._draining and not self.uploads.full

    @property
    def due_ms(self) -> int | None:
        """When, on the elapsed clock, the next `Tick` matters; None = not before another event."""
        if self.phase is Phase.CONNECTED:
            return self._handshake_due_ms
        if self._stream is None or self.phase is Phase.CLOSED:
            return None
        return self._arrears.next_due(self._stream.resend_due_ms)

    @property
    def progress(self) -> Progress | None:
        """How far the client is in the log, None before its handshake is answered."""
        return None if self._stream is None else self._stream.progress

    @property
    def subsets(self) -> Subsets:
        """The live queries that it told of in its handshake."""
        return () if self._greeting is None else self._greeting.subsets

    def step(self, event: on.AnyEvent, now: on.Moment) -> list[do.Action]:
        """Take one event, at `now`; return what is to be done, in order.

        Total: whatever a peer says has an answer. Raises SessionMisuse for an event of ours that the table excludes.
        """
        legal = _HANDLERS[self.phase]
        kind = type(event)
        # The codec's classes derive from the messages' own.
        handler = legal.get(kind) or legal.get(kind.__mro__[1])
        if handler is None:
            return self._out_of_turn(event)
        try:
            return handler(self, event, now)
        except ProtocolError as error:
            return self._fail(error)

    def refuse(self) -> list[do.Action]:
        """The server is full: said on connect, before any handshake (wire.md section 4)."""
        full = ProtocolError("Maximum connections reached", code="MAX_CONNECTIONS", retriable=True)
        return self._fail(full, do.TOO_MANY_CONNECTIONS, "max connections reached")

    def _out_of_turn(self, event: on.AnyEvent) -> list[do.Action]:
        if self.phase is Phase.CLOSED:
            return []  # late answers, and whatever a peer says behind a refusal
        if self.phase is Phase.CONNECTED and isinstance(event, say.Message | on.Unknown):
            return self._fail(ProtocolError("The first message must be a handshake", code="HANDSHAKE_REQUIRED"))
        raise SessionMisuse(f"{type(event).__name__} is not legal while {self.phase.name}")

    def _fail(self, error: ProtocolError, code: int = do.PROTOCOL_VIOLATION, reason: str = "") -> list[do.Action]:
        # An error takes a client offline, its socket open: a late close would hit the next one (wire.md section 7).
        message = say.ErrorMessage(self._next_id(), error.code, str(error), error.retriable)
        return [do.Send(message), *self._close(code, reason or error.code)]

    def _close(self, code: int, reason: str) -> list[do.Action]:
        self.phase = Phase.CLOSED
        return [do.Close(code, reason)]

    def _ignore(self, _event: on.AnyEvent, _now: on.Moment) -> list[do.Action]:
        return []

    def _malformed(self, event: on.Malformed, _now: on.Moment) -> list[do.Action]:
        return self._fail(event.error)

    def _drain(self, _event: on.Draining, _now: on.Moment) -> list[do.Action]:
        self._draining = True
        return self._close(do.GOING_AWAY, "server is shutting down") if self.uploads.idle else []

    # Handshake (wire.md section 4)

    def _give_up_on_handshake(self, _event: on.Tick, now: on.Moment) -> list[do.Action]:
        if now.elapsed_ms < self._handshake_due_ms:
            return []
        return self._close(do.HANDSHAKE_TIMEOUT, "no handshake in time")

    def _handshake(self, message: say.Handshake, _now: on.Moment) -> list[do.Action]:
        greeting = read_greeting(message)
        self._greeting = greeting
        self.node_id = greeting.node_id
        self._client_schema_version = message.schema_version
        self.uploads.explains_rejections = greeting.watermark is not None
        self.phase = Phase.AUTHENTICATING
        # What is no text is no token, and may be large: it is not kept until that was said.
        token = message.auth_token if isinstance(message.auth_token, str | None) else False
        return [do.Authenticate(token, greeting.node_id)]

    def _repeated_handshake(self, _message: say.Handshake, _now: on.Moment) -> list[do.Action]:
        text = "This connection had its handshake already"
        return [do.Send(say.ErrorMessage(self._next_id(), "DUPLICATE_HANDSHAKE", text, False))]

    def _authentication_refused(
        self, _event: on.AuthenticationRefused | on.Revoked, _now: on.Moment
    ) -> list[do.Action]:
        error = ProtocolError("Authentication failed", code="AUTH_FAILED")
        return self._fail(error, do.AUTHENTICATION_FAILED, "authentication failed")

    def _renew(self, event: on.Renewal, _now: on.Moment) -> list[do.Action]:
        # No error message: it would sign people out, or take them offline (auth.md section 5).
        return self._close(do.NORMAL, event.reason)

    def _authentication_unavailable(self, _event: on.AuthenticationUnavailable, _now: on.Moment) -> list[do.Action]:
        error = ProtocolError("Authentication is not available now", code="AUTH_UNAVAILABLE", retriable=True)
        return self._fail(error, do.INTERNAL_ERROR)

    def _authenticated(self, event: on.Authenticated, now: on.Moment) -> list[do.Action]:
        self.user_id = event.user_id
        low, high = self.rules.supported_schema_versions
        if not low <= self._client_schema_version <= high:
            return self._refuse_schema(now)
        greeting = self._greeted
        self.phase = Phase.AUTHENTICATED
        self.scopes = effective_scopes(event.scopes, greeting.scope)
        self.view = View(self.scopes, greeting.subsets, by_record=self.rules.accepted_scope != "full")
        known = {greeting.node_id: 0, **greeting.version_vector}
        return [
            do.ReadLog(
                greeting.node_id,
                known,
                greeting.watermark,
                greeting.cursor,
                self.view,
                as_asked=View(self.scopes).key == View(greeting.scope).key,
                confined=event.scopes is not None,
            )
        ]

    @property
    def _greeted(self) -> Greeting:
        if self._greeting is None:
            raise SessionMisuse("No handshake yet")
        return self._greeting

    def _refuse_schema(self, now: on.Moment) -> list[do.Action]:
        low, high = self.rules.supported_schema_versions
        response = say.HandshakeResponse(
            self._next_id(),
            self.rules.server_node_id,
            version_vector={},
            schema_version=self.rules.schema_version,
            accepted=False,
            reject_reason=f"SCHEMA_MISMATCH: version {self._client_schema_version:g} is not from {low} to {high}",
            supported_schema_min=low,
            supported_schema_max=high,
            server_time=now.wall_ms,
        )
        return [do.Send(response), *self._close(do.NORMAL, "schema version not supported")]

    def _log_read(self, event: on.LogRead, now: on.Moment) -> list[do.Action]:
        greeting = self._greeted
        self._frontier = event.frontier
        self._arrears = Arrears(self.node_id, event.version_vector.get(self.node_id, 0), event.has_gaps)
        if not self.hears_in_order:
            self._arrears.wait(now.elapsed_ms)
        if greeting.watermark is not None:
            self._news = stream_news(self.node_id, self.view, greeting.watermark, event)
        response = say.HandshakeResponse(
            self._next_id(),
            self.rules.server_node_id,
            version_vector=dict(event.version_vector),
            schema_version=self.rules.schema_version,
            accepted=True,
            selected_wire_format=greeting.wire_format,
            accepted_scope=self._told_scope(greeting),
            server_time=now.wall_ms,
            server_max_delivery_sequence=(
                UNSET if greeting.watermark is None else announced(greeting.watermark, event.start, event.frontier)
            ),
            blob_storage_enabled=self.rules.keeps_blobs or UNSET,
        )
        self._stream = self._open_stream(greeting, event)
        self.starts_over = not (greeting.version_vector if greeting.watermark is None else event.start)
        self._greeting = greeting.without_vector()
        self.phase = Phase.SYNCING
        return [do.Send(response), do.Joined(), *self._read_on()]

    def _told_scope(self, greeting: Greeting) -> dict[str, dict[str, Any]] | UnsetType:
        if self.scopes is None or (self.rules.accepted_scope == "none" and greeting.scope is None):
            return UNSET
        if self.rules.accepted_scope == "full":
            return accepted_scope(self.scopes)
        return {collection: {} for collection in self.scopes}

    def _open_stream(self, greeting: Greeting, event: on.LogRead) -> WatermarkStream | VectorStream:
        batch_size = self.rules.batch_size
        if greeting.watermark is None:
            return VectorStream(self.number, self.node_id, event.frontier, event.delta, batch_size)
        lacks_own = event.start == 0 or misses_own(self.node_id, greeting.version_vector, event)
        anew, span = event.start < greeting.watermark, LogSpan(event.start, event.frontier)
        return WatermarkStream(self.number, self.node_id, span, batch_size, lacks_own=lacks_own, begins_anew=anew)

    # Uploads (wire.md section 7)

    def _upload(self, message: say.OperationBatch, now: on.Moment) -> list[do.Action]:
        accepted = self.uploads.receive(message, now)
        self._arrears.took(message, now.elapsed_ms)
        return [do.Commit(accepted, message.size_bytes)]

    def _committed(self, event: on.Committed, now: on.Moment) -> list[do.Action]:
        if self.uploads.idle:
            raise SessionMisuse("Committed, but nothing was handed to the writer")
        told = self.uploads.committed(event.rejections)
        self._arrears.answered(told, now.elapsed_ms, is_all=self.uploads.idle)
        actions: list[do.Action] = [*map(do.Send, told), *self._settle(now.elapsed_ms)]
        if self._draining and self.uploads.idle:
            actions += self._close(do.GOING_AWAY, "server is shutting down")
        elif self._arrears.due_ms is not None and self._arrears.is_in and self.uploads.idle:
            self._arrears.stop_waiting()
            actions += self._read_on()
        return actions

    def _settle(self, heard_ms: int) -> list[do.Action]:
        return [do.Remember(news) for news in self._arrears.settle(self.view, heard_ms)]

    def _store_failed(self, _event: on.StoreFailed, _now: on.Moment) -> list[do.Action]:
        return self._close(do.INTERNAL_ERROR, "store unavailable")

    # The stream to the client (wire.md sections 5 and 6)

    def _frontier_moved(self, event: on.FrontierMoved, _now: on.Moment) -> list[do.Action]:
        self._frontier = max(self._frontier, event.frontier)
        return self._read_on()

    @property
    def live_at(self) -> int | None:
        """How far the log was looked through, None while something else is to be done first."""
        if self.phase is not Phase.STREAMING or self._reading or self._stream is None:
            return None
        return self._stream.live_at

    def lag(self, frontier: int) -> int:
        """How many delivery sequences there are up to `frontier` that the client has not confirmed or been spared."""
        return 0 if self._stream is None else self._stream.lag(frontier)

    def pass_over(self, frontier: int) -> None:
        """The log reaches `frontier`, and nothing behind `live_at` is visible.

        The short way for what is the usual case where there are many scopes: reading an empty page comes to the same.
        """
        if self._stream is not None:
            self._frontier = frontier
            self._stream.pass_over(frontier)

    def _read_on(self) -> list[do.Action]:
        if self._stream is None or self._reading or self._arrears.due_ms is not None:
            return []
        read = self._stream.next_read(self._frontier)
        self._reading = read is not None
        return [do.ReadPage(read)] if read is not None else []

    def _page_read(self, event: on.PageRead, now: on.Moment) -> list[do.Action]:
        if not self._reading:
            raise SessionMisuse("PageRead, but no page was asked for")
        self._reading = False
        if self._reading_stale or self._stream is None:
            self._reading_stale = False
            return self._read_on()
        actions: list[do.Action] = [do.Deliver(b) for b in self._stream.plan(event.page, now.elapsed_ms, self._next_id)]
        if not self._stream.catching_up:
            self.phase = Phase.STREAMING
        return actions + self._read_on()

    def _acknowledged(self, message: say.Acknowledgment, now: on.Moment) -> list[do.Action]:
        if self._stream is None:
            return []
        if self._stream.acknowledge(message, now.elapsed_ms):
            self._reading_stale = self._reading
        actions: list[do.Action] = []
        if self._news is not None and self._stream.was_taken:
            actions.append(do.Remember(self._news))
            self._news = None
        return actions + self._read_on()

    def _time_passed(self, event: on.Tick, now: on.Moment) -> list[do.Action]:
        actions = self._settle(now.elapsed_ms - event.silent_ms)
        if self._arrears.due_ms is not None:
            if self._arrears.due_ms > now.elapsed_ms or not self.uploads.idle:
                return actions
            self._arrears.stop_waiting()
        elif self._stream is None or not self._stream.rewind_if_stalled(now.elapsed_ms):
            return actions
        self._reading_stale = self._reading
        return actions + self._read_on()

    # Side channels (wire.md section 9)

    def _share(self, message: say.Message, _now: on.Moment) -> list[do.Action]:
        return [do.Share(message)]


_HANDLERS: dict[Phase, dict[type[Any], Callable[[Session, Any, on.Moment], list[do.Action]]]] = {
    phase: {kind: getattr(Session, name) for kind, name in moves.items()} for phase, moves in LEGAL.items()
}
