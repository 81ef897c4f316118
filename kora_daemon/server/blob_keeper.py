"""Keeping blobs centrally: takes what devices push, and what one of them gives to another (wire.md section 9)."""

from __future__ import annotations

import binascii
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial

import structlog
import trio
from msgspec import Struct

from kora_daemon.errors import StoreError
from kora_daemon.materialization.blobs import is_blob_hash, listed_parts
from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.model.sight import edits_something
from kora_daemon.protocol.messages import BlobPush
from kora_daemon.server.blob_lending import BlobLending
from kora_daemon.server.clock import wall_ms
from kora_daemon.server.hub import Peer
from kora_daemon.server.measures import BLOB_OUTCOMES, Counts
from kora_daemon.server.news import News
from kora_daemon.server.threads import ThreadPool
from kora_daemon.server.unused_blobs import UnusedBlobs
from kora_daemon.server.visible import ScopedFields
from kora_daemon.store.blobs.contract import BlobStore, Kept, holder_of, sha256_of
from kora_daemon.store.contract import Store

THREADS = 4
"""That write, and as many that read."""
MAX_WAITING_OF_A_SESSION = 2 << 20
MAX_WAITING_BYTES = 32 << 20
"""Of pushes, in characters of base64. Above the one a session is not read until there is less of its own to be stored,
above the other none that has something to be stored is."""
DROPPED_ABOVE_BYTES = 96 << 20
"""Of all sessions together, since each of them may bring one message before it is not read any more."""
PATIENCE_S = 10.0
"""How long a session is not read because the disk is slow. After that it is, and what it pushes meanwhile is dropped:
its operations must not wait for a disk that hangs."""
log = structlog.get_logger("kora.blobs")


class BlobRules(Struct, frozen=True):
    """What may be kept, see `[blobs]`. Sizes in bytes, 0 = any number but for the first."""

    max_blob_bytes: int = 8 << 20
    max_unused_bytes: int = 4 << 30


class _Offer(Struct):
    """A content on its way into the store."""

    session: int
    user: str
    hexadecimal: str
    base64: str
    nodes: frozenset[str]
    """That have it."""


class BlobKeeper:
    """Between sessions and a blob store, as long as `run` runs.

    A push is answered with nothing, whatever becomes of it: nobody is told whether something was there.
    """

    def __init__(
        self, blobs: BlobStore, store: Store, scoped: ScopedFields, rules: BlobRules, outcomes: Counts | None = None
    ) -> None:
        self._blobs = blobs
        self._store = store
        self._rules = rules
        self.lending = BlobLending(blobs, store, scoped, rules.max_blob_bytes)
        self._unused = UnusedBlobs(rules.max_unused_bytes, self._is_settled)
        self._writers = ThreadPool("kora-blob-writer", THREADS)
        self._offers: deque[_Offer] = deque()
        self._work = trio.Semaphore(0)
        self._waiting: Counter[int] = Counter()
        """Session -> characters of what it has pushed and is not stored yet."""
        self._waiting_bytes = 0
        self._room = trio.Event()
        self._impatient: set[int] = set()
        """Sessions that were not read for too long."""
        self._arriving: Counter[str] = Counter()
        """What is on its way into the store."""
        self.arrived: Callable[[str], None] | None = None
        """Is given the hash of what has come, whatever became of it, and whether more of that name is to come."""
        self._news = News()
        self.outcomes = outcomes or Counts(BLOB_OUTCOMES)

    # Pushes

    def push(self, peer: Peer, message: BlobPush) -> None:
        """Take what a device offers, if it may offer something."""
        if not edits_something(peer.scopes):
            self._drop("read_only")
        elif len(message.bytes) // 4 * 3 > self._rules.max_blob_bytes + 2:
            self._drop("too_large")
        elif is_blob_hash(message.hash):
            self._offer(peer, message.hash, message.bytes, frozenset([peer.node_id]))

    def keep(self, peer: Peer, hexadecimal: str, base64: str, authors: Iterable[str]) -> None:
        """Take what a device has given to another, for a record into which `authors` have written the reference."""
        if len(base64) // 4 * 3 <= self._rules.max_blob_bytes:
            self._offer(peer, hexadecimal, base64, frozenset([peer.node_id, *authors]))

    def _offer(self, peer: Peer, hexadecimal: str, base64: str, nodes: frozenset[str]) -> None:
        size = len(base64)
        if self._is_full_for(peer.number) or self._waiting_bytes + size > DROPPED_ABOVE_BYTES:
            self._drop("busy")
            return
        self._waiting[peer.number] += size
        self._waiting_bytes += size
        self._arriving[hexadecimal] += 1
        self._offers.append(_Offer(peer.number, peer.user_id, hexadecimal, base64, nodes))
        self._work.release()

    def _is_full_for(self, session: int) -> bool:
        waiting = self._waiting.get(session)
        return waiting is not None and (waiting >= MAX_WAITING_OF_A_SESSION or self._waiting_bytes >= MAX_WAITING_BYTES)

    def awaits(self, hexadecimal: str) -> bool:
        """Whether a content of this name is on its way into the store; `arrived` is called when it has come."""
        return hexadecimal in self._arriving

    def hears(self, session: int) -> bool:
        """Whether this session should be read on."""
        return not self._waiting or session in self._impatient or not self._is_full_for(session)

    async def wait(self, session: int) -> None:
        """Return when this session should be read on, or has waited long enough."""
        with trio.move_on_after(PATIENCE_S) as patience:
            while not self.hears(session):
                await self._room.wait()
        if patience.cancelled_caught:
            self._impatient.add(session)

    async def run(self) -> None:
        """Store what is offered, for ever."""
        async with trio.open_nursery() as nursery:
            for _ in range(THREADS):
                nursery.start_soon(self._store_offers)

    async def finish(self) -> None:
        """Return when nothing waits any more."""
        while self._waiting:
            await self._room.wait()

    async def _store_offers(self) -> None:
        while True:
            await self._work.acquire()
            offer = self._offers.popleft()
            try:
                problem = await self._writers.run(partial(self._try_to_store, offer))
            finally:
                self._stored(offer)
            if problem is None:
                self.outcomes.add("stored")
            else:
                self._drop(problem)

    def _stored(self, offer: _Offer) -> None:
        size = len(offer.base64)
        self._waiting_bytes -= size
        self._waiting[offer.session] -= size
        self._arriving[offer.hexadecimal] -= 1
        if not self._arriving[offer.hexadecimal]:
            del self._arriving[offer.hexadecimal]
        if self.arrived is not None:
            self.arrived(offer.hexadecimal)
        if not self._waiting[offer.session]:
            del self._waiting[offer.session]
            self._impatient.discard(offer.session)
        self._room.set()
        self._room = trio.Event()

    def _try_to_store(self, offer: _Offer) -> str | None:
        """In a thread: store it; why that was not done."""
        content = _decoded(offer.base64)
        if content is None or sha256_of(content) != offer.hexadecimal:
            return "wrong"
        if len(content) > self._rules.max_blob_bytes:
            return "too_large"
        try:
            return self._put(offer, content)
        except StoreError as error:
            self._failed(error)
            return "unavailable"

    def _put(self, offer: _Offer, content: bytes) -> str | None:
        is_new = not self._blobs.has(offer.hexadecimal)
        if is_new and not self._unused.charge(offer.user, offer.hexadecimal, len(content)):
            return "unused"
        kept = None
        try:
            kept = self._blobs.put(offer.hexadecimal, content, set(map(holder_of, offer.nodes)), wall_ms())
        finally:
            if is_new and kept is not Kept.NEW:
                self._unused.refund(offer.user, offer.hexadecimal)
        if kept is Kept.FULL:
            return "full"
        self._unused.stored(offer.user, offer.hexadecimal, listed_parts(content))
        return None

    def _is_settled(self, hexadecimal: str) -> bool:
        return bool(self._store.blob_references(hexadecimal, [Selector("")], 1)) or not self._blobs.has(hexadecimal)

    # What is told

    def _drop(self, reason: str) -> None:
        self.outcomes.add(reason)
        if self._news.is_news(reason):
            log.warning("blobs.dropped", reason=reason, so_far=self.outcomes.by_name[reason])

    def _failed(self, error: StoreError) -> None:
        if self._news.is_news("failed"):
            log.warning("blobs.failed", error=str(error))


def _decoded(base64: str) -> bytes | None:
    try:
        return binascii.a2b_base64(base64, strict_mode=True)
    except ValueError:
        return None
