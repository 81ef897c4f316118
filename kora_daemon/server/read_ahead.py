"""Downloads of the whole log: the next page is read while the last one is on its way.

The database works beside the event loop then, instead of before it. A few pages are held in all: who stops reading
loses its own to those who go on. What a page costs beside its entries is a third of it: who reads quickly gets larger
ones, as long as few do.
"""

from __future__ import annotations

from collections import OrderedDict

import trio

from kora_daemon.errors import StoreError
from kora_daemon.model.delivery import Page
from kora_daemon.model.view import View
from kora_daemon.protocol.delivery import LogSpan, Read
from kora_daemon.server.readers import Readers

MAX_PAGES = 8
"""Held for sessions that have not asked for them yet; half a megabyte each, large ones two."""
LARGE = 4
"""Times the size of other pages."""
MAX_LARGE = 8
"""Sessions that get large pages at the same time: each may stop reading with one on its way and one held for it."""
QUICK_S = 0.1
"""Whoever asks for the next page sooner is quick: what it waits for is not the network."""


class ReadAhead:
    """Reads as `Readers` does, for sessions that go through the log page by page."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._ahead: OrderedDict[int, _Reading] = OrderedDict()
        """Number of a session -> what it will ask for next; the oldest first."""
        self._large: set[int] = set()
        """Sessions whose next page is a large one."""

    async def page(self, session: int, read: Read, view: View, nursery: trio.Nursery | None) -> Page:
        """The part of the log named by `read`, as far as a page goes; the next is read in a task of the nursery.

        Raises StoreError.
        """
        ahead = self._ahead.pop(session, None)
        self._large.discard(session)
        page, is_quick = None, False
        if ahead is not None and ahead.read == read:
            is_quick = trio.current_time() - ahead.begun_at < QUICK_S
            page = await ahead.result()
        if page is None:
            page = await self._readers.page(read, view)
        # What a restricted view shows depends on what records are when it is looked at: not in advance.
        if isinstance(read, LogSpan) and page.upto < read.upto and view.unrestricted and nursery is not None:
            is_large = is_quick and len(self._large) < MAX_LARGE
            if is_large:
                self._large.add(session)
            reading = self._ahead[session] = _Reading(LogSpan(page.upto, read.upto), LARGE if is_large else 1)
            if len(self._ahead) > MAX_PAGES:
                self._ahead.popitem(last=False)
            nursery.start_soon(reading.run, self._readers, view)
            await reading.begun.wait()  # not behind what is done with the page at hand
        return page

    def forget(self, session: int) -> None:
        """It has gone."""
        self._ahead.pop(session, None)
        self._large.discard(session)


class _Reading:
    def __init__(self, read: LogSpan, times: int) -> None:
        self.read = read
        self._times = times
        self.begun = trio.Event()
        self.begun_at = trio.current_time()
        self._page: Page | None = None
        self._done = trio.Event()

    async def run(self, readers: Readers, view: View) -> None:
        self.begun.set()
        try:
            self._page = await readers.page(self.read, view, self._times)
        except StoreError:
            pass  # whoever needs the page reads it again, and hears of it
        finally:
            self._done.set()

    async def result(self) -> Page | None:
        """The page, None when it could not be read."""
        await self._done.wait()
        return self._page
