"""Reading ahead: the next page is there when it is asked for, of a few sessions, and of nobody who sees a part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from kora_daemon.errors import StoreUnavailable
from kora_daemon.model.delivery import Page
from kora_daemon.model.view import View
from kora_daemon.protocol.delivery import LogSpan, Read
from kora_daemon.server import read_ahead as module
from kora_daemon.server.read_ahead import ReadAhead
from kora_daemon.server.readers import Readers
from kora_daemon.store.contract import Store
from tests.support.records import Node, apply, bring_to, schema_of
from tests.support.stores import RECORD_STORES

SCHEMA = schema_of(1, todos={"title": "string"})
LAST = 40
ALL = View()


class WatchedReaders(Readers):
    """Notes what is read; fails at what `fails` holds, once."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, 2)
        self.reads: list[Read] = []
        self.fails: list[Read] = []

    async def page(self, read: Read, view: View, times: int = 1) -> Page:
        self.reads.append(read)
        if read in self.fails:
            self.fails.remove(read)
            raise StoreUnavailable("away")
        return await super().page(read, view, times)


@pytest.fixture
def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchedReaders]:
    monkeypatch.setattr("kora_daemon.server.readers.MAX_PAGE_ENTRIES", 2)
    store = RECORD_STORES["sqlite"](tmp_path)
    store.open()
    bring_to(store, SCHEMA)
    apply(store, *(Node(f"n{n}").insert(f"r{n}", {"title": str(n)}) for n in range(1, LAST + 1)))
    yield WatchedReaders(store)
    store.close()


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as made:
        yield made


def span(after: int) -> LogSpan:
    return LogSpan(after, LAST)


async def idle(readers: WatchedReaders) -> None:
    """Let what was begun come to its end."""
    while readers._threads._limiter.borrowed_tokens:
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()


async def taken(ahead: ReadAhead, session: int, nursery: trio.Nursery) -> list[int]:
    """Read the whole log; how many entries each page has."""
    sizes, after = [], 0
    while after < LAST:
        page = await ahead.page(session, span(after), ALL, nursery)
        sizes.append(len(page.entries))
        after = page.upto
    return sizes


async def test_who_reads_quickly_gets_large_pages_behind_the_first_ones(
    readers: WatchedReaders, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await taken(ReadAhead(readers), 1, nursery) == [2, 2, 8, 8, 8, 8, 4]
    monkeypatch.setattr(module, "QUICK_S", 0)
    assert await taken(ReadAhead(readers), 1, nursery) == [2] * 20


async def test_few_have_large_pages_at_the_same_time(
    readers: WatchedReaders, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LARGE", 1)
    ahead = ReadAhead(readers)
    for after in (0, 2):
        await ahead.page(1, span(after), ALL, nursery)
    # Session 1 has stopped reading, with a large page held for it.
    assert await taken(ahead, 2, nursery) == [2] * 20
    ahead.forget(1)
    assert await taken(ahead, 2, nursery) == [2, 2, 8, 8, 8, 8, 4]
    assert not ahead._large


async def test_whoever_begins_anew_begins_with_a_small_page(readers: WatchedReaders, nursery: trio.Nursery) -> None:
    ahead = ReadAhead(readers)
    for after in (0, 2, 4):
        await ahead.page(1, span(after), ALL, nursery)
    assert await taken(ahead, 1, nursery) == [2, 2, 8, 8, 8, 8, 4]


async def test_the_whole_log_is_read_once_and_always_a_page_ahead(
    readers: WatchedReaders, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK_S", 0)
    ahead, found, after = ReadAhead(readers), [], 0
    while after < LAST:
        page = await ahead.page(1, span(after), ALL, nursery)
        found += [one.sequence for one in page.entries]
        after = page.upto
        assert len(readers.reads) == min(after + 2, LAST) / 2
    assert found == list(range(1, LAST + 1))
    assert not ahead._ahead


async def test_another_place_than_the_next_is_read_anew(readers: WatchedReaders, nursery: trio.Nursery) -> None:
    ahead = ReadAhead(readers)
    await ahead.page(1, span(2), ALL, nursery)
    page = await ahead.page(1, span(0), ALL, nursery)
    assert [one.sequence for one in page.entries] == [1, 2]


async def test_a_part_of_the_log_is_looked_at_when_it_is_wanted(readers: WatchedReaders, nursery: trio.Nursery) -> None:
    ahead = ReadAhead(readers)
    await ahead.page(1, span(0), View({"todos": {}}), nursery)
    await idle(readers)
    assert readers.reads == [span(0)]


async def test_what_could_not_be_read_ahead_is_read_again(readers: WatchedReaders, nursery: trio.Nursery) -> None:
    ahead = ReadAhead(readers)
    readers.fails = [span(2)]
    await ahead.page(1, span(0), ALL, nursery)
    page = await ahead.page(1, span(2), ALL, nursery)
    assert [one.sequence for one in page.entries] == [3, 4]


async def test_few_pages_are_held_and_none_for_whom_has_gone(
    readers: WatchedReaders, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PAGES", 2)
    ahead = ReadAhead(readers)
    for session in (1, 2, 3):
        await ahead.page(session, span(0), ALL, nursery)
    assert list(ahead._ahead) == [2, 3]
    assert (await ahead.page(1, span(2), ALL, nursery)).upto == 4
    ahead.forget(1)
    assert list(ahead._ahead) == [3]


async def test_whose_connection_is_about_to_end_has_nothing_read_ahead(readers: WatchedReaders) -> None:
    ahead = ReadAhead(readers)
    await ahead.page(1, span(0), ALL, None)
    assert readers.reads == [span(0)]
    assert not ahead._ahead
