"""The newest part of the log, in memory and already encoded.

Sessions that keep up are served from here; those further behind read the store. Bounded in bytes: the oldest go first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from kora_daemon.model.delivery import DeliveryEntry, Page
from kora_daemon.model.view import View
from kora_daemon.server.visible import visible_entries

MAX_TAIL_BYTES = 16 << 20
MAX_PAGE_BYTES = 256 << 10
MAX_PAGE_ENTRIES = 1_000
MAX_CACHED_BYTES = 16 << 20
"""Of operations in pages kept for the next session that asks; each may cost twice as much again in ready frames."""
_ENTRY_OVERHEAD_BYTES = 400


class Tail:
    """Entries above `floor`, up to the frontier. A page is cut and filtered once for all sessions of a view."""

    def __init__(self, frontier: int, max_bytes: int = MAX_TAIL_BYTES) -> None:
        self.floor = frontier
        self.frontier = frontier
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: deque[DeliveryEntry] = deque()
        self._pages: dict[tuple[str, int, int], Page] = {}
        self._cached_bytes = 0

    def extend(self, entries: Iterable[DeliveryEntry]) -> None:
        """Add what was committed, in delivery order.

        Where it does not join on, somebody else has committed in between, or a commit of ours that was reported as
        failed: the tail starts anew behind that gap, and who is before it reads the store.
        """
        for entry in entries:
            if entry.sequence != self.frontier + 1:
                self._entries.clear()
                self._bytes = 0
                self.floor = entry.sequence - 1
            self._entries.append(entry)
            self._bytes += len(entry.body) + _ENTRY_OVERHEAD_BYTES
            self.frontier = entry.sequence
        while self._bytes > self._max_bytes:
            oldest = self._entries.popleft()
            self._bytes -= len(oldest.body) + _ENTRY_OVERHEAD_BYTES
            self.floor = oldest.sequence
        self._forget_pages()

    def advance(self, frontier: int) -> None:
        """The log reaches `frontier`, and what is below is not at hand: who lacks it reads the store."""
        self._entries.clear()
        self._bytes = 0
        self.floor = self.frontier = frontier
        self._forget_pages()

    def page(self, view: View, after: int, upto: int) -> Page | None:
        """The page of (after, upto], possibly ending early; None when the tail does not hold all of that part.

        A handshake reads its frontier from the store, which may be ahead of what was published here.
        """
        if after < self.floor or upto > self.frontier:
            return None
        key = (view.key, after, upto)
        page = self._pages.get(key)
        if page is None:
            page = self._cut(view, after, upto)
            if self._cached_bytes >= MAX_CACHED_BYTES:
                self._forget_pages()
            self._pages[key] = page
            self._cached_bytes += sum(len(entry.body) for entry in page.entries) + _ENTRY_OVERHEAD_BYTES
        return page

    def _forget_pages(self) -> None:
        self._pages.clear()
        self._cached_bytes = 0

    def _cut(self, view: View, after: int, upto: int) -> Page:
        first = self._position(after)
        entries: list[DeliveryEntry] = []
        size = 0
        for entry in islice(self._entries, first, None):
            if entry.sequence > upto:
                break
            entries.append(entry)
            size += len(entry.body)
            if size >= MAX_PAGE_BYTES or len(entries) >= MAX_PAGE_ENTRIES:
                upto = entry.sequence
                break
        return Page.of(after, upto, visible_entries(view, entries))

    def _position(self, after: int) -> int:
        """Index of the first entry above `after`."""
        return after - self.floor
