"""The newest part of the log in memory: pages without holes, bounded, cut once for all sessions of a view."""

from __future__ import annotations

import json
import weakref

import pytest
from msgspec.structs import replace

import kora_daemon.server.tail as module
from kora_daemon.model.delivery import DeliveryEntry, Page
from kora_daemon.model.view import View
from kora_daemon.server.tail import Tail
from tests.support.operations import entry

ALL = View()
KNOWN = {"todos": frozenset({"userId", "title", "body", "id"})}


def sequences(page: Page | None) -> list[int]:
    assert page is not None
    return [one.sequence for one in page.entries]


def numbered(*numbers: int) -> list[DeliveryEntry]:
    return [entry(number) for number in numbers]


def filled(first: int, last: int) -> Tail:
    """A tail with every entry from `first` to `last`."""
    tail = Tail(first - 1)
    tail.extend(numbered(*range(first, last + 1)))
    return tail


class TestPages:
    """Which part of the log they show."""

    @pytest.mark.parametrize(
        ("after", "upto", "shown"),
        [
            (10, 15, [11, 12, 13, 14, 15]),
            (12, 15, [13, 14, 15]),
            (12, 13, [13]),
            (15, 15, []),
            (10, 10, []),
        ],
    )
    def test_a_page_begins_above_the_one_and_ends_with_the_other(self, after: int, upto: int, shown: list[int]) -> None:
        page = filled(11, 15).page(ALL, after, upto)
        assert sequences(page) == shown
        assert page is not None
        assert (page.after, page.upto) == (after, upto)

    def test_below_the_tail_the_store_has_to_be_asked(self) -> None:
        assert filled(11, 15).page(ALL, 9, 15) is None

    def test_above_the_tail_the_store_has_to_be_asked(self) -> None:
        # A handshake may have seen a commit in the store that was not published here yet: nothing may be skipped.
        tail = filled(11, 15)
        assert tail.page(ALL, 10, 16) is None
        assert tail.page(ALL, 15, 16) is None
        tail.extend(numbered(16))
        assert sequences(tail.page(ALL, 15, 16)) == [16]

    def test_an_empty_tail_stands_at_its_frontier(self) -> None:
        tail = Tail(7)
        assert (tail.floor, tail.frontier) == (7, 7)
        assert sequences(tail.page(ALL, 7, 7)) == []
        assert tail.page(ALL, 6, 7) is None

    def test_it_says_who_wrote_what_it_shows(self) -> None:
        tail = Tail(0)
        tail.extend([entry(1, "node-a", origin=4), entry(2, "node-b", origin=0)])
        page = tail.page(ALL, 0, 2)
        assert page is not None
        assert page.authors == {"node-a", "node-b"}
        assert page.origins == {4}

    def test_numbers_that_were_never_given_make_no_difference(self) -> None:
        tail = Tail(10)
        tail.extend(numbered(12))
        tail.extend(numbered(20, 21))
        assert (tail.floor, tail.frontier) == (10, 21)
        assert sequences(tail.page(ALL, 10, 21)) == [12, 20, 21]
        assert sequences(tail.page(ALL, 11, 19)) == [12]
        assert sequences(tail.page(ALL, 12, 20)) == [20]
        assert sequences(tail.page(ALL, 15, 15)) == []

    def test_a_long_page_ends_early_and_the_next_goes_on_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_PAGE_ENTRIES", 3)
        tail = filled(1, 8)
        shown: list[int] = []
        after = 0
        while after < 8:
            page = tail.page(ALL, after, 8)
            assert page is not None
            assert len(page.entries) <= 3
            shown += sequences(page)
            after = page.upto
        assert shown == list(range(1, 9))

    def test_a_page_of_large_operations_ends_early(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_PAGE_BYTES", 100)
        tail = Tail(0)
        tail.extend(entry(number, body=b"x" * 60) for number in range(1, 6))
        page = tail.page(ALL, 0, 5)
        assert page is not None
        assert (sequences(page), page.upto) == ([1, 2], 2)

    def test_an_operation_larger_than_a_page_is_a_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_PAGE_BYTES", 100)
        tail = Tail(0)
        tail.extend([entry(1, body=b"x" * 500), entry(2)])
        assert sequences(tail.page(ALL, 0, 2)) == [1]


def body(**members: object) -> bytes:
    return json.dumps({"recordId": "r", "data": None, "previousData": None} | members).encode()


class TestViews:
    """A page shows what its view shows, and covers the rest."""

    def test_what_is_hidden_is_covered_all_the_same(self) -> None:
        tail = Tail(0)
        tail.extend(entry(n, body=body(data={"userId": "u" if n % 2 else "v"})) for n in range(1, 6))
        page = tail.page(View({"todos": {"userId": "u"}}), 0, 5)
        assert sequences(page) == [1, 3, 5]
        assert page is not None
        assert page.upto == 5
        assert sequences(tail.page(View({"notes": {}}), 0, 5)) == []
        assert sequences(tail.page(ALL, 0, 5)) == [1, 2, 3, 4, 5]

    def test_limits_hold_before_the_filter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Else one rare view would look through everything in one turn of the event loop.
        monkeypatch.setattr(module, "MAX_PAGE_ENTRIES", 2)
        tail = Tail(0)
        tail.extend(entry(n, body=body()) for n in range(1, 6))
        page = tail.page(View({"notes": {}}), 0, 5)
        assert page is not None
        assert (page.entries, page.upto) == ([], 2)

    @pytest.mark.parametrize(
        ("members", "stamp", "shown"),
        [
            ({"data": {"userId": "u"}}, None, True),
            ({"data": {"userId": "v"}}, None, False),
            ({"data": {"title": "x"}, "previousData": {"userId": "v"}}, None, False),
            ({"data": {"userId": "u"}, "previousData": {"userId": "v"}}, None, True),
            ({"data": {"title": "x"}}, '{"userId":"u"}', True),
            ({"data": {"title": "x"}}, '{"userId":"v"}', False),
            ({"data": {"title": "x"}}, "{}", False),
            ({"data": None}, '{"userId":"u"}', True),
            ({"data": {"userId": None}}, '{"userId":"u"}', False),
        ],
    )
    def test_an_operation_is_judged_by_what_it_carries_over_its_stamp(
        self, members: dict[str, object], stamp: str | None, shown: bool
    ) -> None:
        tail = Tail(0, KNOWN)
        tail.extend([replace(entry(1, body=body(**members)), stamp=stamp)])
        assert bool(sequences(tail.page(View({"todos": {"userId": "u"}}), 0, 1))) is shown

    @pytest.mark.parametrize(
        ("where", "stamp", "told"),
        [
            ({"userId": None}, "{}", True),
            ({"userId": "u"}, '{"":["body"],"userId":"u"}', True),
            ({"body": "b"}, '{"":["body"],"userId":"u"}', False),
            ({"ghost": None}, '{"userId":"u"}', False),
            ({"id": "r"}, "{}", True),
        ],
    )
    def test_a_stamp_tells_of_the_fields_that_records_have_but_for_those_it_leaves_out(
        self, where: dict[str, object], stamp: str, told: bool
    ) -> None:
        tail = Tail(0, KNOWN)
        tail.extend([replace(entry(1, body=body(data={"title": "x"})), stamp=stamp)])
        page = tail.page(View({"todos": where}), 0, 1)
        assert (page is not None) is told
        assert page is None or sequences(page) == [1]

    def test_where_scopes_go_by_records_what_an_operation_says_is_not_enough(self) -> None:
        view = View({"todos": {"userId": "u"}}, by_record=True)
        tail = Tail(0, KNOWN)
        tail.extend([entry(1, body=body(data={"userId": "u"}))])
        assert tail.page(view, 0, 1) is None
        tail = Tail(0, KNOWN)
        tail.extend([replace(entry(1, body=body(data={"userId": "u"})), stamp='{"userId":"v"}')])
        assert sequences(tail.page(view, 0, 1)) == []
        tail = Tail(0, {})
        tail.extend([replace(entry(1, body=body(data={"userId": "u"})), stamp="{}")])
        assert tail.page(view, 0, 1) is None

    def test_without_a_stamp_somebody_has_to_look_the_record_up(self) -> None:
        tail = Tail(0)
        tail.extend([entry(1, body=body(data={"title": "x"}))])
        assert tail.page(View({"todos": {"userId": "u"}}), 0, 1) is None
        assert sequences(tail.page(View({"notes": {"userId": "u"}}), 0, 1)) == []

    def test_any_of_several_subsets_shows_an_operation(self) -> None:
        view = View(None, (("todos", {"n": 1}), ("todos", {"n": 2})))
        tail = Tail(0)
        tail.extend(entry(n, body=body(data={"n": n})) for n in (1, 2, 3))
        assert sequences(tail.page(view, 0, 3)) == [1, 2]


class TestSharing:
    """A page is cut once."""

    def test_equal_views_share_a_page(self) -> None:
        tail = Tail(0, {"todos": frozenset("ab")})
        tail.extend([replace(entry(1, body=body()), stamp="{}")])
        one, other = (View({"todos": {"a": 1, "b": 2}}), View({"todos": {"b": 2, "a": 1}}))
        assert tail.page(one, 0, 1) is tail.page(other, 0, 1)
        assert tail.page(one, 0, 1) is not tail.page(ALL, 0, 1)

    def test_other_parts_are_other_pages(self) -> None:
        tail = filled(1, 3)
        assert tail.page(ALL, 0, 3) is tail.page(ALL, 0, 3)
        assert tail.page(ALL, 0, 3) is not tail.page(ALL, 1, 3)
        assert tail.page(ALL, 0, 3) is not tail.page(ALL, 0, 2)

    def test_pages_are_forgotten_when_the_log_grows(self) -> None:
        tail = filled(1, 3)
        page = tail.page(ALL, 0, 3)
        tail.extend(numbered(4))
        assert tail.page(ALL, 0, 3) is not page

    def test_pages_are_forgotten_when_they_are_too_large_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_CACHED_BYTES", 3_000)
        tail = Tail(0)
        tail.extend([entry(1, body=b"x" * 1_000), entry(2, body=b"x" * 1_000)])
        first = tail.page(ALL, 0, 1)
        assert tail.page(ALL, 0, 1) is first
        tail.page(ALL, 0, 2)
        tail.page(ALL, 1, 2)
        again = tail.page(ALL, 0, 1)
        assert again is not first
        tail.page(ALL, 1, 2)
        assert tail.page(ALL, 0, 1) is again


class TestMemory:
    """The oldest entries go first."""

    def test_the_floor_rises_when_the_tail_is_full(self) -> None:
        tail = Tail(0, max_bytes=5_000)
        for number in range(1, 21):
            tail.extend([entry(number, body=b"x" * 600)])
            assert tail.frontier == number
        assert tail.floor == 15  # 1,000 each with what an entry costs
        assert tail.page(ALL, 14, 20) is None
        assert sequences(tail.page(ALL, 15, 20)) == [16, 17, 18, 19, 20]

    def test_what_is_dropped_is_soon_let_go_of(self) -> None:
        class Watched(DeliveryEntry, weakref=True, gc=True):
            pass

        watched: list[weakref.ref[Watched]] = []
        tail = Tail(0, max_bytes=1_000_000)
        for number in range(1, 3_901):
            one = Watched(number, f"op-{number}", "node-b", "todos", b"x" * 100)
            watched.append(weakref.ref(one))
            tail.extend([one])
        del one
        alive = sum(one() is not None for one in watched)
        assert 2_000 <= tail.frontier - tail.floor <= alive < tail.frontier - tail.floor + 1_000

    def test_a_commit_larger_than_the_tail_leaves_its_newest_part(self) -> None:
        tail = Tail(0, max_bytes=5_000)
        tail.extend(entry(number, body=b"x" * 600) for number in range(1, 101))
        assert (tail.floor, tail.frontier) == (95, 100)

    def test_an_operation_larger_than_the_tail_is_not_kept(self) -> None:
        tail = Tail(0, max_bytes=100)
        tail.extend([entry(1, body=b"x" * 600)])
        assert (tail.floor, tail.frontier) == (1, 1)
        assert tail.page(ALL, 0, 1) is None
        assert sequences(tail.page(ALL, 1, 1)) == []
