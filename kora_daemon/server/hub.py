"""Who is connected, and how far the log reaches.

The hub tells every session the frontier, never the operations: a session pulls what it wants from there on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from operator import attrgetter
from typing import Protocol

import trio

from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.measures import Measures
from kora_daemon.server.sweep import Sweep, Swept
from kora_daemon.server.tail import Tail
from kora_daemon.server.visible import KnownFields
from kora_daemon.wire.formats import SharedMessage

_PEERS_AT_ONCE = 64
"""Sessions told in a row before other tasks get their turn."""
_TELLING_AT_ONCE_S = 0.02
"""Sessions are told in a row for so long: what the first have to say to it, acknowledgments mostly, would come in
between and make the last wait several times as long for the news."""
FAREWELLS_PER_S = 250
"""A fraction of what a daemon welcomes per second on one core, since all of them come back."""


class Peer(Swept, Protocol):
    """What the hub and the relays know of a connection."""

    @property
    def node_id(self) -> str:
        """The device that it says to be."""
        ...

    @property
    def user_id(self) -> str:
        """Who authentication says it is."""
        ...

    @property
    def granted(self) -> ScopeMap | None:
        """What authentication grants it; None = everything."""
        ...

    @property
    def scopes(self) -> ScopeMap | None:
        """What it lives with: the grant, narrowed by what it asked for itself."""
        ...

    def frontier_moved(self, frontier: int) -> None:
        """The log reaches `frontier`."""
        ...

    def offer(self, message: SharedMessage) -> bool:
        """Send a message that can be done without; False when it is dropped, since the peer is slow or about to go."""
        ...

    def drain(self) -> None:
        """The daemon shuts down."""
        ...


class Hub:
    """The peers of this process and the newest part of the log. `known` are the fields that records have."""

    def __init__(self, frontier: int, known: KnownFields | None = None, measures: Measures | None = None) -> None:
        self._known = known
        self._measures = measures or Measures()
        self.tail = Tail(frontier, self._known)
        self._connected: dict[int, Peer] = {}
        self.sweep = Sweep(self._connected)
        self._streaming: dict[int, Peer] = {}
        self._reached = frontier
        self._origins: dict[int, int] = {}
        """Delivery sequence -> session of entries of this server that are still to come with a `fill`."""
        self._moved = trio.Event()
        self._behind = trio.Event()
        self._left = trio.Event()

    @property
    def frontier(self) -> int:
        """The largest delivery sequence that may be delivered."""
        return self.tail.frontier

    def __len__(self) -> int:
        return len(self._connected)

    def connect(self, peer: Peer) -> None:
        """A connection has begun."""
        self._connected[peer.number] = peer
        self.sweep.stir(peer.number)

    def join(self, peer: Peer) -> None:
        """Its handshake was accepted: it takes part in live traffic."""
        self._streaming[peer.number] = peer

    def leave(self, peer: Peer) -> None:
        """A connection has ended."""
        self._connected.pop(peer.number, None)
        self._streaming.pop(peer.number, None)
        self._left.set()

    def streaming(self) -> Iterator[Peer]:
        """Those that joined, as of now."""
        return iter(list(self._streaming.values()))

    def publish(self, entries: list[DeliveryEntry], has_moved: bool = False) -> None:
        """New entries of this server are durable. Wakes `run`, unless others have written in between: then `behind`.

        `has_moved`: earlier ones are seen by others than before, so what is kept of them here is no good any more.
        """
        if has_moved:
            self.tail = Tail(self.frontier, self._known)
        fresh = sorted((entry for entry in entries if entry.sequence > self.frontier), key=attrgetter("sequence"))
        if not fresh:
            return
        if fresh[0].sequence == self.frontier + 1 and fresh[-1].sequence == self.frontier + len(fresh):
            self._extend(fresh)
        else:
            self._origins |= {entry.sequence: entry.origin for entry in fresh if entry.origin}
            self.reaches(fresh[-1].sequence)

    def reaches(self, frontier: int) -> None:
        """The log reaches `frontier`, and not all of that is at hand. Wakes who waits in `behind`."""
        if frontier > max(self.frontier, self._reached):
            self._reached = frontier
            self._behind.set()

    async def behind(self) -> int:
        """Return as soon as the log is known to reach further than the tail; how far."""
        while self._reached <= self.frontier:
            self._behind = trio.Event()
            await self._behind.wait()
        return self._reached

    def fill(self, entries: list[DeliveryEntry]) -> None:
        """Everything that follows the tail, as read from the store up to some point. Wakes `run`.

        Nothing at all: what was said to be reached is not there (any more).
        """
        if not entries:
            self._reached = self.frontier
        fresh = [entry for entry in entries if entry.sequence > self.frontier]
        for entry in fresh:
            entry.origin = self._origins.pop(entry.sequence, 0)
        self._extend(fresh)

    def skip_to(self, frontier: int) -> None:
        """The log has grown by more than a tail: who lacks what is below `frontier` reads the store. Wakes `run`."""
        self._origins.clear()
        self._reached = frontier
        self.tail = Tail(frontier, self._known)
        self._moved.set()

    def _extend(self, entries: list[DeliveryEntry]) -> None:
        if entries:
            self.tail.extend(entries)
            self._moved.set()

    def begin_anew(self, frontier: int) -> None:
        """Somebody else has put another log in place of this one: all peers have to come again."""
        self.skip_to(frontier)
        for peer in list(self._connected.values()):
            peer.drain()

    async def run(self) -> None:
        """Tell every streaming peer how far the log reaches, whenever it has grown."""
        while True:
            await self._moved.wait()
            self._moved = trio.Event()
            received_at = self._measures.take_unpublished()
            peers, begun = list(self.streaming()), trio.current_time()
            for first in range(0, len(peers), _PEERS_AT_ONCE):
                self._tell(peers[first : first + _PEERS_AT_ONCE], received_at)
                if first + _PEERS_AT_ONCE >= len(peers) or trio.current_time() - begun >= _TELLING_AT_ONCE_S:
                    await trio.lowlevel.checkpoint()
                    begun = trio.current_time()

    def _tell(self, peers: list[Peer], received_at: float) -> None:
        """Tell some peers; what was received then, or a little later, is among what they are sent on the spot."""
        before = self._measures.delivered_batches
        for peer in peers:
            peer.frontier_moved(self.frontier)
        if (batches := self._measures.delivered_batches - before) and received_at != math.inf:
            self._measures.write_to_deliver.add(trio.current_time() - received_at, batches)

    async def drain(self, spread_s: float = 0.0) -> None:
        """Ask all peers to finish, and wait until they have. Until its turn a session goes on as ever.

        They are asked in random order, at a pace at which they can come back somewhere, within `spread_s`.
        """
        begun, peers = trio.current_time(), list(self._connected.values())
        random.shuffle(peers)
        pause_s = min(spread_s / max(len(peers), 1), 1 / FAREWELLS_PER_S)
        for number, peer in enumerate(peers):
            await trio.sleep_until(begun + number * pause_s)
            peer.drain()
        while self._connected:
            self._left = trio.Event()
            await self._left.wait()
