"""Reading the log in threads, for sessions that are behind the tail."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import structlog

from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.model.delivery import DeliveryEntry, Page
from kora_daemon.model.node import NodeMemory
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import ScopeMap
from kora_daemon.model.versions import causal_order
from kora_daemon.model.view import View
from kora_daemon.protocol.actions import ReadLog
from kora_daemon.protocol.delivery import LogPositions, LogSpan, Read
from kora_daemon.protocol.delta import resume_after
from kora_daemon.protocol.events import LogRead
from kora_daemon.protocol.resume import start_of, view_digest
from kora_daemon.server.joint_calls import JointCalls
from kora_daemon.server.references import Reference, references
from kora_daemon.server.selectors import author_selectors, page_selectors
from kora_daemon.server.tail import MAX_PAGE_BYTES, MAX_PAGE_ENTRIES
from kora_daemon.server.threads import ThreadPool
from kora_daemon.server.visible import NO_FIELDS, ScopedFields, apart, entries_by_records
from kora_daemon.store.contract import Store

T = TypeVar("T")

REMEMBERED_NODES = 10_000
MAX_AUTHOR_PAGES = 20
MAX_WARNINGS = 20

log = structlog.get_logger("kora.scopes")


class Readers:
    """A few threads that read. Every call may raise StoreError."""

    def __init__(
        self,
        store: Store,
        threads: int = 4,
        scoped: ScopedFields | None = None,
    ) -> None:
        self._store = store
        self._scoped: ScopedFields = scoped or {}
        self._threads = ThreadPool("kora-reader", threads, patience_s=0.0)
        self._greetings: JointCalls[LogRead] = JointCalls(self._threads, max(1, threads - 1))
        self._asking = ThreadPool("kora-probe", 1, patience_s=0.0)
        self._warned: set[str] = set()
        self._complete: OrderedDict[tuple[int, str], int] = OrderedDict()
        """Floor of the log and node id -> sequence number up to which all of its operations are known to be there."""

    async def greet(self, asked: ReadLog) -> LogRead:
        """What the answer to a handshake needs."""
        return await self._greetings.run(lambda: self._greet(asked))

    def _greet(self, asked: ReadLog) -> LogRead:
        # The frontier first: what is committed in between is delivered live, not lost.
        frontier, floor = self._store.frontier(), self._store.floor()
        memory = self._store.node_memory(asked.node_id)
        start = start_of(asked, frontier, floor, memory)
        vector = self._store.version_vector(self._nodes_of_interest(asked, start, frontier))
        own = vector.get(asked.node_id, 0)
        has_gaps = self._ask_for_gaps(asked, vector, memory, floor)
        delta = self._delta(asked, frontier) if asked.watermark is None else ()
        return LogRead(frontier, vector, delta, floor, start, memory, has_gaps, own)

    def _nodes_of_interest(self, asked: ReadLog, start: int, frontier: int) -> Iterable[str] | None:
        """The nodes that the client named, its own, and the authors of what it is about to be sent; None = all.

        Without those authors a stock client takes what it downloads for its own to upload: it remembers the vector of
        this answer, and sends everything above it at its next start. They tell it no more than the stream does.
        """
        if asked.confined:
            return {*asked.known, *self._visible_authors(asked, start, frontier)}
        return {*asked.known, *self._store.authors_after(start)} if start else None

    def _visible_authors(self, asked: ReadLog, start: int, frontier: int) -> set[str]:
        """The authors of what a view's scopes show above `start`, as far as these are not known to the client.

        The index finds some more: records that have changed hands stand in it under their former owners, too. So what
        it finds is looked at, as far as that takes no time; whom that leaves out a client sends again what it has.
        """
        view = View(asked.view.scopes, by_record=asked.view.by_record)
        chosen = author_selectors(view, self._scoped)
        found = None if chosen is None else self._authors_selected(chosen, start)
        if found is None:
            self._warn_of_scan(view)
            return self._authors_in(view, start, frontier)
        authors = self._authors_selected([one for one in chosen or () if not one.keys], start) or set()
        doubtful = found - authors - asked.known.keys()
        return authors | self._authors_in(view, start, frontier, doubtful, MAX_AUTHOR_PAGES) if doubtful else authors

    def _authors_selected(self, chosen: Sequence[Selector], start: int) -> set[str] | None:
        return self._store.authors_selected(chosen, start) if chosen else set()

    def _authors_in(
        self, view: View, start: int, frontier: int, wanted: set[str] | None = None, pages: int | None = None
    ) -> set[str]:
        """The authors of what a view shows, looked for until all that are `wanted` are found, or for so many pages."""
        authors: set[str] = set()
        while start < frontier and pages != 0 and not (wanted is not None and wanted <= authors):
            page = self._page(LogSpan(start, frontier), view)
            authors |= page.authors
            start = page.upto
            pages = None if pages is None else pages - 1
        return authors

    def _ask_for_gaps(self, asked: ReadLog, vector: dict[str, int], memory: NodeMemory | None, floor: int) -> bool:
        """Put the number below which nothing of the client's own is missing into the vector, where that is less.

        The client then offers again what it had withheld because it was outside of its view (scopes.md section 8).
        """
        own = asked.node_id
        if own not in vector:
            return False
        complete = self._store.complete_upto(own, self._complete.pop((floor, own), 0))
        self._complete[floor, own] = complete
        if len(self._complete) > REMEMBERED_NODES:
            self._complete.popitem(last=False)
        if complete < vector[own] and memory is not None and memory.settled == view_digest(asked.view):
            complete = self._store.complete_upto(own, max(complete, memory.settled_upto))
        if complete >= vector[own]:
            return False
        vector[own] = complete
        return True

    def _delta(self, asked: ReadLog, frontier: int) -> Sequence[int]:
        keys = [key for key in self._store.causal_keys_above(asked.known) if key.sequence <= frontier]
        ordered = causal_order(keys)
        if not asked.view.unrestricted:
            # Neither the number of batches nor a cursor may tell of what is not shown.
            shown = set(self._visible([key.sequence for key in ordered], asked.view))
            ordered = [key for key in ordered if key.sequence in shown]
        first = resume_after([key.id for key in ordered], asked.cursor) if asked.cursor is not None else 0
        return array("q", [key.sequence for key in ordered[first:]])

    def _visible(self, sequences: Sequence[int], view: View) -> Iterator[int]:
        """Those that a view shows."""
        for begin in range(0, len(sequences), MAX_PAGE_ENTRIES):
            entries = self._store.deliveries_at(sequences[begin : begin + MAX_PAGE_ENTRIES])
            yield from (entry.sequence for entry in self._shown(view, entries))

    async def page(self, read: Read, view: View, times: int = 1) -> Page:
        """The part of the log named by `read`, as far as a page goes; for an unrestricted view `times` as far."""
        return await self._threads.run(lambda: self._page(read, view, times))

    def _page(self, read: Read, view: View, times: int = 1) -> Page:
        if isinstance(read, LogPositions):
            return Page.of(0, 0, self._shown(view, self._store.deliveries_at(read.sequences)))
        entries = self._selected(read, view)
        if entries is None:
            entries = self._store.deliveries_after(read.after, times * MAX_PAGE_ENTRIES, times * MAX_PAGE_BYTES)
        inside = entries[: bisect_right(entries, read.upto, key=attrgetter("sequence"))]
        complete = len(inside) < len(entries) or not entries
        upto = read.upto if complete else inside[-1].sequence
        shown = self._shown(view, inside)
        return Page.of(read.after, upto, shown, apart(view, shown))

    def _warn_of_scan(self, view: View) -> None:
        """Say once of each collection that its scope is not one that the index knows."""
        for collection, where in (view.scopes or {}).items():
            unknown = where.keys() - self._scoped.get(collection, NO_FIELDS)
            if unknown and collection not in self._warned and len(self._warned) < MAX_WARNINGS:
                self._warned.add(collection)
                hint = (
                    "every first sync looks through the whole log, and records that change hands leave their history "
                    "behind; name the fields in the schema's scope"
                )
                log.warning("scopes.not_indexed", collection=collection, fields=sorted(unknown), hint=hint)

    def _selected(self, read: LogSpan, view: View) -> list[DeliveryEntry] | None:
        """The entries that may be visible, by the scope index; None where looking through the log is as good."""
        if view.unrestricted or read.upto - read.after <= MAX_PAGE_ENTRIES:
            return None
        chosen = page_selectors(view, self._scoped)
        if chosen is None:
            return None
        if not chosen:
            return []
        return self._store.deliveries_selected(chosen, read.after, read.upto, MAX_PAGE_ENTRIES, MAX_PAGE_BYTES)

    def _shown(self, view: View, entries: Sequence[DeliveryEntry]) -> list[DeliveryEntry]:
        return entries_by_records(view, entries, self._scoped, self._store.current_fields)

    async def find(self, operation_id: str) -> DeliveryEntry | None:
        """The entry of an operation, None for one that is not in the log."""
        return await self._threads.run(lambda: self._find(operation_id))

    def _find(self, operation_id: str) -> DeliveryEntry | None:
        sequence = self._store.sequence_of(operation_id)
        return None if sequence is None else next(iter(self._store.deliveries_at([sequence])), None)

    async def shows(self, view: View, entry: DeliveryEntry) -> bool:
        """Whether a view shows an entry, by what its record is now."""
        return bool(
            await self._threads.run(lambda: entries_by_records(view, [entry], self._scoped, self._store.current_fields))
        )

    async def entries_after(self, sequence: int) -> list[DeliveryEntry]:
        """The entries that follow `sequence`, as far as a page goes, unfiltered."""
        return await self._threads.run(lambda: self._store.deliveries_after(sequence, MAX_PAGE_ENTRIES, MAX_PAGE_BYTES))

    async def current_fields(self, keys: Iterable[RecordKey]) -> dict[RecordKey, dict[str, Any]]:
        """The fields that records have now, see `Store.current_fields`."""
        return await self._threads.run(lambda: self._store.current_fields(keys))

    async def blob_references(self, hashes: Iterable[str], scopes: ScopeMap | None) -> list[Reference]:
        """Records within the scopes that refer to one of the hashes, at least one if there is any."""
        return await self._threads.run(lambda: references(self._store, hashes, scopes, self._scoped))

    async def ask(self, call: Callable[[Store], T]) -> T:
        """A question that may be given up: whoever asks has a deadline, even where the store has none."""
        return await self._asking.run_abandonable(lambda: call(self._store))

    async def read(self, call: Callable[[Store], T]) -> T:
        """Any other question to the store."""
        return await self._threads.run(lambda: call(self._store))
