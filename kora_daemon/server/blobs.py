"""Blobs that devices ask for, and what other devices answer (wire.md section 9).

A hash is no capability: who asks has to see a record that refers to it, and only those are asked who see such a record,
too. The parts of a large blob are in no record, but in its manifest: a user who was given a manifest here may ask for
what that lists, as long as the session sees a record with the manifest's hash.

Where blobs are kept centrally the store is asked first. What it lacks and one device gives another it keeps from then
on: not every device pushes what it has.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog
import trio
from msgspec import Struct

from kora_daemon.errors import StoreError
from kora_daemon.materialization.blobs import listed_parts
from kora_daemon.model.scope import ScopeMap
from kora_daemon.model.sight import sees
from kora_daemon.protocol.messages import BlobPush, BlobRequest, BlobResponse, Message
from kora_daemon.server.blob_keeper import BlobKeeper
from kora_daemon.server.clock import new_id
from kora_daemon.server.hub import Hub, Peer
from kora_daemon.server.manifests import HandedManifests
from kora_daemon.server.references import Reference
from kora_daemon.wire.formats import SharedMessage

MAX_OPEN_REQUESTS = 10_000
MAX_OPEN_REQUESTS_OF_A_PEER = 64
REQUEST_LIFETIME_S = 30.0
MAX_ANSWER_LENGTH = 8 << 20
"""Characters of base64. Stock clients cut blobs into parts of 256 KiB."""
DECIDED_AT_ONCE = 8
"""Requests that wait for a look at records or for the store."""
_SHA256 = re.compile("[0-9a-fA-F]{64}")

log = structlog.get_logger("kora.blobs")


Find = Callable[[frozenset[str], ScopeMap | None], Awaitable[Sequence[Reference]]]


class _OpenRequest(Struct, eq=False):
    peer: Peer
    request: BlobRequest
    expires_at: float
    asked: set[int]
    """Numbers of the peers that were asked and have not answered."""
    all_asked: bool = False
    """Nobody else will be."""
    has_waited: bool = False
    """For what was on its way into the store."""
    references: Sequence[Reference] = ()
    """What was found to refer to it."""

    @property
    def hexadecimal(self) -> str:
        """The hash that is asked for, in lower case."""
        return self.request.hash.lower()


class BlobRelay:
    """Passes requests on to those who may have the bytes, and the first right answer back.

    `find` gives the records within some scopes that refer to hashes, perhaps not all of them; may raise StoreError.
    Unrestricted sessions among themselves need no look at records.
    """

    def __init__(self, hub: Hub, find: Find, keeper: BlobKeeper | None = None) -> None:
        self._hub = hub
        self._find = find
        self._keeper = keeper
        self._requests: OrderedDict[str, _OpenRequest] = OrderedDict()
        """By an id of ours: devices choose theirs freely, they may coincide."""
        self._open: Counter[int] = Counter()
        self._undecide, self._undecided = trio.open_memory_channel[str](MAX_OPEN_REQUESTS)
        """Requests that are still to be answered from the store, or passed on to those who have to be found first."""
        self._early: dict[str, list[str]] = {}
        """Hash -> requests that wait until it has come into the store."""
        self._manifests = HandedManifests()
        if keeper is not None:
            keeper.arrived = self._arrived

    def share(self, sender: Peer, message: Message) -> None:
        """Take a request, an answer or, where blobs are kept, a push."""
        if isinstance(message, BlobRequest) and _SHA256.fullmatch(message.hash):
            self._ask(sender, message)
        elif isinstance(message, BlobResponse):
            self._answer(sender, message)
        elif isinstance(message, BlobPush) and self._keeper is not None:
            self._keeper.push(sender, message)

    def forget(self, peer: Peer) -> None:
        """A peer has left: nobody waits for its answers any more."""
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
        if self._keeper is None and self._passed_on_at_once(own_id, request):
            return
        self._queue(own_id)

    def _queue(self, own_id: str) -> None:
        try:
            self._undecide.send_nowait(own_id)
        except trio.WouldBlock:  # what was closed meanwhile stands in there, too
            self._close(own_id)

    def _arrived(self, hexadecimal: str) -> None:
        for own_id in self._early.pop(hexadecimal, ()):
            if own_id in self._requests:
                self._queue(own_id)

    def _passed_on_at_once(self, own_id: str, request: _OpenRequest) -> bool:
        """Pass a request of an unrestricted session on to its like; whether there are no others."""
        if request.peer.scopes is not None:
            return False
        self._pass_on(own_id, request, (peer for peer in self._hub.streaming() if peer.scopes is None))
        if any(peer.scopes is not None for peer in self._hub.streaming()):
            return False
        self._asked_all(own_id, request)
        return True

    async def run(self) -> None:
        """Find out who may know of the hashes that are asked for, for ever."""
        async with trio.open_nursery() as nursery:
            for _ in range(DECIDED_AT_ONCE):
                nursery.start_soon(self._decide_all)

    async def _decide_all(self) -> None:
        async for own_id in self._undecided:
            request = self._requests.get(own_id)
            if request is not None:
                await self._decide(own_id, request)

    async def _decide(self, own_id: str, request: _OpenRequest) -> None:
        # Devices ask as soon as they hear of a record, and its file is pushed right behind. Once: nobody can hold a
        # request up by pushing something else under the same name again and again.
        if self._keeper is not None and not request.has_waited and self._keeper.awaits(request.hexadecimal):
            request.has_waited = True
            self._early.setdefault(request.hexadecimal, []).append(own_id)
            return
        names = self._manifests.names_of(request.peer.user_id, request.hexadecimal)
        if self._keeper is not None and await self._is_done_by(self._keeper, own_id, request, names):
            return
        try:
            found = await self._find(names, request.peer.scopes)
        except StoreError as error:
            log.warning("blobs.not_found_out", error=str(error))
            return
        if own_id not in self._requests:
            return  # it was answered meanwhile, or nobody waits any more
        if found:
            request.references = found
            self._pass_on(own_id, request, (peer for peer in self._hub.streaming() if _sees_one(peer, found)))
        self._asked_all(own_id, request)

    async def _is_done_by(self, keeper: BlobKeeper, own_id: str, request: _OpenRequest, names: frozenset[str]) -> bool:
        """Answer from the store, or pass the request on; whether nobody else has to be found."""
        content = await keeper.lending.find(request.peer, request.hexadecimal, names)
        if own_id not in self._requests:
            return True
        if content is None:
            return self._passed_on_at_once(own_id, request)
        keeper.outcomes.add("served")
        self._give(own_id, request, content.base64, content.parts)
        return True

    def _asked_all(self, own_id: str, request: _OpenRequest) -> None:
        request.all_asked = True
        self._close_if_hopeless(own_id, request)

    def _close_if_hopeless(self, own_id: str, request: _OpenRequest) -> None:
        """Nobody who could have it is left. Whoever asked is not told: there may be somebody else next time."""
        if request.all_asked and not request.asked:
            self._close(own_id)

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
        if self._keeper is not None:
            authors = (one.authors for one in request.references if _sees_one(sender, [one]))
            self._keeper.keep(sender, request.hexadecimal, message.bytes, frozenset().union(*authors))
        self._give(message.request_id, request, message.bytes, listed_parts(content))

    def _give(self, own_id: str, request: _OpenRequest, base64: str, parts: Sequence[str]) -> None:
        """Answer a request."""
        self._close(own_id)
        request.peer.offer(SharedMessage(BlobResponse(new_id(), request.request.request_id, base64)))
        if request.peer.scopes is not None:
            self._manifests.learn(request.peer.user_id, request.hexadecimal, parts)


def _sees_one(peer: Peer, references: Sequence[Reference]) -> bool:
    return peer.scopes is None or any(sees(peer.scopes, key.collection, fields) for key, fields, _ in references)


def _content(base64: str, hexadecimal: str) -> bytes | None:
    """What the text means, None unless it has this SHA-256."""
    if len(base64) > MAX_ANSWER_LENGTH:
        return None
    try:
        content = binascii.a2b_base64(base64, strict_mode=True)
    except ValueError:
        return None
    return content if hashlib.sha256(content).hexdigest() == hexadecimal.lower() else None
