"""What sessions tell each other beside operations (wire.md section 9): presence, document updates, blobs."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio

from kora_daemon.model.limits import LiveBudget
from kora_daemon.protocol.messages import AwarenessUpdate, BlobRequest, DocumentUpdate, Message
from kora_daemon.server.blob_keeper import BlobKeeper
from kora_daemon.server.blobs import BlobRelay
from kora_daemon.server.clock import now
from kora_daemon.server.documents import DocumentRelay
from kora_daemon.server.hub import Hub, Peer
from kora_daemon.server.lookups import Lookups
from kora_daemon.server.measures import Measures
from kora_daemon.server.readers import Readers
from kora_daemon.server.rooms import AwarenessRooms

_REQUEST_BYTES = 200

log = structlog.get_logger("kora.session")


class SideChannels:
    """Nothing of this is in the log, and all of it stays within scopes (scopes.md section 9)."""

    def __init__(
        self,
        hub: Hub,
        readers: Readers,
        max_awareness_bytes: int,
        group_by: Sequence[str],
        keeper: BlobKeeper | None = None,
        measures: Measures | None = None,
    ) -> None:
        self._lookups = Lookups(hub, readers.current_fields)
        self.awareness = AwarenessRooms(self._lookups, max_awareness_bytes, group_by)
        self.documents = DocumentRelay(hub, self._lookups)
        self.blobs = BlobRelay(hub, readers.blob_references, keeper)
        self.keeper = keeper
        self._budgets: dict[int, LiveBudget] = {}
        self._measures = measures or Measures()

    def share(self, sender: Peer, message: Message) -> None:
        """Take what a session shares, unless that is more than it may."""
        if not self._may_say(sender, message):
            return
        if isinstance(message, AwarenessUpdate):
            self.awareness.update(sender, message.client_id, message.states)
        elif isinstance(message, DocumentUpdate):
            self.documents.share(sender, message)
        else:
            self.blobs.share(sender, message)

    def _may_say(self, sender: Peer, message: Message) -> bool:
        size = _size_of(message)
        if size is None:
            return True
        elapsed_ms = now().elapsed_ms
        budget = self._budgets.get(sender.number)
        if budget is None:
            budget = self._budgets[sender.number] = LiveBudget(elapsed_ms)
        paid = budget.pay(size, elapsed_ms)
        if not paid:
            self._measures.unheard_messages += 1
            if budget.refused == 1:
                log.warning("session.says_too_much", session=sender.number)
        return paid

    def hears(self, peer: Peer) -> bool:
        """Whether a session should be read on."""
        return self.keeper is None or self.keeper.hears(peer.number)

    async def wait(self, peer: Peer) -> None:
        """Return when a session should be read on."""
        if self.keeper is not None:
            await self.keeper.wait(peer.number)

    async def finish(self) -> None:
        """Return when what sessions have handed in is stored, or was dropped."""
        if self.keeper is not None:
            await self.keeper.finish()

    def forget(self, peer: Peer) -> None:
        """A session has ended."""
        self._budgets.pop(peer.number, None)
        self.awareness.remove(peer.number)
        self.blobs.forget(peer)

    async def run(self) -> None:
        """Look records up, send the rounds of presence and pass blob requests on, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lookups.run)
            nursery.start_soon(self.awareness.run)
            nursery.start_soon(self.blobs.run)
            if self.keeper is not None:
                nursery.start_soon(self.keeper.run)


def _size_of(message: Message) -> int | None:
    """What a message costs its sender, in bytes, near enough; None for one that is free.

    An answer to a blob request was asked for, and is taken once: those who ask pay for it. What is pushed has limits
    of its own.
    """
    if isinstance(message, AwarenessUpdate):
        return sum(memoryview(state).nbytes for state in message.states.values())
    if isinstance(message, DocumentUpdate):
        return len(message.update)
    return _REQUEST_BYTES if isinstance(message, BlobRequest) else None
