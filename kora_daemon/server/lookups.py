"""What records are now, for judging live traffic that concerns them; remembered until they change.

One task asks the store for all that is wanted, a batch at a time. What changes a record passes by in the tail of the
log, so nothing that is remembered here is older than what sessions are sent from there. (What another daemon commits
gets into the tail a moment later, for both.)
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeAlias

import msgspec
import structlog
import trio
from msgspec import UNSET, Struct, UnsetType

from kora_daemon.errors import StoreError
from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.jsvalue import has_lone_surrogate
from kora_daemon.model.operation import MAX_NAME_LENGTH
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import Fields
from kora_daemon.server.hub import Hub

MAX_REMEMBERED = 4_096
"""Records; the one that was not asked about for longest goes first."""
MAX_TEXT_LENGTH = 255
"""Characters. Longer texts are not kept: no scope is told by them here."""
MAX_WAITING = 4_096
"""Records to look up; whoever asks about a further one is told at once that there is no answer."""
MAX_BATCH = 500
MAX_ENTRIES_BEHIND = 5_000
"""When more than that was written since the last question, everything is forgotten instead."""

Known: TypeAlias = Fields | UnsetType | None
"""The scalar fields of a record, None where there is no record, UNSET when nothing is known."""
Then: TypeAlias = Callable[[Known], None]
Read: TypeAlias = Callable[[Iterable[RecordKey]], Awaitable[Mapping[RecordKey, dict[str, Any]]]]

log = structlog.get_logger("kora.lookups")


class _Subject(Struct):
    collection: str
    record_id: str = msgspec.field(name="recordId")


_subject_of = msgspec.json.Decoder(_Subject).decode


class Lookups:
    """Answers as long as `run` does. `read` gets the current fields of records, and may raise StoreError."""

    def __init__(self, hub: Hub, read: Read) -> None:
        self._hub = hub
        self._read = read
        self._tail = hub.tail
        self._upto = hub.tail.frontier
        self._remembered: OrderedDict[RecordKey, Fields | None] = OrderedDict()
        self._waiting: dict[RecordKey, list[Then]] = {}
        self._reading: dict[RecordKey, list[Then]] = {}
        self._outdated: set[RecordKey] = set()
        """Of those that are being read: changed since, so that what is read may be what they were before."""
        self._asked = trio.Event()

    def known(self, key: RecordKey) -> Known:
        """What the record is, if that is at hand; UNSET: `ask`. May be UNSET again right after an answer."""
        self._forget_changed()
        if key not in self._remembered:
            return UNSET if _can_exist(key) else None
        self._remembered.move_to_end(key)
        return self._remembered[key]

    def ask(self, key: RecordKey, then: Then) -> None:
        """Find out what the record is and call `then`; with UNSET when the store did not answer.

        Calls about one record are made in the order of the questions, and until the last of them was made the record
        is not `known`. How many questions wait is for whoever asks to limit.
        """
        if not _can_exist(key):
            then(None)
        elif key in self._reading and key not in self._outdated:
            self._reading[key].append(then)
        elif key in self._waiting or len(self._waiting) < MAX_WAITING:
            self._waiting.setdefault(key, []).append(then)
            self._asked.set()
        else:
            then(UNSET)

    async def run(self) -> None:
        """Answer, for ever."""
        while True:
            if not self._waiting:
                self._asked = trio.Event()
                await self._asked.wait()
            await self._answer_some()

    async def _answer_some(self) -> None:
        self._forget_changed()
        self._outdated.clear()
        self._reading = {key: self._waiting.pop(key) for key in list(islice(self._waiting, MAX_BATCH))}
        answers: dict[RecordKey, Known] = {}
        try:
            found = await self._read(list(self._reading))
            answers = {key: _scalars(found[key]) if key in found else None for key in self._reading}
        except StoreError as error:
            log.warning("lookups.failed", error=str(error))
        self._forget_changed()
        for key, fields in answers.items():
            if key not in self._outdated and not isinstance(fields, UnsetType):
                self._remembered[key] = fields
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        answered, self._reading = self._reading, {}
        for key, calls in answered.items():
            for call in calls:
                call(answers.get(key, UNSET))

    def _forget_changed(self) -> None:
        tail = self._hub.tail
        if tail is self._tail and tail.frontier == self._upto:
            return
        written = tail.entries_after(self._upto, MAX_ENTRIES_BEHIND) if tail is self._tail else None
        self._tail, self._upto = tail, tail.frontier
        if written is None:
            self._remembered.clear()
            self._outdated.update(self._reading)
            return
        for entry in written:
            key = _record_of(entry)
            self._remembered.pop(key, None)
            if key in self._reading:
                self._outdated.add(key)


def _record_of(entry: DeliveryEntry) -> RecordKey:
    try:
        subject = _subject_of(entry.body)
    except msgspec.DecodeError:  # half a surrogate pair somewhere
        operation = json.loads(entry.body)
        return RecordKey(operation["collection"], operation["recordId"])
    return RecordKey(subject.collection, subject.record_id)


def _can_exist(key: RecordKey) -> bool:
    """Whether a record can be called so: what comes from a peer may be any text, and a store need not take it."""
    return all(0 < len(name) <= MAX_NAME_LENGTH and not has_lone_surrogate(name) for name in key)


def _scalars(fields: Mapping[str, Any]) -> Fields:
    """What scopes can be told by: lists and objects equal nothing (scopes.md section 3)."""
    return {
        name: value
        for name, value in fields.items()
        if value is None or isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_TEXT_LENGTH)
    }
