"""Messages of one device, each of which comes over a connection of its own: within limits, and put in order.

When one breaks off, those behind it may not be taken without it, so the session is over, as it is where one connection
carries them all.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from msgspec import UNSET

from kora_daemon.server.transport import Receiver
from kora_daemon.server.upload_order import UploadOrder, says_total
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.glimpse import Glimpse

ORDER_PATIENCE_S = 30.0
"""For a message that has to come first, while none comes. Short enough for proxies that give up after 60 s."""
TOTAL_PATIENCE_S = 5.0
"""For a batch that says how many there are, which stock clients send first. Other clients send none that does."""
MOST_AT_ONCE = 1_000
"""Messages that wait. Stock clients send all they wrote offline at once, 100 operations in each."""
_REMEMBERED = 64
"""Messages that are known when they come once more."""


class TooMuchAtOnce(Exception):
    """More messages wait than a device may send at once."""


def fingerprint(frame: Frame) -> bytes:
    """By which a message is known when it comes once more, byte by byte the same."""
    return hashlib.blake2b(frame.payload, digest_size=16).digest()


class _Place:
    """In a line: `called` is set when it is its turn, or when there is nothing to wait for any more."""

    def __init__(self, message: Glimpse | None = None, size_bytes: int = 0) -> None:
        self.message = message
        self.size_bytes = size_bytes
        self.called = trio.Event()


class Intake:
    """Messages on their way to the receiver of `open`. `check_open` raises when the session is over, `give_up` ends it.

    Two lines: who waits to be read, and who waits to be handed in; of those whose turn it is, whoever came first.
    """

    def __init__(self, check_open: Callable[[], None], give_up: Callable[[str], None]) -> None:
        self._check_open = check_open
        self._give_up = give_up
        self._receiver: Receiver | None = None
        self._order: UploadOrder | None = None
        self._unread: list[_Place] = []
        self._taken_in_bytes = 0
        """Of messages that are being read, or wait to be handed in."""
        self._present = self._coming = self._taken = 0
        self._line: list[_Place] = []
        self._is_busy = False
        """One is being handed in."""
        self._waiting_for_receiver = trio.CancelScope()
        self._recent: deque[bytes] = deque(maxlen=_REMEMBERED)
        self.limit_bytes = 0
        """What a message may have, and all of them together."""
        self._handshake: Glimpse | None = None
        self._handshake_known_as = b""
        self._newest_upload: Glimpse | None = None

    def open(self, receiver: Receiver) -> None:
        """Hand in to this one from now on."""
        self._receiver = receiver
        self._call_next()

    def close(self) -> None:
        """The session is over: nobody waits any more."""
        self._receiver = None
        self._waiting_for_receiver.cancel()
        for place in (*self._line, *self._unread):
            place.called.set()

    @asynccontextmanager
    async def room_for(self, size_bytes: int) -> AsyncIterator[None]:
        """Keep room for a message, from before it is read until it was handed in. Raises TooMuchAtOnce."""
        if self._present >= MOST_AT_ONCE:
            raise TooMuchAtOnce
        self._present += 1
        place = _Place(size_bytes=size_bytes)
        self._unread.append(place)
        self._let_in()
        try:
            await place.called.wait()
            yield
        finally:
            self._present -= 1
            if place in self._unread:
                self._unread.remove(place)
            else:
                self._taken_in_bytes -= size_bytes
            self._let_in()

    def _let_in(self) -> None:
        # Whoever fits in: what the others wait for may be among them.
        for place in list(self._unread):
            if not self._taken_in_bytes or self._taken_in_bytes + place.size_bytes <= self.limit_bytes:
                self._unread.remove(place)
                self._taken_in_bytes += place.size_bytes
                place.called.set()

    @contextmanager
    def coming_in(self) -> Iterator[None]:
        """Around the reading of a message: nobody gives up waiting meanwhile, and without it nothing goes on."""
        self._coming += 1
        try:
            yield
        except BaseException:
            self._give_up("a message broke off")
            raise
        finally:
            self._coming -= 1

    @property
    def is_coming(self) -> bool:
        """Whether a message is being read."""
        return self._coming > 0

    async def take(self, frame: Frame, message: Glimpse | None) -> None:
        """Hand a message in when its turn has come.

        What comes once more is the same again: browsers repeat requests whose connection broke. Only a handshake is
        passed on, and answered, each time. What was written before the handshake is late: it belongs to no session.
        """
        self._check_open()
        known_as = fingerprint(frame)
        if message is not None and message.is_handshake:
            if self._handshake is None:
                self._handshake, self._handshake_known_as = message, known_as
        elif known_as in self._recent:
            return
        self._recent.append(known_as)
        if message is not None and message.is_upload and not message.predates(self._newest_upload or message):
            self._newest_upload = message
        place = _Place(message)
        self._line.append(place)
        self._call_next()
        try:
            await self._wait_for_turn(place)
            await self._hand_in(frame, message)
        finally:
            self._line.remove(place)
            self._is_busy = self._is_busy and not place.called.is_set()
            self._call_next()

    def _is_late(self, message: Glimpse | None) -> bool:
        if message is None or self._handshake is None or message is self._handshake:
            return False
        if message.predates(self._handshake):
            return True
        # A device that begins anew may get the answer to its last handshake. What it uploads shows that it took it.
        return message.is_handshake and self._newest_upload is not None and message.predates(self._newest_upload)

    def begins_anew(self, frame: Frame, handshake: Glimpse) -> bool:
        """Whether a handshake is another one than that of this session, so that the device has another one in mind."""
        return not (
            self._handshake is None or self._handshake_known_as == fingerprint(frame) or self._is_late(handshake)
        )

    async def _wait_for_turn(self, place: _Place) -> None:
        while not place.called.is_set():
            taken, lacks_total = self._taken, self._lacks_total(place)
            with trio.move_on_after(TOTAL_PATIENCE_S if lacks_total else ORDER_PATIENCE_S):
                await place.called.wait()
            if place.called.is_set() or taken != self._taken or self._coming or self._is_busy:
                continue
            if lacks_total:
                if self._order is not None and self._lacks_total(place):
                    self._order.expect_no_total()
                    self._call_next()
            else:
                self._give_up("a message that has to come first is missing")
        self._check_open()

    def _lacks_total(self, place: _Place) -> bool:
        """Whether it waits only for a batch that says how many there are, and none is there."""
        upload, order = place.message, self._order
        if upload is None or not upload.is_upload or order is None or not order.lacks_total(upload):
            return False
        return not any(one.message is not None and says_total(one.message) for one in self._line)

    async def _hand_in(self, frame: Frame, message: Glimpse | None) -> None:
        if self._is_late(message):
            return
        receiver = self._receiver
        if receiver is not None:
            # A session that has ended wants nothing any more, and does not say so to whoever waits for that.
            self._waiting_for_receiver = trio.CancelScope()
            with self._waiting_for_receiver:
                await receiver.ready()
            self._check_open()
            receiver.receive(frame)
        self._taken += 1
        if message is not None and message.is_handshake and self._order is None:
            self._order = UploadOrder(says_total=message.last_delivery_sequence is not UNSET)
        elif message is not None and message.is_upload and self._order is not None:
            self._order.took(message)

    def _call_next(self) -> None:
        if self._is_busy or self._receiver is None:
            return
        place = next((one for one in self._line if self._has_turn(one.message)), None)
        if place is not None:
            self._is_busy = True
            place.called.set()

    def _has_turn(self, message: Glimpse | None) -> bool:
        if message is None or message.is_handshake or self._is_late(message):
            return True
        return self._order is not None and (not message.is_upload or self._order.has_turn(message))
