"""Connections in memory: late, in pieces, with little room, and cut whenever it hurts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import trio

from kora_daemon.torture.moments import Moments, moment_after

LATENCY_S = 0.1
"""A piece takes up to that long, and never arrives before the one ahead of it."""
ROOM_BYTES = (600, 4_000, 16_000)
"""On the way in one direction, as kernels' buffers are: one of these. Whoever sends more waits for the reader."""
PIECEMEAL = 0.05
"""How often somebody reads less than has arrived."""
UNREACHABLE_S = 0.1
"""Until a device notices that nobody listens."""


class Unreachable(Exception):
    """Nobody listens at the other end."""


class Direction:
    """Bytes on their way from one end of a connection to the other."""

    def __init__(self, random: Random, moments: Moments) -> None:
        self._random = random
        self._moments = moments
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._room = random.choice(ROOM_BYTES)
        self._changed = trio.Event()
        self._last_arrival = 0.0
        self.is_frozen = self.is_ended = self.is_cut = False

    def change(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()
        self._changed = trio.Event()

    async def put(self, data: bytes | bytearray | memoryview) -> None:
        """Send. Raises BrokenResourceError when the connection is lost."""
        rest = memoryview(bytes(data))
        await trio.lowlevel.checkpoint_if_cancelled()
        while rest:
            if self.is_cut or self.is_ended:
                raise trio.BrokenResourceError("the connection is lost")
            room = self._room - self._bytes
            if room <= 0:
                await self._changed.wait()
                continue
            piece, rest = bytes(rest[:room]), rest[room:]
            self._last_arrival = max(self._last_arrival, moment_after(self._random.random() * LATENCY_S))
            self._pieces.append((self._last_arrival, piece))
            self._bytes += len(piece)
            self._moments.at(self._last_arrival, self.change)

    async def get(self, most: int) -> bytes:
        """What has arrived, as far as it goes; b"" at the end. Raises BrokenResourceError when that came too early."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if self._pieces and not self.is_frozen and self._pieces[0][0] <= trio.current_time():
                return self._take(self._pieces[0][1], most)
            if self.is_cut and not self._pieces:
                raise trio.BrokenResourceError("the connection is lost")
            if self.is_ended and not self._pieces:
                return b""
            await self._changed.wait()

    def _take(self, piece: bytes, most: int) -> bytes:
        size = min(len(piece), most)
        if self._random.random() < PIECEMEAL:
            size = self._random.randint(1, size)
        arrival, _ = self._pieces.popleft()
        if size < len(piece):
            self._pieces.appendleft((arrival, piece[size:]))
        self._bytes -= size
        self.change()
        return piece[:size]

    def cut(self) -> None:
        """Lose the connection: of what is on the way some beginning may still arrive, which ends anywhere."""
        self.is_cut, self.is_frozen = True, False
        kept = self._random.randrange(self._bytes + 1) if self._random.random() < 0.5 else 0
        while self._pieces and self._bytes > kept:
            arrival, piece = self._pieces.pop()
            self._bytes -= len(piece)
            if (more := kept - self._bytes) > 0:
                self._pieces.append((arrival, piece[:more]))
                self._bytes += more
                break
        self.change()

    def end(self) -> None:
        """The sender has closed: what is on the way arrives."""
        self.is_ended = True
        self.change()


class End(trio.abc.Stream):
    """One end of a connection."""

    def __init__(self, out: Direction, into: Direction, closed: Callable[[], None]) -> None:
        self._out = out
        self._into = into
        self._closed = closed
        self._is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Return when the network has taken all of it. Raises BrokenResourceError."""
        if self._is_closed:
            raise trio.ClosedResourceError
        await self._out.put(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Part of the stream interface; nobody here needs it."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes, b"" at the end. Raises BrokenResourceError."""
        if self._is_closed:
            raise trio.ClosedResourceError
        return await self._into.get(max_bytes or 65_536)

    async def aclose(self) -> None:
        """Close both directions."""
        if not self._is_closed:
            self._is_closed = True
            self._out.end()
            # What the peer still sends reaches nobody.
            self._into.end()
            self._closed()
        await trio.lowlevel.checkpoint()


class Connection:
    """Two ends and what is between them."""

    def __init__(self, random: Random, moments: Moments) -> None:
        self._directions = (Direction(random, moments), Direction(random, moments))
        there, back = self._directions
        self.is_open = True
        self.device_end = End(there, back, self._ended)
        self.daemon_end = End(back, there, self._ended)

    def _ended(self) -> None:
        self.is_open = any(not one.is_ended for one in self._directions)

    def freeze(self, frozen: bool) -> None:
        """Let nothing arrive, or again."""
        for one in self._directions:
            one.is_frozen = frozen and not one.is_cut
            one.change()

    def cut(self) -> None:
        """Lose it."""
        self.is_open = False
        for one in self._directions:
            one.cut()


class Network:
    """Brings devices to the daemon that lives at the time."""

    def __init__(self, random: Random, moments: Moments) -> None:
        self._random = random
        self._moments = moments
        self._connections: dict[str, list[Connection]] = {}
        self._addresses: dict[str, str] = {}
        self._apart: set[str] = set()
        self._heard_again = trio.Event()
        self.answer: Callable[[trio.abc.Stream, str], None] | None = None
        """Takes a new connection and its address; None while no daemon listens."""

    async def connect(self, who: str) -> trio.abc.Stream:
        """A connection to the daemon. Raises Unreachable."""
        await self._moments.pause(self._random.random() * UNREACHABLE_S)
        while who in self._apart:
            await self._heard_again.wait()
        if self.answer is None:
            raise Unreachable
        connection = Connection(self._random, self._moments)
        mine = [one for one in self._connections.get(who, ()) if one.is_open]
        self._connections[who] = [*mine, connection]
        self.answer(connection.daemon_end, self._addresses.setdefault(who, f"10.0.0.{len(self._addresses) + 1}"))
        return connection.device_end

    def cut(self, who: str) -> None:
        """Lose all connections of a device."""
        for one in self._connections.pop(who, ()):
            one.cut()

    def cut_all(self) -> None:
        """Lose all connections."""
        for who in list(self._connections):
            self.cut(who)

    def part(self, who: str) -> None:
        """From now on nothing gets through between this device and the daemon; nobody is told."""
        self._apart.add(who)
        self._freeze(who, True)

    def join(self, who: str) -> None:
        """What was held back gets through now."""
        self._apart.discard(who)
        self._freeze(who, False)
        self._heard_again.set()
        self._heard_again = trio.Event()

    def _freeze(self, who: str, frozen: bool) -> None:
        for one in self._connections.get(who, ()):
            one.freeze(frozen)

    @contextmanager
    def open_to(self, answer: Callable[[trio.abc.Stream, str], None]) -> Iterator[None]:
        """Let connections arrive there, as long as this is open; afterwards none is left."""
        self.answer = answer
        try:
            yield
        finally:
            self.answer = None
            self.cut_all()
