"""The rooms of presence: which session is in which, and the task that sends their rounds (scopes.md section 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import trio
from msgspec import Raw

from kora_daemon.model.audience import UNRESTRICTED, audience
from kora_daemon.server.awareness import AwarenessRelay
from kora_daemon.server.beat import next_beat
from kora_daemon.server.hub import Peer
from kora_daemon.server.lookups import Lookups
from kora_daemon.server.pulse import Pulse

SHORTEST_PAUSE_S = 0.003
LONGEST_PAUSE_S = 0.015
"""Between two rounds: states that change faster are merged."""
_PAUSE_PER_ROUND = 4
"""A pause is so many times as long as the round before it, within these: small rooms wait for next to nothing, and
rooms of a hundred leave four fifths of a core to others."""
REFRESH_INTERVAL_S = 1.0
_ROOMS_PER_TURN = 64
"""Rooms served in a row before other tasks get their turn."""

Abroad = Callable[[int, str, Raw | None], None]


class AwarenessRooms:
    """All rooms of a server, by the name of their audience. They come and go with who is in them.

    Unrestricted sessions share one, which is always there and where nothing is judged. They are in no tenant's room
    unless they ask for its scope themselves.
    """

    def __init__(self, lookups: Lookups, max_state_bytes: int = 16_384, group_by: Sequence[str] = ()) -> None:
        self.abroad: Abroad | None = None
        """Is told of each change of a client of ours, with the room it is in."""
        self._lookups = lookups
        self._max_state_bytes = max_state_bytes
        self._group_by = tuple(group_by)
        self._rooms: dict[str, AwarenessRelay] = {}
        self._places: dict[int, str] = {}
        """Session -> its room. Whose scopes change has to connect again, so it stays there."""
        self._distant: dict[str, str] = {}
        """Client of another daemon -> its room."""
        self._changed: dict[str, None] = {}
        self._due = trio.Event()
        self.pulse = Pulse("presence")
        self.unrestricted = self._room(UNRESTRICTED)

    def __len__(self) -> int:
        return len(self._rooms)

    def allow(self, max_state_bytes: int) -> None:
        """Take states of this size from now on. May be called from any thread."""
        self._max_state_bytes = max_state_bytes
        for room in list(self._rooms.values()):
            room.max_state_bytes = max_state_bytes

    def update(self, peer: Peer, client_id: float, states: Mapping[str, Raw]) -> None:
        """Take the state of a session; it is in its room from the first one on."""
        if not float(client_id).is_integer():
            return
        name = self._places.get(peer.number)
        if name is None:
            name = self._places[peer.number] = audience(peer.granted, peer.scopes, self._group_by)
            self._room(name).add_client(peer.number, int(client_id), peer.offer, peer.scopes)
        self._rooms[name].handle_update(peer.number, client_id, states)

    def remove(self, number: int) -> None:
        """A session has left."""
        name = self._places.pop(number, None)
        if name is not None:
            self._remove(name, number)

    def add_distant(self, room: str, client: str, state: Raw) -> None:
        """A client of another daemon has this state, in this room."""
        if self._distant.get(client, room) != room:
            self.remove_distant(client)
        self._distant[client] = room
        self._room(room).add_distant(client, state)

    def remove_distant(self, client: str) -> None:
        """A client of another daemon has none any more."""
        room = self._distant.pop(client, None)
        if room is not None:
            self._remove(room, client)

    def _room(self, name: str) -> AwarenessRelay:
        room = self._rooms.get(name)
        if room is None:
            lookups = None if name == UNRESTRICTED else self._lookups
            room = AwarenessRelay(self._max_state_bytes, lambda: self._wake(name), lookups)
            room.abroad = lambda client, state: self._told(client, name, state)
            self._rooms[name] = room
        return room

    def _remove(self, name: str, client: int | str) -> None:
        room = self._rooms[name]
        room.remove_client(client)
        if not len(room) and name != UNRESTRICTED:
            del self._rooms[name]

    def _told(self, client: int, room: str, state: Raw | None) -> None:
        if self.abroad is not None:
            self.abroad(client, room, state)

    def _wake(self, name: str) -> None:
        self._changed[name] = None
        self._due.set()

    async def run(self) -> None:
        """Send the rounds that are due, for ever, with a pause between them so that busy rooms merge updates."""
        refresh_at = trio.current_time()
        while True:
            self.pulse.beat()
            with trio.move_on_at(refresh_at):
                await self._due.wait()
            self._due = trio.Event()
            if trio.current_time() >= refresh_at:
                refresh_at = next_beat(REFRESH_INTERVAL_S)
                await self._for_each(list(self._rooms), AwarenessRelay.refresh)
            changed, self._changed = self._changed, {}
            if changed:
                begun_at = trio.current_time()
                await self._for_each(changed, AwarenessRelay.send_round)
                round_s = trio.current_time() - begun_at
                await trio.sleep(min(max(SHORTEST_PAUSE_S, _PAUSE_PER_ROUND * round_s), LONGEST_PAUSE_S))

    async def _for_each(self, names: Iterable[str], serve: Callable[[AwarenessRelay, float], None]) -> None:
        now = trio.current_time()
        for served, name in enumerate(names, 1):
            room = self._rooms.get(name)
            if room is not None:
                serve(room, now)
            if served % _ROOMS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
