"""A room of presence: who is here and where their cursor is (wire.md section 9). Never stored, never replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from msgspec import UNSET, Raw, Struct, UnsetType

from kora_daemon.model.audience import UNRESTRICTED, audience
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import Fields, ScopeMap
from kora_daemon.model.sight import sees
from kora_daemon.protocol.messages import AwarenessUpdate
from kora_daemon.server.clock import new_id
from kora_daemon.server.cursors import Presence, read_presence
from kora_daemon.server.lookups import Known, Lookups
from kora_daemon.wire.formats import SharedMessage

_ASIDE = 1 << 44
"""Added to a unique number that its hearer has taken for itself."""
_FIRST_UNIQUE_ID = 1 << 32
"""Below 2^53, and above all numbers that clients may be known by."""
NO_STATE = Raw(b"null")

REFRESH_AFTER_S = 20.0
"""Clients drop a state that they have not heard of for 30 s, and none repeats its own."""

MAX_SPEAKERS_OF_A_ROUND = 32
"""Each of them gets a frame of its own, without itself; whoever has more to say waits for the next round."""

Send = Callable[[SharedMessage], bool | None]
"""Takes a message for a client; False: it was dropped, since the client does not read what it is sent."""
Abroad = Callable[[int, Raw | None], None]
Records = dict[RecordKey, Fields | None]


class _Member(Struct, eq=False):
    """A client in the room.

    Clients number themselves from 1 in every process and ignore states under their own number, so two browsers would
    not see each other. The first keeps its number; whoever comes with a number in use is known by a unique one, and is
    itself told about the first under that one's unique number.
    """

    client: int | str
    send: Send | None
    """None for a client of another daemon, which hears through that one."""
    own_id: int
    public_id: int
    unique_id: int
    scopes: ScopeMap | None = None
    view: str = UNRESTRICTED
    """Equal for those who see the same."""
    state: Raw | None = None
    bare: Raw | None = None
    """The state without its cursor."""
    cursor: RecordKey | None = None
    """The record that the cursor is in, where that has to be judged."""
    awaits: bool = False
    """That record is being looked up."""
    hides: bool = False
    """The look-up failed: this cursor is not shown."""
    told_at: float = 0.0
    missed: bool = False
    """It did not take a frame that it should have heard."""


class AwarenessRelay:
    """The presence states of one room.

    A client joins when it is added, hears all present states then, and every change from then on. `wake` is called
    when a round is due and `send_round` has to follow; without it every update is relayed at once.

    With `lookups` cursors are judged: one in a record that a hearer, or its own client, may not see is cut out of the
    state that is heard. What counts is the record at the time of the round, not of the update.
    """

    def __init__(
        self,
        max_state_bytes: int = 16_384,
        wake: Callable[[], None] | None = None,
        lookups: Lookups | None = None,
    ) -> None:
        self.abroad: Abroad | None = None
        """Is told of each change of a client of ours: what that client may say."""
        self.max_state_bytes = max_state_bytes
        self._wake = wake
        self._lookups = lookups
        self._members: dict[int | str, _Member] = {}
        self._by_public_id: dict[int, _Member] = {}
        self._changed: dict[int | str, _Member] = {}
        self._gone: list[_Member] = []
        self._next_unique_id = _FIRST_UNIQUE_ID

    def __len__(self) -> int:
        return len(self._members)

    def add_client(self, client: int, own_id: int, send: Send, scopes: ScopeMap | None = None) -> None:
        """Let a client hear the others; it is told at once who is here. Idempotent.

        `client` is any number of the caller's, `own_id` the one the client gave itself. By its `scopes` is judged what
        cursors it may have and see.
        """
        if client in self._members:
            return
        is_free = 0 <= own_id < _FIRST_UNIQUE_ID and own_id not in self._by_public_id
        unique_id = self._new_unique_id()
        public_id = own_id if is_free else unique_id
        view = audience(None, scopes) if self._lookups is not None else UNRESTRICTED
        member = _Member(client, send, own_id, public_id, unique_id, scopes, view)
        self._tell_who_is_here(member)
        self._members[client] = self._by_public_id[public_id] = member

    def add_distant(self, client: str, state: Raw) -> None:
        """A client of another daemon has this state; `client` is any name that no other has."""
        member = self._members.get(client)
        if member is None:
            unique_id = self._new_unique_id()
            member = _Member(client, None, -1, unique_id, unique_id)
            self._members[client] = self._by_public_id[unique_id] = member
        if member.state is None or bytes(member.state) != bytes(state):
            self._take(member, bytes(state))

    def _new_unique_id(self) -> int:
        self._next_unique_id += 1
        return self._next_unique_id - 1

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
        return member is not None and state is not None and self._take(member, bytes(state))

    def _take(self, member: _Member, text: bytes) -> bool:
        if len(text) > self.max_state_bytes or (text[:1] != b"{" and text != b"null"):
            return False
        presence: Presence | None = None
        if text != b"null":
            state = Raw(text)
            presence = Presence(state, state) if self._lookups is None else read_presence(state)
            if presence is None:
                return False
        if presence is None:
            member.state = member.bare = member.cursor = None
        else:
            member.state, member.bare, member.cursor = presence.state, presence.bare, presence.cursor
        member.hides = False
        self._changed[member.client] = member
        self._due()
        return True

    def get_states(self) -> dict[int, bytes]:
        """Client id that the others see -> JSON text of the state, of all clients that have one."""
        return {member.public_id: bytes(member.state) for member in self._members.values() if member.state is not None}

    def refresh(self, now: float) -> None:
        """Put the states into the next round that were not told for `REFRESH_AFTER_S`; `now` is in s.

        Who missed something is told everything again once it reads; of those that left meanwhile it gets to know by
        their silence.
        """
        for client, member in self._members.items():
            if member.state is not None and now - member.told_at >= REFRESH_AFTER_S:
                member.hides = False
                self._changed[client] = member
            if member.missed:
                self._tell_who_is_here(member)
        if self._changed:
            self._due()

    def send_round(self, now: float = 0.0) -> None:
        """Send what changed since the last round. Who hears the same gets the same frame; nobody hears itself."""
        changed = list(islice(self._changed.values(), MAX_SPEAKERS_OF_A_ROUND))
        for speaker in changed:
            del self._changed[speaker.client]
        records, unknown = self._records(changed)
        for speaker in unknown:
            self._look_up(speaker)
        speakers = [*self._gone, *(speaker for speaker in changed if speaker not in unknown)]
        self._gone.clear()
        for speaker in speakers:
            speaker.told_at = now
            if self.abroad is not None and isinstance(speaker.client, int) and self._is_here(speaker):
                self.abroad(speaker.client, _heard_by(speaker, speaker, records))
        if speakers:
            self._send(speakers, records)
        if self._changed:
            self._due()

    def _send(self, speakers: list[_Member], records: Records) -> None:
        by_public_id = {speaker.public_id: speaker for speaker in speakers}
        messages: dict[tuple[int, int, str], SharedMessage] = {}
        for member in list(self._members.values()):
            if member.send is None:
                continue
            renamed = by_public_id.get(member.own_id)
            silent = member.unique_id if by_public_id.get(member.public_id) is member else 0
            key = (silent, renamed.unique_id if renamed is not None and renamed is not member else 0, member.view)
            message = messages.get(key)
            if message is None:
                heard = {
                    _seen_by(member, other): _heard_by(member, other, records)
                    for other in speakers
                    if other is not member
                }
                if not heard:
                    continue
                message = messages[key] = _update(next(iter(heard)) if len(heard) == 1 else 0, heard)
            if member.send(message) is False:
                member.missed = True

    def _tell_who_is_here(self, hearer: _Member) -> None:
        hearer.missed = False
        others = [other for other in self._members.values() if other.state is not None and other is not hearer]
        records, unknown = self._records(others)
        present = {_seen_by(hearer, one): _heard_by(hearer, one, records) for one in others if one not in unknown}
        if present and hearer.send is not None:
            hearer.missed = hearer.send(_update(0, present)) is False
        for other in unknown:
            self._look_up(other)

    # Where cursors are

    def _records(self, speakers: Iterable[_Member]) -> tuple[Records, set[_Member]]:
        """The records that cursors are in, as far as they are known; and those whose cursor is in another."""
        records: Records = {}
        unknown: set[_Member] = set()
        if self._lookups is not None:
            for speaker in speakers:
                if speaker.cursor is None or speaker.hides:
                    continue
                fields = self._lookups.known(speaker.cursor)
                if isinstance(fields, UnsetType):
                    unknown.add(speaker)
                else:
                    records[speaker.cursor] = fields
        return records, unknown

    def _look_up(self, speaker: _Member) -> None:
        """Let the speaker have its say in a round once it is known what its cursor is in."""
        if self._lookups is not None and speaker.cursor is not None and not speaker.awaits:
            speaker.awaits = True
            cursor = speaker.cursor
            self._lookups.ask(cursor, lambda fields: self._looked_up(speaker, cursor, fields))

    def _looked_up(self, speaker: _Member, cursor: RecordKey, fields: Known) -> None:
        speaker.awaits = False
        if not self._is_here(speaker) or speaker.cursor is None:
            return
        if speaker.cursor == cursor:
            speaker.hides = fields is UNSET
        self._changed[speaker.client] = speaker
        self._due()

    def _is_here(self, member: _Member) -> bool:
        return self._members.get(member.client) is member

    def _due(self) -> None:
        if self._wake is None:
            self.send_round()
        else:
            self._wake()


def _heard_by(hearer: _Member, speaker: _Member, records: Records) -> Raw | None:
    """The state as the hearer gets it: without a cursor that it, or the speaker itself, may not see."""
    cursor = speaker.cursor
    if cursor is None or speaker.state is None:
        return speaker.state
    if cursor not in records:
        return speaker.bare
    record = records[cursor]
    # What a client of another daemon may say was judged there.
    may_say = speaker.send is None or sees(speaker.scopes, cursor.collection, record)
    may_hear = may_say and (hearer.view == speaker.view or sees(hearer.scopes, cursor.collection, record))
    return speaker.state if may_hear else speaker.bare


def _seen_by(hearer: _Member, speaker: _Member) -> int:
    if speaker.public_id != hearer.own_id:
        return speaker.public_id
    # A client may have given itself a number of our range.
    return speaker.unique_id if speaker.unique_id != hearer.own_id else speaker.unique_id + _ASIDE


def _update(client_id: int, states: Mapping[int, Raw | None]) -> SharedMessage:
    named = {str(number): NO_STATE if state is None else state for number, state in states.items()}
    return SharedMessage(AwarenessUpdate(new_id(), client_id, named))
