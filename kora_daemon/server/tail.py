"""The newest part of the log, in memory and already encoded.

Sessions that keep up are served from here; those further behind read the store. Bounded in bytes: the oldest go first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import islice

from kora_daemon.model.delivery import DeliveryEntry, Page
from kora_daemon.model.view import View
from kora_daemon.server.visible import KnownFields, apart, entries_by_stamps

MAX_TAIL_BYTES = 16 << 20
"""Of operations as JSON. Their protobuf forms, where clients speak it, come on top: two thirds of that or so."""
MAX_PAGE_BYTES = 256 << 10
MAX_PAGE_ENTRIES = 500
MAX_CACHED_BYTES = 16 << 20
"""Of operations in pages kept for the next session that asks; each may cost twice as much again in ready frames, and a
quarter more in compressed ones."""
_ENTRY_OVERHEAD_BYTES = 400
_MOST_DROPPED = 1_000
"""Kept at the beginning of the lists before these are cut: cutting moves all that follow, some microseconds' work."""


class Tail:
    """All entries above `floor`, up to the frontier. A page is cut and filtered once for all sessions of a view."""

    def __init__(self, frontier: int, known: KnownFields | None = None, max_bytes: int = MAX_TAIL_BYTES) -> None:
        self._known: KnownFields = known or {}
        self.floor = frontier
        self.frontier = frontier
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: list[DeliveryEntry] = []
        self._sequences: list[int] = []
        self._dropped = 0
        """Entries at the beginning of the lists that are no longer part of the tail."""
        self._pages: dict[tuple[str, int, int], Page] = {}
        self._cached_bytes = 0

    def extend(self, entries: Iterable[DeliveryEntry]) -> None:
        """Add everything that follows in the log, in delivery order: between two entries of the tail there is none."""
        for entry in entries:
            self._entries.append(entry)
            self._sequences.append(entry.sequence)
            self._bytes += len(entry.body) + _ENTRY_OVERHEAD_BYTES
            self.frontier = entry.sequence
        while self._bytes > self._max_bytes:
            oldest = self._entries[self._dropped]
            self._bytes -= len(oldest.body) + _ENTRY_OVERHEAD_BYTES
            self.floor = oldest.sequence
            self._dropped += 1
        if self._dropped >= _MOST_DROPPED:
            del self._entries[: self._dropped], self._sequences[: self._dropped]
            self._dropped = 0
        self._forget_pages()

    def page(self, view: View, after: int, upto: int) -> Page | None:
        """The page of (after, upto], possibly ending early; None when the tail does not hold all that it takes.

        A handshake reads its frontier from the store, which may be ahead of what was published here.
        """
        if after < self.floor or upto > self.frontier:
            return None
        key = (view.key, after, upto)
        page = self._pages.get(key)
        if page is None:
            page = self._cut(view, after, upto)
            if page is None:
                return None
            if self._cached_bytes >= MAX_CACHED_BYTES:
                self._forget_pages()
            self._pages[key] = page
            self._cached_bytes += sum(len(entry.body) for entry in page.entries) + _ENTRY_OVERHEAD_BYTES
        return page

    def entries_after(self, sequence: int, limit: int) -> list[DeliveryEntry] | None:
        """All entries above `sequence`; None when the tail does not hold them all, or they are more than `limit`."""
        first = bisect_right(self._sequences, sequence, lo=self._dropped)
        if not self.floor <= sequence <= self.frontier or len(self._entries) - first > limit:
            return None
        return self._entries[first:]

    def part_after(self, sequence: int, most: int) -> list[DeliveryEntry]:
        """The next entries above `sequence`, which is not below the floor."""
        first = bisect_right(self._sequences, sequence, lo=self._dropped)
        return self._entries[first : first + most]

    def _forget_pages(self) -> None:
        self._pages.clear()
        self._cached_bytes = 0

    def _cut(self, view: View, after: int, upto: int) -> Page | None:
        entries: list[DeliveryEntry] = []
        size = 0
        for entry in islice(self._entries, bisect_right(self._sequences, after, lo=self._dropped), None):
            if entry.sequence > upto:
                break
            entries.append(entry)
            size += len(entry.body)
            if size >= MAX_PAGE_BYTES or len(entries) >= MAX_PAGE_ENTRIES:
                upto = entry.sequence
                break
        shown = entries_by_stamps(view, entries, self._known)
        return None if shown is None else Page.of(after, upto, shown, apart(view, shown))
