"""What is read for sessions that are behind: pages that end where they should, authors, gaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kora_daemon.model.scope import ScopeMap
from kora_daemon.model.view import View
from kora_daemon.protocol.actions import ReadLog
from kora_daemon.protocol.delivery import LogPositions, LogSpan
from kora_daemon.server import readers as module
from kora_daemon.server.readers import Readers
from kora_daemon.store.contract import Store
from tests.support.records import Node, apply, bring_to, schema_of
from tests.support.stores import RECORD_STORES

SCHEMA = schema_of(1, scope=["owner"], todos={"owner": "string", "title": "string"})
SCOPED = {"todos": frozenset({"owner"})}
ALICE = View({"todos": {"owner": "alice"}})
ALL = View()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = RECORD_STORES[request.param](tmp_path)
    made.open()
    bring_to(made, SCHEMA)
    yield made
    made.close()


@pytest.fixture
def readers(store: Store) -> Readers:
    return Readers(store, 1, SCOPED)


def pages(readers: Readers, view: View, after: int, upto: int) -> tuple[list[int], list[int]]:
    """The entries of (after, upto], and where the pages with them have ended."""
    found: list[int] = []
    ends: list[int] = []
    while after < upto:
        page = readers._page(LogSpan(after, upto), view)
        assert page.after == after
        assert after < page.upto <= upto
        assert all(after < one.sequence <= page.upto for one in page.entries)
        found += [one.sequence for one in page.entries]
        ends.append(page.upto)
        after = page.upto
    return found, ends


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("view", "shown"),
    [(ALL, [2, 3, 4, 5]), (ALICE, [3, 5]), (View({}), []), (View({"todos": {}}), [2, 3, 4, 5])],
)
def test_pages_show_what_lies_between_two_places_and_nothing_behind(
    store: Store, readers: Readers, monkeypatch: pytest.MonkeyPatch, size: int, view: View, shown: list[int]
) -> None:
    monkeypatch.setattr(module, "MAX_PAGE_ENTRIES", size)
    apply(store, *(Node("n" + str(n)).insert(f"r{n}", {"owner": "alice" if n % 2 else "bob"}) for n in range(1, 9)))
    found, ends = pages(readers, view, 1, 5)
    assert found == shown
    assert ends[-1] == 5


def test_a_page_of_places_is_filtered_too(store: Store, readers: Readers) -> None:
    apply(store, *(Node("n" + str(n)).insert(f"r{n}", {"owner": "alice" if n % 2 else "bob"}) for n in range(1, 6)))
    page = readers._page(LogPositions([4, 3, 1, 99]), ALICE)
    assert [one.sequence for one in page.entries] == [3, 1]


def asked(view: View, watermark: int | None = 0, known: dict[str, int] | None = None, cursor: object = None) -> ReadLog:
    return ReadLog("me", {"me": 0, **(known or {})}, watermark, cursor, view, confined=view.scopes is not None)


def vector(readers: Readers, question: ReadLog) -> dict[str, int]:
    return dict(readers._greet(question).version_vector)


MANY: list[tuple[ScopeMap, set[str]]] = [
    ({"todos": {"owner": "alice"}}, {"a", "shared"}),
    ({"todos": {"owner": "bob"}}, {"b", "shared"}),
    ({"todos": {}}, {"a", "b", "shared"}),
    ({"notes": {}}, {"n"}),
    ({"todos": {"owner": "alice"}, "notes": {}}, {"a", "shared", "n"}),
    ({"todos": {"owner": "alice", "title": "t"}}, {"shared"}),
    ({}, set()),
]


@pytest.mark.parametrize(("scopes", "authors"), MANY)
@pytest.mark.parametrize("size", [1, 1_000])
def test_the_vector_names_who_has_written_what_is_shown(
    store: Store, readers: Readers, monkeypatch: pytest.MonkeyPatch, scopes: ScopeMap, authors: set[str], size: int
) -> None:
    monkeypatch.setattr(module, "MAX_PAGE_ENTRIES", size)
    shared = Node("shared")
    apply(
        store,
        Node("a").insert("r1", {"owner": "alice"}),
        Node("b").insert("r2", {"owner": "bob"}),
        shared.insert("r3", {"owner": "alice", "title": "t"}),
        shared.insert("r4", {"owner": "bob"}),
        Node("n").write("insert", "x", {}, collection="notes"),
        Node("hidden").write("insert", "x", {}, collection="secrets"),
    )
    found = vector(readers, asked(View(scopes)))
    assert set(found) == authors
    assert found.get("shared", 2) == 2
    assert set(vector(readers, asked(View(scopes), known={"hidden": 5}))) == authors | {"hidden"}


def test_live_queries_hide_nobody_in_the_vector(store: Store, readers: Readers) -> None:
    apply(store, Node("a").insert("r1", {"owner": "alice", "title": "t"}))
    assert set(vector(readers, asked(View({"todos": {"owner": "alice"}}, (("todos", {"title": "u"}),))))) == {"a"}


def test_looking_for_authors_ends(store: Store, readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that are hers now, by somebody whose operations she does not see: what is looked through has an end."""
    monkeypatch.setattr(module, "MAX_PAGE_ENTRIES", 1)
    monkeypatch.setattr(module, "MAX_AUTHOR_PAGES", 3)
    bob, admin = Node("bob"), Node("admin")
    apply(store, *(bob.insert(f"r{n}", {"owner": "bob"}) for n in range(6)))
    apply(store, *(admin.update(f"r{n}", {"owner": "alice"}, at=100) for n in range(6)))
    assert set(vector(readers, asked(ALICE))) <= {"admin"}


def test_who_is_not_restricted_is_told_of_all_that_is_sent(store: Store, readers: Readers) -> None:
    apply(store, Node("a").insert("r1", {"owner": "alice"}), Node("b").insert("r2", {"owner": "bob"}))
    assert vector(readers, asked(ALL)) == {"a": 1, "b": 1}
    assert vector(readers, asked(ALL, 1)) == {"b": 1}
    assert vector(readers, asked(ALL, 1, {"a": 0})) == {"a": 1, "b": 1}
