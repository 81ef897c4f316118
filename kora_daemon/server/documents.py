"""Document updates: what devices tell each other about a text while it is typed (wire.md section 9).

Not stored; what matters travels in operations, too. So whatever can't be judged or kept waiting is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from msgspec import UNSET, UnsetType

from kora_daemon.model.record import RecordKey
from kora_daemon.model.sight import edits, edits_at_once, sees, sees_at_once
from kora_daemon.protocol.messages import DocumentUpdate
from kora_daemon.server.hub import Hub, Peer
from kora_daemon.server.lookups import Known, Lookups
from kora_daemon.wire.formats import SharedMessage

MAX_UPDATE_LENGTH = 1 << 20
"""Characters of base64. Updates are increments."""
MAX_HELD_OF_A_SENDER = 256
MAX_HELD_BYTES_OF_A_SENDER = 2 << 20
MAX_HELD_BYTES = 32 << 20
"""Of updates that wait until their record is looked up; further ones are dropped."""
_ABROAD = 0
"""The sender of what comes from other daemons; peers have numbers from 1."""


class DocumentRelay:
    """Passes updates on to those who may see the record, from those who may edit it (scopes.md section 9).

    Updates of one document keep their order: while one waits for the record, all that follow wait behind it.
    """

    def __init__(self, hub: Hub, lookups: Lookups) -> None:
        self._hub = hub
        self._lookups = lookups
        self.abroad: Callable[[DocumentUpdate], None] | None = None
        """Is given each update that a device of ours may share."""
        self._held: Counter[int] = Counter()
        self._held_bytes: Counter[int] = Counter()
        """Sender -> how much of it waits."""

    def share(self, sender: Peer, update: DocumentUpdate) -> None:
        """Take what a device of ours shares."""
        if len(update.update) > MAX_UPDATE_LENGTH:
            return
        may_edit = edits_at_once(sender.scopes, update.collection)
        if may_edit:
            self._accept(sender, update)
        elif may_edit is None:

            def judge(record: Known) -> None:
                if not isinstance(record, UnsetType) and edits(sender.scopes, update.collection, record):
                    self._accept(sender, update, record)

            self._once_known(sender.number, update, judge)

    def _accept(self, sender: Peer, update: DocumentUpdate, record: Known = UNSET) -> None:
        self._spread(sender, update, record)
        if self.abroad is not None:
            self.abroad(update)

    def hear(self, update: DocumentUpdate) -> None:
        """Take what a device of another daemon shares, which has judged it."""
        self._spread(None, update, UNSET)

    def _spread(self, sender: Peer | None, update: DocumentUpdate, record: Known) -> None:
        message = SharedMessage(update)
        undecided: list[Peer] = []
        for peer in self._hub.streaming():
            if peer is sender:
                continue
            may_see = sees_at_once(peer.scopes, update.collection)
            if may_see:
                peer.offer(message)
            elif may_see is None:
                undecided.append(peer)

        def tell(record: Known) -> None:
            if isinstance(record, UnsetType):
                return
            for peer in undecided:
                if sees(peer.scopes, update.collection, record):
                    peer.offer(message)

        # What its sender was judged by is good for all. Another question would put it behind updates that came later.
        if not isinstance(record, UnsetType):
            tell(record)
        elif undecided:
            self._once_known(_ABROAD if sender is None else sender.number, update, tell)

    def _once_known(self, sender: int, update: DocumentUpdate, then: Callable[[Known], None]) -> None:
        key = RecordKey(update.collection, update.record_id)
        record = self._lookups.known(key)
        if not isinstance(record, UnsetType):
            then(record)
            return
        size = len(update.update)
        if not self._has_room(sender, size):
            return
        self._held[sender] += 1
        self._held_bytes[sender] += size

        def release(found: Known) -> None:
            self._held[sender] -= 1
            self._held_bytes[sender] -= size
            if not self._held[sender]:
                del self._held[sender], self._held_bytes[sender]
            then(found)

        self._lookups.ask(key, release)

    def _has_room(self, sender: int, size: int) -> bool:
        return (
            self._held[sender] < MAX_HELD_OF_A_SENDER
            and self._held_bytes[sender] + size <= MAX_HELD_BYTES_OF_A_SENDER
            and self._held_bytes.total() + size <= MAX_HELD_BYTES
        )
