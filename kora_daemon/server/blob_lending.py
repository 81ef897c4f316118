"""Giving kept blobs to who may have them (wire.md section 9).

A hash is no capability. Who asks has to see a record that refers to it, and that alone does not do: anybody can write a
hash into a record of their own. So the device that has written the reference must have shown that it has the content,
by pushing it or by giving it to another device. In other words, the store gives what that device would give, were it
there.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import structlog
import trio

from kora_daemon.errors import StoreCorrupt, StoreError
from kora_daemon.materialization.blobs import listed_parts
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.hub import Peer
from kora_daemon.server.news import News
from kora_daemon.server.references import candidates, visible
from kora_daemon.server.threads import ThreadPool
from kora_daemon.server.visible import ScopedFields
from kora_daemon.store.blobs.contract import ANYBODY, BlobStore, holder_of
from kora_daemon.store.contract import Store

T = TypeVar("T")

THREADS = 4
"""That read blobs, and as many that look at records."""
PATIENCE_S = 5.0
REST_S = 30.0
"""A store that did not answer in that time is left alone for this time: other devices may have it."""

log = structlog.get_logger("kora.blobs")


class Content(NamedTuple):
    """A content as it travels, and the parts it lists if it is a manifest."""

    base64: str
    parts: list[str]


class BlobLending:
    """Finds what is kept, and gives nothing larger than `max_blob_bytes`. Not found is what may not be found, too."""

    def __init__(self, blobs: BlobStore, store: Store, scoped: ScopedFields, max_blob_bytes: int) -> None:
        self._blobs = blobs
        self._store = store
        self._scoped = scoped
        self._max_blob_bytes = max_blob_bytes
        self._readers = ThreadPool("kora-blob-reader", THREADS, patience_s=0.0)
        self._judges = ThreadPool("kora-blob-judge", THREADS, patience_s=0.0)
        self._resting_until = 0.0
        self._news = News()

    async def find(self, peer: Peer, hexadecimal: str, names: frozenset[str]) -> Content | None:
        """A content, if it is kept and the device may have it; `names` are those by which records may refer to it."""
        granted, scopes = peer.granted, peer.scopes
        if trio.current_time() < self._resting_until:
            return None
        try:
            if not await self._read(lambda: self._blobs.has(hexadecimal)):
                return None
            if scopes is not None:
                judge = self._judges.run_abandonable(lambda: self._may_have(hexadecimal, names, granted, scopes))
                with trio.fail_after(PATIENCE_S):
                    if not await judge:
                        return None
            return await self._read(lambda: self._content(hexadecimal))
        except trio.TooSlowError:
            return None
        except StoreError as error:
            self._failed(error)
            return None

    async def _read(self, call: Callable[[], T]) -> T:
        """Ask the blob store. Raises TooSlowError, and then it is left alone for a while."""
        try:
            with trio.fail_after(PATIENCE_S):
                return await self._readers.run_abandonable(call)
        except trio.TooSlowError:
            self._resting_until = trio.current_time() + REST_S
            log.warning("blobs.slow", hint="what keeps the blobs takes long to answer; devices are asked instead")
            raise

    def _failed(self, error: StoreError) -> None:
        if isinstance(error, StoreCorrupt):
            if self._news.is_news("damaged"):
                log.error("blobs.damaged", error=str(error))
        elif self._news.is_news("failed"):
            log.warning("blobs.failed", error=str(error))

    def _content(self, hexadecimal: str) -> Content | None:
        content = self._blobs.get(hexadecimal, self._max_blob_bytes)
        if content is None:
            return None
        return Content(binascii.b2a_base64(content, newline=False).decode(), listed_parts(content))

    def _may_have(self, hexadecimal: str, names: frozenset[str], granted: ScopeMap | None, scopes: ScopeMap) -> bool:
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
