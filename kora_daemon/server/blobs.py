"""Blobs that devices ask each other for (wire.md section 9).

A hash is no capability: who asks has to see a record that refers to it, and only those are asked who see such a record,
too. The parts of a large blob are in no record, but in its manifest: a session that was given a manifest here may ask
for what that lists, as long as it sees a record with the manifest's hash.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import structlog
import trio
from msgspec import Struct

from kora_daemon.errors import StoreError
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import Fields, ScopeMap
from kora_daemon.model.sight import sees
from kora_daemon.protocol.messages import BlobRequest, BlobResponse, Message
from kora_daemon.server.clock import new_id
from kora_daemon.server.hub import Hub, Peer
from kora_daemon.wire.formats import SharedMessage

MAX_OPEN_REQUESTS = 10_000
MAX_OPEN_REQUESTS_OF_A_PEER = 64
REQUEST_LIFETIME_S = 30.0
MAX_ANSWER_LENGTH = 8 << 20
"""Characters of base64. Stock clients cut blobs into parts of 256 KiB."""
MAX_MANIFEST_BYTES = 4 << 20
MAX_PARTS_OF_A_PEER = 50_000
MAX_PARTS = 200_000
"""Of manifests that sessions were given; the session that was given one longest ago loses its own first."""
_SHA256 = re.compile("[0-9a-fA-F]{64}")

log = structlog.get_logger("kora.blobs")


class Reference(NamedTuple):
    """A record that refers to a hash, with its fields."""

    key: RecordKey
    fields: Fields


Find = Callable[[frozenset[str], ScopeMap | None], Awaitable[Sequence[Reference]]]


class _OpenRequest(Struct, eq=False):
    peer: Peer
    request: BlobRequest
    expires_at: float
    asked: set[int]
    """Numbers of the peers that were asked and have not answered."""
    all_asked: bool = False
    """Nobody else will be."""


class _Manifest(Struct):
    parts: list[str] = msgspec.field(name="chunkHashes")


_read_manifest = msgspec.json.Decoder(_Manifest).decode


class BlobRelay:
    """Passes requests on to those who may have the bytes, and the first right answer back.

    `find` gives the records within some scopes that refer to hashes, perhaps not all of them; may raise StoreError.
    Unrestricted sessions among themselves need no look at records.
    """

    def __init__(self, hub: Hub, find: Find) -> None:
        self._hub = hub
        self._find = find
        self._requests: OrderedDict[str, _OpenRequest] = OrderedDict()
        """By an id of ours: devices choose theirs freely, they may coincide."""
        self._open: Counter[int] = Counter()
        self._undecided: deque[str] = deque()
        """Requests that are still to be passed on to those of whom it has to be found out."""
        self._came = trio.Event()
        self._parts: OrderedDict[int, dict[bytes, str]] = OrderedDict()
        """Session -> hash of a part -> hash of the manifest that it was given."""

    def share(self, sender: Peer, message: Message) -> None:
        """Take a request or an answer. Pushes are kept once there is a blob store, without one they are dropped."""
        if isinstance(message, BlobRequest) and _SHA256.fullmatch(message.hash):
            self._ask(sender, message)
        elif isinstance(message, BlobResponse):
            self._answer(sender, message)

    def forget(self, peer: Peer) -> None:
        """A peer has left: nobody waits for its answers any more."""
        self._parts.pop(peer.number, None)
        if self._open[peer.number]:
            for own_id in [own_id for own_id, request in self._requests.items() if request.peer is peer]:
                self._close(own_id)
        del self._open[peer.number]

    # Requests

    def _ask(self, sender: Peer, message: BlobRequest) -> None:
        self._drop_expired()
        if self._open[sender.number] >= MAX_OPEN_REQUESTS_OF_A_PEER or len(self._requests) >= MAX_OPEN_REQUESTS:
            return
        own_id = new_id()
        request = _OpenRequest(sender, message, trio.current_time() + REQUEST_LIFETIME_S, set())
        self._requests[own_id] = request
        self._open[sender.number] += 1
        if sender.scopes is None:
            self._pass_on(own_id, request, (peer for peer in self._hub.streaming() if peer.scopes is None))
            if all(peer.scopes is None for peer in self._hub.streaming()):
                self._asked_all(own_id, request)
                return
        self._undecided.append(own_id)
        self._came.set()

    async def run(self) -> None:
        """Find out who may know of the hashes that are asked for, for ever."""
        while True:
            while not self._undecided:
                self._came = trio.Event()
                await self._came.wait()
            own_id = self._undecided.popleft()
            request = self._requests.get(own_id)
            if request is not None:
                await self._decide(own_id, request)

    async def _decide(self, own_id: str, request: _OpenRequest) -> None:
        scopes = request.peer.scopes
        try:
            found = await self._find(self._names_of(request), scopes)
        except StoreError as error:
            log.warning("blobs.not_found_out", error=str(error))
            return
        if own_id not in self._requests:
            return  # it was answered meanwhile, or nobody waits any more
        if found:
            self._pass_on(own_id, request, (peer for peer in self._hub.streaming() if _sees_one(peer, found)))
        self._asked_all(own_id, request)

    def _asked_all(self, own_id: str, request: _OpenRequest) -> None:
        request.all_asked = True
        self._close_if_hopeless(own_id, request)

    def _close_if_hopeless(self, own_id: str, request: _OpenRequest) -> None:
        """Nobody who could have it is left. Whoever asked is not told: there may be somebody else next time."""
        if request.all_asked and not request.asked:
            self._close(own_id)

    def _names_of(self, request: _OpenRequest) -> frozenset[str]:
        """The hashes by which records may refer to what is asked for."""
        hexadecimal = request.request.hash.lower()
        manifest = self._parts.get(request.peer.number, {}).get(bytes.fromhex(hexadecimal))
        return frozenset([hexadecimal] if manifest is None else [hexadecimal, manifest])

    def _pass_on(self, own_id: str, request: _OpenRequest, peers: Iterable[Peer]) -> None:
        question = SharedMessage(BlobRequest(request.request.message_id, own_id, request.request.hash))
        for peer in peers:
            if peer is not request.peer and peer.number not in request.asked and peer.offer(question):
                request.asked.add(peer.number)

    def _drop_expired(self) -> None:
        while self._requests:
            own_id, oldest = next(iter(self._requests.items()))
            if oldest.expires_at > trio.current_time():
                return
            self._close(own_id)

    def _close(self, own_id: str) -> None:
        request = self._requests.pop(own_id)
        self._open[request.peer.number] -= 1

    # Answers

    def _answer(self, sender: Peer, message: BlobResponse) -> None:
        """Take an answer of somebody who was asked, once. One that is not what was asked for is no answer."""
        request = self._requests.get(message.request_id)
        if request is None or sender.number not in request.asked:
            return
        request.asked.discard(sender.number)
        content = None if message.bytes is None else _content(message.bytes, request.request.hash)
        if message.bytes is None or content is None:
            if message.bytes is not None:
                log.warning("blobs.wrong_answer", session=sender.number)
            self._close_if_hopeless(message.request_id, request)
            return
        self._close(message.request_id)
        answer = BlobResponse(message.message_id, request.request.request_id, message.bytes)
        request.peer.offer(SharedMessage(answer))
        if request.peer.scopes is not None:
            self._learn(request.peer.number, request.request.hash.lower(), content)

    def _learn(self, session: int, manifest: str, content: bytes) -> None:
        """Note what a manifest lists, if it is one."""
        parts = _parts(content)
        if not parts:
            return
        known = self._parts.pop(session, {})
        if len(known) + len(parts) > MAX_PARTS_OF_A_PEER:
            known = {}
        known |= dict.fromkeys(parts, manifest)
        self._parts[session] = known
        while sum(map(len, self._parts.values())) > MAX_PARTS:
            self._parts.popitem(last=False)


def _sees_one(peer: Peer, references: Sequence[Reference]) -> bool:
    return peer.scopes is None or any(sees(peer.scopes, key.collection, fields) for key, fields in references)


def _content(base64: str, hexadecimal: str) -> bytes | None:
    """What the text means, None unless it has this SHA-256."""
    if len(base64) > MAX_ANSWER_LENGTH:
        return None
    try:
        content = binascii.a2b_base64(base64, strict_mode=True)
    except ValueError:
        return None
    return content if hashlib.sha256(content).hexdigest() == hexadecimal.lower() else None


def _parts(content: bytes) -> list[bytes]:
    """The hashes that a manifest lists; nothing when it is none, or too large."""
    if content[:1] != b"{" or len(content) > MAX_MANIFEST_BYTES:
        return []
    try:
        listed = _read_manifest(content).parts
    except (msgspec.DecodeError, RecursionError):
        return []
    parts = [bytes.fromhex(part) for part in listed if _SHA256.fullmatch(part)]
    return parts if len(parts) <= MAX_PARTS_OF_A_PEER else []
