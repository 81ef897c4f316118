"""Reading the log in threads, for sessions that are behind the tail."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from kora_daemon.model.delivery import DeliveryEntry, LogEntry, Page
from kora_daemon.model.record import RecordKey
from kora_daemon.model.versions import causal_order
from kora_daemon.model.view import View
from kora_daemon.protocol.actions import ReadLog
from kora_daemon.protocol.delivery import LogPositions, Read
from kora_daemon.protocol.delta import resume_after
from kora_daemon.protocol.events import LogRead
from kora_daemon.server.tail import MAX_PAGE_BYTES, MAX_PAGE_ENTRIES
from kora_daemon.server.threads import ThreadPool
from kora_daemon.server.visible import visible_entries
from kora_daemon.store.contract import Store
from kora_daemon.wire import json as codec

T = TypeVar("T")


class Readers:
    """A few threads that read. Every call may raise StoreError."""

    def __init__(self, store: Store, encode: Callable[[LogEntry, int], DeliveryEntry], threads: int = 4) -> None:
        self._store = store
        self._encode = encode
        self._threads = ThreadPool("kora-reader", threads)
        self._asking = ThreadPool("kora-probe", 1)

    async def greet(self, asked: ReadLog) -> LogRead:
        """What the answer to a handshake needs."""
        return await self._threads.run(lambda: self._greet(asked))

    def _greet(self, asked: ReadLog) -> LogRead:
        # The frontier first: what is committed in between is delivered live, not lost.
        frontier, floor = self._store.frontier(), self._store.floor()
        vector = self._store.version_vector(self._nodes_of_interest(asked, frontier, floor))
        delta = self._delta(asked, frontier) if asked.watermark is None else ()
        return LogRead(frontier, vector, delta, floor)

    def _nodes_of_interest(self, asked: ReadLog, frontier: int, floor: int) -> Iterable[str] | None:
        """The nodes that the client named, its own, and the authors of what it is about to be sent; None = all.

        Without those authors a stock client takes what it downloads for its own to upload: it remembers the vector of
        this answer, and sends everything above it at its next start. They tell it no more than the stream does.
        """
        if not asked.watermark or not floor <= asked.watermark <= frontier:
            return None
        return {*asked.known, *self._store.authors_after(asked.watermark)}

    def _delta(self, asked: ReadLog, frontier: int) -> Sequence[int]:
        keys = [key for key in self._store.causal_keys_above(asked.known) if key.sequence <= frontier]
        ordered = causal_order(keys)
        first = resume_after([key.id for key in ordered], asked.cursor) if asked.cursor is not None else 0
        return array("q", [key.sequence for key in ordered[first:]])

    async def page(self, read: Read, view: View) -> Page:
        """The part of the log named by `read`, as far as a page goes."""
        return await self._threads.run(lambda: self._page(read, view))

    def _page(self, read: Read, view: View) -> Page:
        if isinstance(read, LogPositions):
            entries = self._store.entries_at(read.sequences)
            return Page.of(0, 0, visible_entries(view, self._encoded(entries)))
        entries = self._store.entries_after(read.after, MAX_PAGE_ENTRIES, MAX_PAGE_BYTES)
        inside = [entry for entry in entries if entry.sequence <= read.upto]
        complete = len(inside) < len(entries) or not entries
        upto = read.upto if complete else inside[-1].sequence
        return Page.of(read.after, upto, visible_entries(view, self._encoded(inside)))

    async def entries_after(self, sequence: int) -> list[DeliveryEntry]:
        """The entries that follow `sequence`, as far as a page goes, unfiltered."""
        return await self._threads.run(
            lambda: self._encoded(self._store.entries_after(sequence, MAX_PAGE_ENTRIES, MAX_PAGE_BYTES))
        )

    def _encoded(self, entries: Sequence[LogEntry]) -> list[DeliveryEntry]:
        return [self._encode(entry, 0) for entry in entries]

    async def current_fields(self, keys: Iterable[RecordKey]) -> dict[RecordKey, dict[str, Any]]:
        """The fields that records have now, see `Store.current_fields`."""
        return await self._threads.run(lambda: self._store.current_fields(keys))

    async def ask(self, call: Callable[[Store], T]) -> T:
        """A question that may be given up: whoever asks has a deadline, even where the store has none."""
        return await self._asking.run_abandonable(lambda: call(self._store))

    async def read(self, call: Callable[[Store], T]) -> T:
        """Any other question to the store."""
        return await self._threads.run(lambda: call(self._store))


def encode_entry(entry: LogEntry, origin: int) -> DeliveryEntry:
    """A log entry, ready to be sent many times."""
    operation = entry.operation
    return DeliveryEntry(
        entry.sequence,
        operation.id,
        operation.node_id,
        operation.collection,
        codec.encode_operation(operation),
        origin,
        entry.stamp,
    )
