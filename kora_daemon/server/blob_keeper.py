"""Keeping blobs centrally: takes what devices push, and gives it to who may have it (wire.md section 9).

A hash is no capability. Who asks has to see a record that refers to it, and that alone does not do: anybody can write a
hash into a record of their own. So the device that has written the reference must have shown that it has the content,
by pushing it or by giving it to another device. In other words, the store gives what that device would give, were it
there.
"""

from __future__ import annotations

import binascii
from collections import Counter, deque
from collections.abc import Iterable
from functools import partial
from time import monotonic
from typing import NamedTuple

import structlog
import trio
from msgspec import Struct

from kora_daemon.errors import StoreCorrupt, StoreError
from kora_daemon.materialization.blobs import is_blob_hash, listed_parts
from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import ScopeMap
from kora_daemon.model.sight import edits_something
from kora_daemon.protocol.messages import BlobPush
from kora_daemon.server.clock import wall_ms
from kora_daemon.server.hub import Peer
from kora_daemon.server.measures import BLOB_OUTCOMES, Counts
from kora_daemon.server.references import candidates, visible
from kora_daemon.server.threads import ThreadPool
from kora_daemon.server.unused_blobs import UnusedBlobs
from kora_daemon.server.visible import ScopedFields
from kora_daemon.store.blobs.contract import ANYBODY, BlobStore, Kept, holder_of, sha256_of
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
FIND_PATIENCE_S = 5.0
REST_S = 30.0
"""A store that did not find something in that time is left alone for this time: other devices may have it."""
TOLD_INTERVAL_S = 60.0
"""Between two lines of the log about the same thing."""

log = structlog.get_logger("kora.blobs")


class BlobRules(Struct, frozen=True):
    """What may be kept, see `[blobs]`. Sizes in bytes, 0 = any number but for the first."""

    max_blob_bytes: int = 8 << 20
    max_unused_bytes: int = 4 << 30


class Content(NamedTuple):
    """A content as it travels, and the parts it lists if it is a manifest."""

    base64: str
    parts: list[str]


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
        self._scoped = scoped
        self._rules = rules
        self._unused = UnusedBlobs(rules.max_unused_bytes, self._is_settled)
        self._writers = ThreadPool("kora-blob-writer", THREADS)
        self._readers = ThreadPool("kora-blob-reader", THREADS)
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
        self._not_asked_before = 0.0
        self._told_at: dict[str, float] = {}
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

    # Requests

    async def find(self, peer: Peer, hexadecimal: str, names: frozenset[str]) -> Content | None:
        """A content, if it is kept and the device may have it; `names` are those by which records may refer to it."""
        granted, scopes = peer.granted, peer.scopes
        if trio.current_time() < self._not_asked_before:
            return None
        found = None
        with trio.move_on_after(FIND_PATIENCE_S) as patience:
            while self._arriving[hexadecimal]:
                await self._room.wait()
            try:
                found = await self._readers.run_abandonable(lambda: self._find(hexadecimal, names, granted, scopes))
            except StoreCorrupt as error:
                if self._is_news("damaged"):
                    log.error("blobs.damaged", error=str(error))
            except StoreError as error:
                self._failed(error)
        if patience.cancelled_caught:
            self._not_asked_before = trio.current_time() + REST_S
            log.warning("blobs.slow", hint="what keeps the blobs takes long to answer; devices are asked instead")
        if found is not None:
            self.outcomes.add("served")
        return found

    def _find(
        self, hexadecimal: str, names: frozenset[str], granted: ScopeMap | None, scopes: ScopeMap | None
    ) -> Content | None:
        if not self._blobs.has(hexadecimal) or not self._may_have(hexadecimal, names, granted, scopes):
            return None
        content = self._blobs.get(hexadecimal)
        if content is None:
            return None
        return Content(binascii.b2a_base64(content, newline=False).decode(), listed_parts(content))

    def _may_have(
        self, hexadecimal: str, names: frozenset[str], granted: ScopeMap | None, scopes: ScopeMap | None
    ) -> bool:
        if scopes is None:
            return True
        found = candidates(self._store, names, scopes, self._scoped)
        if granted is not None:
            found = self._vouched_for(hexadecimal, found)
        return bool(visible(self._store, found, names, scopes))

    def _vouched_for(self, hexadecimal: str, found: dict[RecordKey, set[str]]) -> dict[RecordKey, set[str]]:
        """The records into which somebody has written the reference who has the content."""
        authors = {node_id: holder_of(node_id) for nodes in found.values() for node_id in nodes}
        holding = self._blobs.held_by(hexadecimal, {*authors.values(), ANYBODY}) if found else set()
        if ANYBODY in holding:
            return found
        return {key: nodes for key, nodes in found.items() if any(authors[one] in holding for one in nodes)}

    # What is told

    def _drop(self, reason: str) -> None:
        self.outcomes.add(reason)
        if self._is_news(reason):
            log.warning("blobs.dropped", reason=reason, so_far=self.outcomes.by_name[reason])

    def _failed(self, error: StoreError) -> None:
        if self._is_news("failed"):
            log.warning("blobs.failed", error=str(error))

    def _is_news(self, what: str) -> bool:
        """Whether it is to be told: not again and again, whoever it comes from."""
        if monotonic() - self._told_at.get(what, -TOLD_INTERVAL_S) < TOLD_INTERVAL_S:
            return False
        self._told_at[what] = monotonic()
        return True


def _decoded(base64: str) -> bytes | None:
    try:
        return binascii.a2b_base64(base64, strict_mode=True)
    except ValueError:
        return None
