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

from kora_daemon.server.changes import Changes
from kora_daemon.server.transport import Receiver
from kora_daemon.server.upload_order import UploadOrder
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.glimpse import Glimpse

ORDER_PATIENCE_S = 30.0
"""For a message that has to come first, while none comes. Short enough for proxies that give up after 60 s."""
MOST_AT_ONCE = 1_000
"""Messages that wait. Stock clients send all they wrote offline at once, 100 operations in each."""
_REMEMBERED = 64
"""Messages that are known when they come once more."""


class TooMuchAtOnce(Exception):
    """More messages wait than a device may send at once."""


def fingerprint(frame: Frame) -> bytes:
    """By which a message is known when it comes once more, byte by byte the same."""
    return hashlib.blake2b(frame.payload, digest_size=16).digest()


class Intake:
    """Messages on their way to a `receiver`, which is None before the session is open.

    `check_open` raises when the session is over, `give_up` ends it, for a reason. Every change of that is announced.
    """

    def __init__(self, changes: Changes, check_open: Callable[[], None], give_up: Callable[[str], None]) -> None:
        self._changes = changes
        self._check_open = check_open
        self._give_up = give_up
        self._turn = trio.Lock()
        self._taken = self._waiting = self._waiting_bytes = self._coming = 0
        self._recent: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._order: UploadOrder | None = None
        self.receiver: Receiver | None = None
        self.limit_bytes = 0
        """What a message may have, and all of them together while they wait."""
        self.handshake: bytes | None = None
        """The fingerprint of the first handshake, None as long as there was none."""

    @asynccontextmanager
    async def room_for(self, size_bytes: int) -> AsyncIterator[None]:
        """Keep room for a message, from before it is read until it was handed in. Raises TooMuchAtOnce."""
        if self._waiting >= MOST_AT_ONCE:
            raise TooMuchAtOnce
        self._waiting += 1
        try:
            while self._waiting_bytes and self._waiting_bytes + size_bytes > self.limit_bytes:
                self._check_open()
                await self._changes.next()
            self._waiting_bytes += size_bytes
            try:
                yield
            finally:
                self._waiting_bytes -= size_bytes
        finally:
            self._waiting -= 1
            self._changes.announce()

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
            self._changes.announce()

    async def take(self, frame: Frame, message: Glimpse | None) -> None:
        """Hand a message in when its turn has come.

        What comes once more is the same again: browsers repeat requests whose connection broke. Only a handshake is
        passed on, and answered, each time.
        """
        known_as = fingerprint(frame)
        if message is not None and message.is_handshake:
            self.handshake = self.handshake or known_as
        elif known_as in self._recent:
            return
        self._recent.append(known_as)
        await self._turn_of(message)
        async with self._turn:
            self._check_open()
            if self.receiver is not None:
                await self.receiver.ready()
            if self.receiver is not None:
                self.receiver.receive(frame)
            self._took(message)

    async def _turn_of(self, message: Glimpse | None) -> None:
        while not self._has_turn(message):
            taken = self._taken
            with trio.move_on_after(ORDER_PATIENCE_S) as patience:
                while taken == self._taken and not self._has_turn(message):
                    self._check_open()
                    await self._changes.next()
            if patience.cancelled_caught and not self._coming and not self._turn.locked():
                self._give_up("a message that has to come first is missing")

    def _has_turn(self, message: Glimpse | None) -> bool:
        if self.receiver is None:
            return False
        if message is None or message.is_handshake:
            return True
        return self._order is not None and (not message.is_upload or self._order.has_turn(message))

    def _took(self, message: Glimpse | None) -> None:
        self._taken += 1
        if message is not None and message.is_handshake and self._order is None:
            self._order = UploadOrder(says_total=message.last_delivery_sequence is not UNSET)
        elif message is not None and message.is_upload and self._order is not None:
            self._order.took(message)
        self._changes.announce()
