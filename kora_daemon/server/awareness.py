"""Presence: who is here and where their cursor is (wire.md section 9). Ephemeral: never stored, never replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice

import trio
from msgspec import Raw, Struct

from kora_daemon.protocol.messages import AwarenessUpdate
from kora_daemon.server.clock import new_id
from kora_daemon.wire import json as codec
from kora_daemon.wire.frame import Frame

_ASIDE = 1 << 44
"""Added to a unique number that its hearer has taken for itself."""
_FIRST_UNIQUE_ID = 1 << 32
"""Below 2^53, and above all numbers that clients may be known by."""
ROUND_INTERVAL_S = 0.015
"""Between two rounds of a busy room: states that change faster are merged."""
NO_STATE = Raw(b"null")

REFRESH_AFTER_S = 20.0
REFRESH_INTERVAL_S = 1.0
"""Clients drop a state that they have not heard of for 30 s, and none repeats its own."""

MAX_SPEAKERS_OF_A_ROUND = 32
"""Each of them gets a frame of its own, without itself; whoever has more to say waits for the next round."""

Send = Callable[[Frame], None]
Abroad = Callable[[int, Raw | None], None]


class _Member(Struct):
    """A client in the room.

    Clients number themselves from 1 in every process and ignore states under their own number, so two browsers would
    not see each other. The first keeps its number; whoever comes with a number in use is known by a unique one, and is
    itself told about the first under that one's unique number.
    """

    send: Send | None
    """None for a client of another daemon, which hears through that one."""
    own_id: int
    public_id: int
    unique_id: int
    state: Raw | None = None
    told_at: float = 0.0


class AwarenessRelay:
    """The presence states of one room.

    A client joins when it is added, hears all present states then, and every change from then on. `wake` is called
    when a round is due and `send_round` has to follow; without it every update is relayed at once.
    """

    def __init__(self, max_state_bytes: int = 16_384, wake: Callable[[], None] | None = None) -> None:
        self.abroad: Abroad | None = None
        """Is told of each change of a client of ours."""
        self._max_state_bytes = max_state_bytes
        self._wake = wake
        self._members: dict[int | str, _Member] = {}
        self._by_public_id: dict[int, _Member] = {}
        self._changed: dict[int | str, _Member] = {}
        self._gone: list[_Member] = []
        self._next_unique_id = _FIRST_UNIQUE_ID

    def add_client(self, client: int, own_id: int, send: Send) -> None:
        """Let a client hear the others; it is told at once who is here. Idempotent.

        `client` is any number of the caller's, `own_id` the one the client gave itself.
        """
        if client in self._members:
            return
        unique_id = self._next_unique_id
        self._next_unique_id += 1
        is_free = 0 <= own_id < _FIRST_UNIQUE_ID and own_id not in self._by_public_id
        public_id = own_id if is_free else unique_id
        member = _Member(send, own_id, public_id, unique_id)
        present = {_seen_by(member, other): other.state for other in self._members.values() if other.state is not None}
        self._members[client] = self._by_public_id[public_id] = member
        if present:
            send(_frame(0, present))

    def add_distant(self, client: str, state: Raw) -> None:
        """A client of another daemon has this state; `client` is any name that no other has."""
        member = self._members.get(client)
        if member is None:
            unique_id = self._next_unique_id
            self._next_unique_id += 1
            member = _Member(None, -1, unique_id, unique_id)
            self._members[client] = self._by_public_id[unique_id] = member
        text = bytes(state)
        if len(text) <= self._max_state_bytes and (member.state is None or bytes(member.state) != text):
            member.state = Raw(text)
            self._changed[client] = member
            self._due()

    def remove_client(self, client: int | str) -> None:
        """Forget a client; the others hear that it left, if they may know a state of it."""
        member = self._members.pop(client, None)
        if member is None:
            return
        if self.abroad is not None and isinstance(client, int):
            self.abroad(client, None)
        del self._by_public_id[member.public_id]
        unheard = self._changed.pop(client, None)
        if member.state is not None or unheard is not None:
            member.state = None
            self._gone.append(member)
            self._due()

    def handle_update(self, client: int, client_id: float, states: Mapping[str, Raw]) -> bool:
        """Take the state of a client that was added: the entry under its own `client_id`, a JSON object or null.

        Entries of others are ignored, nobody speaks for somebody else. False when the update is of no use: no such
        entry, no object, or above the size limit.
        """
        member = self._members.get(client)
        state = states.get(str(int(client_id)))
        if member is None or state is None:
            return False
        text = bytes(state)
        if len(text) > self._max_state_bytes or (text[:1] != b"{" and text != b"null"):
            return False
        member.state = None if text == b"null" else Raw(text)
        self._changed[client] = member
        if self.abroad is not None:
            self.abroad(client, member.state)
        self._due()
        return True

    def get_states(self) -> dict[int, bytes]:
        """Client id that the others see -> JSON text of the state, of all clients that have one."""
        return {member.public_id: bytes(member.state) for member in self._members.values() if member.state is not None}

    def refresh(self, now: float) -> None:
        """Put the states into the next round that were not told for `REFRESH_AFTER_S`; `now` is in s."""
        for client, member in self._members.items():
            if member.state is not None and now - member.told_at >= REFRESH_AFTER_S:
                self._changed[client] = member

    def send_round(self, now: float = 0.0) -> None:
        """Send what changed since the last round. Who hears the same gets the same frame; nobody hears itself."""
        changed = dict(islice(self._changed.items(), MAX_SPEAKERS_OF_A_ROUND))
        for client, member in changed.items():
            member.told_at = now
            del self._changed[client]
        if not changed and not self._gone:
            return
        speakers = [*self._gone, *changed.values()]
        by_public_id = {speaker.public_id: speaker for speaker in speakers}
        self._gone.clear()
        frames: dict[tuple[int, int], Frame] = {}
        for member in list(self._members.values()):
            if member.send is None:
                continue
            renamed = by_public_id.get(member.own_id)
            silent = member.unique_id if by_public_id.get(member.public_id) is member else 0
            key = (silent, renamed.unique_id if renamed is not None and renamed is not member else 0)
            frame = frames.get(key)
            if frame is None:
                heard = {_seen_by(member, other): other.state for other in speakers if other is not member}
                if not heard:
                    continue
                frame = frames[key] = _frame(next(iter(heard)) if len(heard) == 1 else 0, heard)
            member.send(frame)
        if self._changed:
            self._due()

    def _due(self) -> None:
        if self._wake is None:
            self.send_round()
        else:
            self._wake()


def _seen_by(hearer: _Member, speaker: _Member) -> int:
    if speaker.public_id != hearer.own_id:
        return speaker.public_id
    # A client may have given itself a number of our range.
    return speaker.unique_id if speaker.unique_id != hearer.own_id else speaker.unique_id + _ASIDE


def _frame(client_id: int, states: Mapping[int, Raw | None]) -> Frame:
    named = {str(number): NO_STATE if state is None else state for number, state in states.items()}
    return codec.encode(AwarenessUpdate(new_id(), client_id, named))


class AwarenessBroadcaster:
    """The task that sends the rounds of a relay, with a pause between them so that busy rooms merge updates."""

    def __init__(self, max_state_bytes: int) -> None:
        self._due = trio.Event()
        self.relay = AwarenessRelay(max_state_bytes, wake=self._wake)

    def _wake(self) -> None:
        self._due.set()

    async def run(self) -> None:
        """Send rounds, for ever."""
        while True:
            with trio.move_on_after(REFRESH_INTERVAL_S):
                await self._due.wait()
            self._due = trio.Event()
            self.relay.refresh(trio.current_time())
            self.relay.send_round(trio.current_time())
            await trio.sleep(ROUND_INTERVAL_S)
