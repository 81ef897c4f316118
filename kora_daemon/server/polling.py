"""HTTP long-polling as a transport (wire.md section 11): a device fetches its messages, and brings each of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import trio
from msgspec import Struct

from kora_daemon.protocol.actions import GOING_AWAY, NORMAL, PROTOCOL_VIOLATION, Close
from kora_daemon.server.changes import Changes
from kora_daemon.server.intake import Intake
from kora_daemon.server.luggage import Luggage
from kora_daemon.server.transport import Receiver, has_room
from kora_daemon.server.websocket import CLOSE_TIMEOUT_S, HANDSHAKE_MESSAGE_BYTES
from kora_daemon.wire.frame import Frame

LAST_WORDS_BYTES = 16 << 10
"""Kept for a device that did not come for them while its session closed; more than that is thrown away."""


SUSPICIOUS = 20
"""So often a poll comes while another one waits: no longer because connections were lost."""

log = structlog.get_logger("kora.polling")


class PollingOptions(Struct, frozen=True):
    """What a device that polls may cost."""

    hold_s: float = 25.0
    """How long a poll waits for a message."""
    idle_s: float = 120.0
    """How long a device may ask for nothing."""
    max_sessions: int = 10_000
    max_message_bytes: int = 33_554_432
    max_buffered_bytes: int = 33_554_432


class SessionOver(Exception):
    """The session was closed, and there is nothing left to fetch."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())


class Waiting(Struct, frozen=True):
    """A message that waits to be fetched; `number` counts from 1 in its session."""

    number: int
    frame: Frame

    @property
    def etag(self) -> str:
        """What the device may know it by."""
        return f'W/"{self.number}"'


class PollingTransport:
    """One device. `gone` is called at the end, once."""

    def __init__(self, options: PollingOptions, address: str, gone: Callable[[], None]) -> None:
        self._options = options
        self._address = address
        self._gone = gone
        self._changes = Changes()
        self._receiver: Receiver | None = None
        self._queue: deque[Waiting] = deque()
        self._numbers = 0
        self._is_fetching = False
        """The answer with the oldest message is being written."""
        self._newest_poll: object = None
        """The one that waits."""
        self._displaced = 0
        self._visits = 0
        self._quiet_since = trio.current_time()
        self._over = trio.Event()
        self.has_vanished = False
        self.intake = Intake(self.check_open, self.fail)
        self.intake.limit_bytes = min(HANDSHAKE_MESSAGE_BYTES, options.max_message_bytes)
        self.luggage: Luggage | None = None
        """Of a device that nobody knows yet: what it has sent."""
        self._carried_bytes = 0
        self.buffered_bytes = 0
        self.closed_with: tuple[int, str] | None = None
        """Close code and reason, as a WebSocket would have them."""
        self.own_close: Close | None = None
        """The same, unless the session has closed it."""
        self.was_told = False
        """The device has heard that the session is over."""
        self.left = trio.Event()
        """Set when there is no connection behind it any more."""
        self.succeeded = trio.Event()
        """Set when the device has begun another session."""

    # What the connection calls

    @property
    def keeps_order(self) -> bool:
        """Each message is a request of its own, and `intake` can't know of one that never came."""
        return False

    async def serve(self, receiver: Receiver, nursery: trio.Nursery) -> None:
        """Return when the session is over, or nothing was asked for in too long a time."""
        del nursery
        self._receiver = receiver
        receiver.opened()
        self.intake.open(receiver)
        while not self._over.is_set():
            with trio.move_on_at(self._may_be_quiet_until):
                await self._over.wait()
            if trio.current_time() >= self._may_be_quiet_until:
                self.vanish(GOING_AWAY, "nothing was asked for")

    @property
    def _may_be_quiet_until(self) -> float:
        return self._options.idle_s + (trio.current_time() if self._visits else self._quiet_since)

    def admit(self) -> None:
        """The handshake was accepted: allow messages of full size."""
        self._leave_luggage()
        self.intake.limit_bytes = self._options.max_message_bytes

    def may_bring(self, size_bytes: int) -> bool:
        """Whether the device may send so much more now. Asked for all that comes."""
        if self.luggage is None:
            return True
        self._carried_bytes += size_bytes
        return self.luggage.fits(self._carried_bytes)

    def send(self, frame: Frame) -> None:
        """Queue a frame; whoever leaves more than `max_buffered_bytes` behind the oldest has overflowed."""
        if self.closed_with is not None:
            return
        self._numbers += 1
        self._queue.append(Waiting(self._numbers, frame))
        self.buffered_bytes += len(frame.payload)
        self._changes.announce()
        waiting_bytes = self.buffered_bytes - len(self._queue[0].frame.payload)
        if waiting_bytes > self._options.max_buffered_bytes and self._receiver is not None:
            self._receiver.overflowed()

    def ping(self) -> None:
        """Not needed: a device that is there asks by itself."""

    @property
    def heard_at(self) -> float:
        """Now: how long a device may be quiet is judged here."""
        return trio.current_time()

    def has_room_for(self, size_bytes: int) -> bool:
        """Whether the queue stays below a quarter of its limit, or is empty."""
        return has_room(self.buffered_bytes, size_bytes, self._options.max_buffered_bytes)

    def delivered(self) -> bool:
        """Whether everything was fetched, and nothing is just coming in."""
        return not self._queue and not self.intake.is_coming

    async def close(self, code: int, reason: str) -> None:
        """Take nothing more, and let the device fetch what there is for a moment. Last words are kept for later."""
        self._hang_up(code, reason)
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            while (self._queue or self._visits) and not (self.has_vanished or self.left.is_set()):
                await self._changes.next()
        if self.left.is_set():
            return
        self._over.set()
        self._receiver = None
        if self.buffered_bytes > LAST_WORDS_BYTES:
            self._forget_all()
        self._leave_luggage()
        self.left.set()
        self._gone()

    def _leave_luggage(self) -> None:
        if self.luggage is not None:
            self.luggage.leave()
            self.luggage = None

    # What the device's requests call

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Around each request: as long as one is here the device is not quiet."""
        self._visits += 1
        try:
            yield
        finally:
            self._visits -= 1
            self._quiet_since = trio.current_time()
            self._changes.announce()

    async def fetch(self, hold_s: float, known: str | None) -> Waiting | None:
        """The oldest message, waited for up to `hold_s`; None when there is none, or another poll has come meanwhile.

        It stays here: `fetched` or `fetch_failed` has to follow, unless it is the one that is `known` by its etag.
        Raises SessionOver.
        """
        mine = object()
        if self._newest_poll is not None:
            self._note_displaced()
        self._newest_poll = mine
        self._changes.announce()  # whoever waited before may be dead, and gets nothing any more
        try:
            with trio.move_on_after(hold_s):
                while mine is self._newest_poll and not self._may_fetch and (self._queue or self.closed_with is None):
                    await self._changes.next()
            if mine is not self._newest_poll or self.has_vanished:
                return None
        finally:
            if mine is self._newest_poll:
                self._newest_poll = None
        if self._may_fetch:
            oldest = self._queue[0]
            self._is_fetching = oldest.etag != known
            return oldest
        if not self._queue:
            self.check_open()
        return None

    def _note_displaced(self) -> None:
        self._displaced += 1
        if self._displaced == SUSPICIOUS:
            hint = "several pages or processes poll as one device and take each other's messages"
            log.warning("polling.identity_shared", address=self._address, hint=hint)

    @property
    def _may_fetch(self) -> bool:
        return bool(self._queue) and not self._is_fetching

    def fetched(self) -> None:
        """The answer with the oldest message was written."""
        self._is_fetching = False
        if self._queue:
            self.buffered_bytes -= len(self._queue.popleft().frame.payload)
        self._changes.announce()

    def fetch_failed(self) -> None:
        """It could not be written: the message is there for the next poll."""
        self._is_fetching = False
        self._changes.announce()

    def check_open(self) -> None:
        """Raises SessionOver when it is."""
        if self.closed_with is not None:
            self.was_told = True
            raise SessionOver(*self.closed_with)

    def fail(self, reason: str, code: int = PROTOCOL_VIOLATION) -> None:
        """The device breaks the rules, or a message of it is lost: take nothing more."""
        if self.closed_with is None:
            self.own_close = Close(code, reason)
        self._hang_up(code, reason)
        self._over.set()

    def vanish(self, code: int = NORMAL, reason: str = "") -> None:
        """There is nobody any more who could be told anything."""
        self.has_vanished = True
        self._forget_all()
        self.fail(reason, code)

    def _hang_up(self, code: int, reason: str) -> None:
        if self.closed_with is None:
            self.closed_with = (code, reason)
        self.intake.close()
        self._changes.announce()

    def _forget_all(self) -> None:
        self._queue.clear()
        self.buffered_bytes = 0
