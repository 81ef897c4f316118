"""What sessions tell each other beside operations (wire.md section 9): presence, document updates, blobs."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from kora_daemon.protocol.messages import AwarenessUpdate, DocumentUpdate, Message
from kora_daemon.server.blobs import BlobRelay
from kora_daemon.server.documents import DocumentRelay
from kora_daemon.server.hub import Hub, Peer
from kora_daemon.server.lookups import Lookups
from kora_daemon.server.readers import Readers
from kora_daemon.server.rooms import AwarenessRooms


class SideChannels:
    """Nothing of this is stored, and all of it stays within scopes (scopes.md section 9)."""

    def __init__(self, hub: Hub, readers: Readers, max_awareness_bytes: int, group_by: Sequence[str]) -> None:
        self._lookups = Lookups(hub, readers.current_fields)
        self.awareness = AwarenessRooms(self._lookups, max_awareness_bytes, group_by)
        self.documents = DocumentRelay(hub, self._lookups)
        self.blobs = BlobRelay(hub, readers.blob_references)

    def share(self, sender: Peer, message: Message) -> None:
        """Take what a session shares."""
        if isinstance(message, AwarenessUpdate):
            self.awareness.update(sender, message.client_id, message.states)
        elif isinstance(message, DocumentUpdate):
            self.documents.share(sender, message)
        else:
            self.blobs.share(sender, message)

    def forget(self, peer: Peer) -> None:
        """A session has ended."""
        self.awareness.remove(peer.number)
        self.blobs.forget(peer)

    async def run(self) -> None:
        """Look records up, send the rounds of presence and pass blob requests on, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lookups.run)
            nursery.start_soon(self.awareness.run)
            nursery.start_soon(self.blobs.run)
