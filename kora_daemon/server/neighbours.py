"""Other daemons on the same database: they hear of our commits, presence and document updates, and we of theirs.

Everything here is a hint or ephemeral. Operations travel in the log alone; a lost word about them costs the time until
the next look at it. Presence is said again every few seconds, in whole: who has missed something catches up, and who
does not speak any more is gone with all its users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
import structlog
import trio
from msgspec import Raw, Struct

from kora_daemon.errors import StoreError
from kora_daemon.protocol.messages import DocumentUpdate
from kora_daemon.server.clock import new_id
from kora_daemon.server.side_channels import SideChannels
from kora_daemon.server.threads import ThreadPool
from kora_daemon.store.channel import Channel

FLUSH_INTERVAL_S = 0.02
"""Between two words of ours: what happens meanwhile goes into one."""
WHOLE_INTERVAL_S = 5.0
SILENT_AFTER_S = 16.0
"""A daemon that was not heard of for three wholes is gone."""
VERSION = 1
"""Of our words. Others are not listened to: what means somebody in them might mean everybody here."""
MAX_STRANGERS = 100
"""Told of in the log, once each."""
MAX_WAITING_BYTES = 8 << 20
"""Of document updates on their way out; further ones are dropped meanwhile: what matters travels in operations, too."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

log = structlog.get_logger("kora.neighbours")

_NULL = Raw(b"null")


class Word(Struct, omit_defaults=True):
    """What one daemon tells the others.

    `here` maps a number of the speaker's to the room that a client is in and its state, null for one that has none any
    more; a `whole` word has all that there are. States hold what their client may say, `updates` are of those who may
    edit the record; who may hear them is for the hearer to judge.
    """

    speaker: str
    version: int = 0
    here: dict[str, tuple[str, Raw]] = {}
    whole: bool = False
    updates: list[tuple[str, str, str, str]] = []


_decode = msgspec.json.Decoder(Word).decode
_encode = msgspec.json.Encoder().encode


class Neighbours:
    """Speaks to the other daemons and hears of them, as long as `speak` and `listen` run.

    `reaches` is told delivery sequences that the log has reached.
    """

    def __init__(self, channel: Channel, side: SideChannels, reaches: Callable[[int], None]) -> None:
        self._channel = channel
        self._side = side
        side.awareness.abroad = self.present
        side.documents.abroad = self.shared
        self._reaches = reaches
        self._id = new_id()
        self._thread = ThreadPool("kora-neighbours", 2)
        self._present: dict[str, tuple[str, Raw]] = {}
        self._changed: dict[str, tuple[str, Raw]] = {}
        self._documents: list[tuple[str, str, str, str]] = []
        self._waiting_bytes = 0
        self._due = trio.Event()
        self._heard_at: dict[str, float] = {}
        self._known: dict[str, set[str]] = {}
        """Speaker -> its clients that are present here."""
        self._strangers: set[str] = set()
        """Speakers whose words are of another version."""

    # What is said here

    def present(self, client: int, room: str, state: Raw | None) -> None:
        """A client of ours has this state in that room, or none any more."""
        number = str(client)
        said = self._present.get(number)
        if state is None:
            self._present.pop(number, None)
        elif said is not None and said[0] == room and bytes(said[1]) == bytes(state):
            return  # only repeated for those who are here
        else:
            self._present[number] = (room, state)
        self._changed[number] = (room, _NULL if state is None else state)
        self._due.set()

    def shared(self, update: DocumentUpdate) -> None:
        """A device of ours shares a document update."""
        if self._waiting_bytes < MAX_WAITING_BYTES:
            self._documents.append((update.collection, update.record_id, update.field, update.update))
            self._waiting_bytes += len(update.update)
            self._due.set()

    async def speak(self) -> None:
        """Say what is new, and from time to time everything, for ever."""
        said_all_at = -WHOLE_INTERVAL_S
        while True:
            with trio.move_on_after(max(0.0, said_all_at + WHOLE_INTERVAL_S - trio.current_time())):
                await self._due.wait()
            self._due = trio.Event()
            if trio.current_time() - said_all_at >= WHOLE_INTERVAL_S:
                said_all_at = trio.current_time()
                word = Word(self._id, VERSION, dict(self._present), True, self._documents)
            else:
                word = Word(self._id, VERSION, self._changed, False, self._documents)
            self._changed, self._documents, self._waiting_bytes = {}, [], 0
            await self._say(_encode(word))
            self._forget_the_silent()
            await trio.sleep(FLUSH_INTERVAL_S)

    async def _say(self, text: bytes) -> None:
        with suppress(StoreError):  # the writer meets the same trouble, and reports it
            await self._thread.run(lambda: self._channel.send(text))

    # What is heard from there

    async def listen(self) -> None:
        """Take in what others say, for ever; connects again, and looks at the log, when the connection is lost."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._thread.run(self._channel.open)
                pause_s = FIRST_PAUSE_S
                while True:
                    await trio.lowlevel.wait_readable(self._channel.fileno())
                    self._take(*await self._thread.run(self._channel.drain))
            except (StoreError, OSError) as error:
                log.warning("neighbours.lost", error=str(error))
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _take(self, frontier: int | None, words: list[bytes]) -> None:
        if frontier is not None:
            self._reaches(frontier)
        for text in words:
            try:
                word = _decode(text)
            except (msgspec.DecodeError, RecursionError) as error:
                log.warning("neighbours.not_understood", error=str(error))
                continue
            if word.version != VERSION:
                self._ignore(word.speaker)
            elif word.speaker != self._id:
                self._hear(word)

    def _ignore(self, speaker: str) -> None:
        if speaker not in self._strangers and len(self._strangers) < MAX_STRANGERS:
            self._strangers.add(speaker)
            log.warning("neighbours.other_version", speaker=speaker)

    def _hear(self, word: Word) -> None:
        self._heard_at[word.speaker] = trio.current_time()
        known = self._known.setdefault(word.speaker, set())
        if word.whole:
            for number in known - word.here.keys():
                self._left(word.speaker, number)
        self._see(word.speaker, word.here)
        for collection, record_id, field, update in word.updates:
            self._side.documents.hear(DocumentUpdate(new_id(), collection, record_id, field, update))

    def _see(self, speaker: str, here: Mapping[str, tuple[str, Raw]]) -> None:
        known = self._known[speaker]
        for number, (room, state) in here.items():
            if state == _NULL:
                self._left(speaker, number)
            else:
                known.add(number)
                self._side.awareness.add_distant(room, f"{speaker}/{number}", state)

    def _left(self, speaker: str, number: str) -> None:
        self._known[speaker].discard(number)
        self._side.awareness.remove_distant(f"{speaker}/{number}")

    def _forget_the_silent(self) -> None:
        now = trio.current_time()
        for speaker in [one for one, heard_at in self._heard_at.items() if now - heard_at > SILENT_AFTER_S]:
            for number in list(self._known[speaker]):
                self._left(speaker, number)
            del self._heard_at[speaker], self._known[speaker]
