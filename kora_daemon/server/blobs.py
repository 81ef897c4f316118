"""Blobs that devices ask each other for (wire.md section 9)."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator

import trio
from msgspec import Struct

from kora_daemon.protocol.messages import BlobPush, BlobRequest, BlobResponse, Message
from kora_daemon.server.clock import new_id
from kora_daemon.server.hub import Hub, Peer
from kora_daemon.wire import json as codec

MAX_OPEN_REQUESTS = 10_000
MAX_OPEN_REQUESTS_OF_A_PEER = 64
REQUEST_LIFETIME_S = 30.0
_SHA256 = re.compile("[0-9a-fA-F]{64}")


class _OpenRequest(Struct):
    peer: Peer
    request_id: str
    expires_at: float


class BlobRelay:
    """Passes requests on to those who may have the bytes, and the first answer back."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._requests: OrderedDict[str, _OpenRequest] = OrderedDict()
        """Blob requests on their way, by an id of ours: devices choose theirs freely, they may coincide."""

    def share(self, sender: Peer, message: Message) -> None:
        """Take a request, an answer or a push."""
        if isinstance(message, BlobRequest) and _SHA256.fullmatch(message.hash):
            self._ask(sender, message)
        elif isinstance(message, BlobResponse):
            self._answer(message)
        elif isinstance(message, BlobPush):
            pass  # kept centrally once there is a blob store; without one it is dropped (wire.md section 9)

    def forget(self, peer: Peer) -> None:
        """A peer has left: nobody waits for its answers any more."""
        for own_id in [own_id for own_id, request in self._requests.items() if request.peer is peer]:
            del self._requests[own_id]

    def _audience(self, sender: Peer) -> Iterator[Peer]:
        """Who may hear of a hash that `sender` asks for."""
        if sender.scopes is not None:
            return iter(())
        return (peer for peer in self._hub.streaming() if peer is not sender and peer.scopes is None)

    def _pass_on(self, sender: Peer, message: Message) -> None:
        frame = codec.encode(message)
        for peer in self._audience(sender):
            peer.offer(frame)

    def _ask(self, sender: Peer, message: BlobRequest) -> None:
        self._drop_expired()
        waiting = sum(1 for request in self._requests.values() if request.peer is sender)
        if waiting >= MAX_OPEN_REQUESTS_OF_A_PEER or len(self._requests) >= MAX_OPEN_REQUESTS:
            return
        own_id = new_id()
        self._requests[own_id] = _OpenRequest(sender, message.request_id, trio.current_time() + REQUEST_LIFETIME_S)
        self._pass_on(sender, BlobRequest(message.message_id, own_id, message.hash))

    def _drop_expired(self) -> None:
        while self._requests:
            own_id, oldest = next(iter(self._requests.items()))
            if oldest.expires_at > trio.current_time():
                return
            del self._requests[own_id]

    def _answer(self, message: BlobResponse) -> None:
        if message.bytes is None:
            return
        request = self._requests.pop(message.request_id, None)
        if request is not None:
            answer = BlobResponse(message.message_id, request.request_id, message.bytes)
            request.peer.offer(codec.encode(answer))
