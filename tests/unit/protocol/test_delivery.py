"""The delivery stream: batches chained base -> max from the client's watermark (wire.md section 5)."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.errors import SessionMisuse
from kora_daemon.model.delivery import DeliveryBatch, Page
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.delivery import WINDOW_BATCHES, WINDOW_BYTES, LogSpan
from kora_daemon.protocol.session import Session, SessionRules
from tests.support.operations import entry
from tests.support.rehearsal import SERVER, Rehearsal, handshake_of, of_kind, said


def opened(watermark: int, frontier: int, batch_size: int = 2, **handshake: Any) -> Rehearsal:
    """A session of node-a whose download has been asked for."""
    stage = Rehearsal(SessionRules(SERVER, batch_size=batch_size))
    stage.greet(frontier, last_delivery_sequence=watermark, **handshake)
    return stage


def streaming(watermark: int, batch_size: int = 2) -> Rehearsal:
    """A session that is up to date."""
    stage = opened(watermark, watermark, batch_size)
    applied(stage, *stage.show([]))
    return stage


def applied(stage: Rehearsal, *batches: DeliveryBatch) -> list[do.Action]:
    """The client applies these batches and says so."""
    wanted: list[do.Action] = []
    for batch in batches:
        last = 7 if batch.entries else 0
        wanted += stage.take(say.Acknowledgment("a", batch.message_id, last, batch.maximum))
    return wanted


def passed_over(stage: Rehearsal, batch: DeliveryBatch, watermark: object) -> list[do.Action]:
    """The client has a batch already, takes it for a duplicate, and answers with the watermark that it holds."""
    return stage.take(say.Acknowledgment("a", batch.message_id, 0, watermark))


def grow(stage: Rehearsal, frontier: int) -> list[do.ReadPage]:
    """The log reaches further; what is read now."""
    return of_kind(do.ReadPage, stage.take(on.FrontierMoved(frontier)))


def stall(stage: Rehearsal) -> list[do.ReadPage]:
    """Let the acknowledgment be overdue; what is read now."""
    due_ms = stage.session.due_ms
    assert due_ms is not None
    stage.pass_time(due_ms - stage.elapsed_ms)
    return of_kind(do.ReadPage, stage.take(on.Tick()))


def chain(batches: list[DeliveryBatch]) -> list[tuple[int | None, list[int], int, bool, int]]:
    """Base, sequences, maximum, final, index of each batch."""
    return [(b.base, [e.sequence for e in b.entries], b.maximum, b.is_final, b.index) for b in batches]


class TestTheDownload:
    """The scan at the handshake."""

    def test_the_chain_begins_at_the_watermark_and_ends_at_the_frontier(self) -> None:
        stage = opened(watermark=3, frontier=9)
        batches = stage.show([entry(n) for n in (4, 5, 7, 8, 9)])
        assert chain(batches) == [
            (3, [4, 5], 5, False, 0),
            (5, [7, 8], 8, False, 1),
            (8, [9], 9, True, 2),
        ]

    def test_there_is_no_cursor_and_no_total(self) -> None:
        [batch] = opened(0, 1).show([entry(1)])
        assert (batch.cursor, batch.total) == (None, None)

    def test_every_batch_has_an_id_of_its_own(self) -> None:
        batches = opened(0, 5).show([entry(n) for n in range(1, 6)])
        assert len({batch.message_id for batch in batches}) == 3

    def test_the_final_batch_skips_the_invisible_tail_for_good(self) -> None:
        stage = opened(watermark=0, frontier=50)
        assert chain(stage.show([entry(1), entry(2), entry(7)])) == [(0, [1, 2], 2, False, 0), (2, [7], 50, True, 1)]

    @pytest.mark.parametrize(("watermark", "frontier"), [(0, 0), (0, 8), (8, 8), (3, 8)])
    def test_with_nothing_visible_one_empty_final_batch_comes(self, watermark: int, frontier: int) -> None:
        stage = opened(watermark, frontier)
        assert chain(stage.show([])) == [(watermark, [], frontier, True, 0)]

    def test_it_goes_on_page_by_page(self) -> None:
        stage = opened(watermark=0, frontier=9)
        assert chain(stage.show([entry(1), entry(2), entry(3)], upto=4)) == [
            (0, [1, 2], 2, False, 0),
            (2, [3], 3, False, 1),
        ]
        assert stage.reads[-1].read == LogSpan(4, 9)
        assert chain(stage.show([entry(6), entry(9)])) == [(3, [6, 9], 9, True, 2)]

    def test_a_page_without_anything_visible_sends_nothing_and_the_next_one_is_read(self) -> None:
        stage = opened(watermark=0, frontier=9)
        assert stage.show([], upto=5) == []
        assert stage.reads[-1].read == LogSpan(5, 9)
        assert chain(stage.show([])) == [(0, [], 9, True, 0)]

    def test_what_is_committed_meanwhile_comes_behind_the_final_batch(self) -> None:
        stage = opened(watermark=0, frontier=2)
        assert grow(stage, 4) == []
        assert chain(stage.show([entry(1), entry(2)])) == [(0, [1, 2], 2, True, 0)]
        assert stage.reads[-1].read == LogSpan(2, 4)
        assert chain(stage.show([entry(3), entry(4)])) == [(2, [3, 4], 4, True, 0)]

    def test_only_one_page_is_read_at_a_time(self) -> None:
        stage = opened(watermark=0, frontier=2)
        assert grow(stage, 3) == grow(stage, 4) == []
        assert len(stage.reads) == 1

    def test_a_page_that_nobody_asked_for_is_a_bug(self) -> None:
        stage = streaming(4)
        with pytest.raises(SessionMisuse):
            stage.take(on.PageRead(Page.of(4, 5, [entry(5)])))


class TestTheStartingPoint:
    """Which operations of its own a client gets."""

    def test_a_client_with_a_watermark_gets_none_of_its_own(self) -> None:
        stage = opened(watermark=1, frontier=5)
        mixed = [entry(2, "node-a"), entry(3, "node-b"), entry(4, "node-a"), entry(5, "node-a")]
        assert chain(stage.show(mixed)) == [(1, [3], 5, True, 0)]

    def test_a_client_at_zero_gets_its_own_too(self) -> None:
        stage = opened(watermark=0, frontier=3)
        mixed = [entry(1, "node-a"), entry(2, "node-b"), entry(3, "node-a")]
        assert chain(stage.show(mixed)) == [(0, [1, 2], 2, False, 0), (2, [3], 3, True, 1)]

    def test_what_it_uploads_after_the_handshake_is_not_sent_back(self) -> None:
        stage = opened(watermark=0, frontier=0)
        stage.show([])
        grow(stage, 3)
        assert chain(stage.show([entry(1, "node-a"), entry(2), entry(3, "node-a")])) == [(0, [2], 3, True, 0)]

    def test_operations_of_other_nodes_that_it_uploaded_are_not_sent_back(self) -> None:
        stage = streaming(4)
        grow(stage, 6)
        session = stage.session.number
        assert chain(stage.show([entry(5, "node-z", session), entry(6, "node-z", 99)])) == [(4, [6], 6, True, 0)]

    def test_an_unknown_origin_hides_nothing(self) -> None:
        stage = opened(watermark=1, frontier=3)
        assert chain(stage.show([entry(2, "node-a", 0), entry(3, "node-b", 0)])) == [(1, [3], 3, True, 0)]

    def test_a_watermark_above_the_log_starts_over_at_zero_and_the_announced_maximum_says_so(self) -> None:
        stage = opened(watermark=40, frontier=3)
        [response] = said(stage.actions)
        assert isinstance(response, say.HandshakeResponse)
        assert response.server_max_delivery_sequence == 3
        batches = stage.show([entry(1, "node-a"), entry(2), entry(3)])
        assert chain(batches) == [(0, [1, 2], 2, False, 0), (2, [3], 3, True, 1)]


class TestStreaming:
    """Live batches."""

    def test_each_growth_of_the_log_is_a_final_batch_behind_the_last(self) -> None:
        stage = streaming(4)
        assert grow(stage, 5) == [do.ReadPage(LogSpan(4, 5))]
        assert chain(stage.show([entry(5)])) == [(4, [5], 5, True, 0)]
        assert grow(stage, 7) == [do.ReadPage(LogSpan(5, 7))]
        assert chain(stage.show([entry(6)])) == [(5, [6], 7, True, 0)]

    def test_nothing_is_sent_when_nothing_is_visible(self) -> None:
        stage = streaming(4)
        grow(stage, 9)
        assert stage.show([]) == []
        assert stage.session.due_ms is None

    def test_the_base_stays_where_the_client_is_when_something_invisible_lies_between(self) -> None:
        stage = streaming(4)
        grow(stage, 9)
        stage.show([])
        assert grow(stage, 10) == [do.ReadPage(LogSpan(9, 10))]
        assert chain(stage.show([entry(10)])) == [(4, [10], 10, True, 0)]

    def test_the_same_frontier_again_is_no_news(self) -> None:
        stage = streaming(4)
        assert grow(stage, 4) == grow(stage, 3) == []

    def test_batches_go_out_ahead_of_acknowledgments(self) -> None:
        stage = streaming(4)
        for sequence in range(5, 10):
            grow(stage, sequence)
            assert len(stage.show([entry(sequence)])) == 1

    def test_a_long_page_is_cut_and_only_its_last_batch_is_final(self) -> None:
        stage = streaming(4)
        grow(stage, 9)
        batches = stage.show([entry(n) for n in (5, 6, 7)])
        assert chain(batches) == [(4, [5, 6], 6, False, 0), (6, [7], 9, True, 1)]


class TestTheWindow:
    """What is sent and not acknowledged is bounded."""

    def test_a_client_that_takes_too_long_is_waited_for(self) -> None:
        stage = streaming(0, batch_size=1)
        sent: list[DeliveryBatch] = []
        for sequence in range(1, WINDOW_BATCHES + 1):
            assert grow(stage, sequence) != []
            sent += stage.show([entry(sequence)])
        assert grow(stage, WINDOW_BATCHES + 1) == []
        assert applied(stage, sent[0]) == [do.ReadPage(LogSpan(WINDOW_BATCHES, WINDOW_BATCHES + 1))]

    def test_large_operations_fill_the_window_sooner(self) -> None:
        stage = opened(watermark=0, frontier=9)
        sent = stage.show([entry(1, body=b"x" * WINDOW_BYTES)], upto=1)
        assert len(stage.reads) == 1
        assert applied(stage, *sent) == [do.ReadPage(LogSpan(1, 9))]


class TestAcknowledgments:
    """They carry the client's watermark."""

    def test_without_open_batches_nothing_is_due(self) -> None:
        stage = opened(watermark=0, frontier=1)
        sent = stage.show([entry(1)])
        assert stage.session.due_ms == stage.elapsed_ms + 2_000
        assert applied(stage, *sent) == []
        assert stage.session.due_ms is None

    def test_the_empty_final_batch_is_settled_by_an_acknowledgment_that_moves_nothing(self) -> None:
        stage = opened(watermark=7, frontier=7)
        sent = stage.show([])
        assert stage.session.due_ms is not None
        assert applied(stage, *sent) == []
        assert stage.session.due_ms is None

    def test_one_acknowledgment_may_stand_for_several_batches(self) -> None:
        stage = opened(watermark=0, frontier=6)
        sent = stage.show([entry(n) for n in range(1, 7)])
        applied(stage, sent[1])
        assert stage.session.due_ms is not None
        applied(stage, sent[2])
        assert stage.session.due_ms is None

    @pytest.mark.parametrize("sequence", [None, True, "2", 2.0, [], -1, 0, 3, 10**400])
    def test_what_was_never_sent_is_not_believed(self, sequence: object) -> None:
        stage = opened(watermark=0, frontier=2)
        [batch] = stage.show([entry(1), entry(2)])
        assert passed_over(stage, batch, sequence) == []
        assert stall(stage) == [do.ReadPage(LogSpan(0, 2))]

    def test_one_that_lands_between_two_batches_starts_over_from_there(self) -> None:
        stage = opened(watermark=0, frontier=6, batch_size=4)
        [first, _] = stage.show([entry(n) for n in range(1, 7)])
        assert passed_over(stage, first, 2) == [do.ReadPage(LogSpan(2, 6))]
        assert chain(stage.show([entry(n) for n in range(3, 7)])) == [(2, [3, 4, 5, 6], 6, True, 0)]

    def test_a_late_one_of_an_earlier_cut_is_believed(self) -> None:
        stage = opened(watermark=0, frontier=3)
        [first, _] = stage.show([entry(n) for n in (1, 2, 3)])
        assert stall(stage) == [do.ReadPage(LogSpan(0, 3))]
        assert applied(stage, first) == []  # the page under way is of no use now
        assert stage.show([entry(n) for n in (1, 2, 3)]) == []
        assert stage.reads[-1].read == LogSpan(2, 3)
        assert chain(stage.show([entry(3)])) == [(2, [3], 3, True, 0)]

    def test_the_acknowledged_position_never_goes_back(self) -> None:
        stage = opened(watermark=0, frontier=4)
        [first, second] = stage.show([entry(n) for n in range(1, 5)])
        applied(stage, first)
        assert passed_over(stage, second, 1) == []
        assert stall(stage) == [do.ReadPage(LogSpan(2, 4))]

    def test_a_client_that_took_frames_of_its_last_connection_is_met_where_it_is(self) -> None:
        stage = opened(watermark=2, frontier=8)
        [first, *_] = stage.show([entry(n) for n in range(3, 9)])
        assert passed_over(stage, first, 5) == [do.ReadPage(LogSpan(5, 8))]
        assert chain(stage.show([entry(6), entry(7), entry(8)])) == [(5, [6, 7], 7, False, 0), (7, [8], 8, True, 1)]

    def test_a_final_batch_that_was_passed_over_is_followed_by_another(self) -> None:
        stage = opened(watermark=2, frontier=4)
        [final] = stage.show([entry(3), entry(4)])
        assert passed_over(stage, final, 4) == [do.ReadPage(LogSpan(4, 4))]
        assert chain(stage.show([])) == [(4, [], 4, True, 0)]

    def test_before_the_download_nothing_is_to_acknowledge(self) -> None:
        stage = Rehearsal()
        stage.greet(frontier=3)
        assert stage.take(say.Acknowledgment("a", "b", 0, 0)) == []


class TestResends:
    """Whatever is not acknowledged in time is read and sent again."""

    def test_after_two_seconds_the_client_gets_it_again_from_what_it_acknowledged(self) -> None:
        stage = opened(watermark=0, frontier=4)
        [first, _] = stage.show([entry(n) for n in range(1, 5)])
        applied(stage, first)
        stage.pass_time(1_999)
        assert stage.take(on.Tick()) == []
        stage.pass_time(1)
        assert stage.take(on.Tick()) == [do.ReadPage(LogSpan(2, 4))]
        assert chain(stage.show([entry(3), entry(4)])) == [(2, [3, 4], 4, True, 0)]

    def test_a_download_that_never_ended_for_the_client_ends_with_a_final_batch_again(self) -> None:
        stage = opened(watermark=5, frontier=9)
        stage.show([])
        stall(stage)
        assert chain(stage.show([])) == [(5, [], 9, True, 0)]

    def test_a_settled_download_is_not_made_final_again(self) -> None:
        stage = streaming(4)
        grow(stage, 6)
        stage.show([entry(5)])
        stall(stage)
        again = stage.show([entry(5)])
        assert chain(again) == [(4, [5], 6, True, 0)]
        assert applied(stage, *again) == []
        assert stage.session.due_ms is None

    def test_waits_double_up_to_a_minute(self) -> None:
        stage = opened(watermark=0, frontier=1)
        waits = []
        for _ in range(8):
            stage.show([entry(1)])
            assert stage.session.due_ms is not None
            waits.append(stage.session.due_ms - stage.elapsed_ms)
            stall(stage)
        assert waits == [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]

    def test_progress_makes_the_waits_short_again(self) -> None:
        stage = opened(watermark=0, frontier=4)
        for _ in range(3):
            stage.show([entry(n) for n in range(1, 5)])
            stall(stage)
        [first, _] = stage.show([entry(n) for n in range(1, 5)])
        applied(stage, first)
        assert stage.session.due_ms == stage.elapsed_ms + 2_000

    def test_nothing_is_due_while_the_page_is_read_again(self) -> None:
        stage = opened(watermark=0, frontier=1)
        stage.show([entry(1)])
        stall(stage)
        assert stage.session.due_ms is None

    def test_a_page_under_way_when_the_stall_shows_is_thrown_away(self) -> None:
        stage = streaming(4)
        grow(stage, 5)
        stage.show([entry(5)])
        grow(stage, 6)
        assert stall(stage) == []
        assert stage.show([entry(6)]) == []
        assert stage.reads[-1].read == LogSpan(4, 6)
        assert chain(stage.show([entry(5), entry(6)])) == [(4, [5, 6], 6, True, 0)]

    def test_own_operations_of_before_a_fresh_start_are_sent_again_too(self) -> None:
        stage = opened(watermark=0, frontier=2)
        stage.show([entry(1, "node-a"), entry(2, "node-a")])
        stall(stage)
        assert chain(stage.show([entry(1, "node-a"), entry(2, "node-a")])) == [(0, [1, 2], 2, True, 0)]


class TestSharing:
    """Sessions of one view at one position get the same batch, encoded once."""

    def sessions(self, *node_ids: str) -> list[Session]:
        ids = iter(range(1_000))
        sessions = []
        for number, node_id in enumerate(node_ids, 1):
            session = Session(number, SessionRules(SERVER), on.Moment(0, 0), lambda: f"s-{next(ids)}")
            for event in (handshake_of(node_id, last_delivery_sequence=4), on.Authenticated(""), on.LogRead(7, {})):
                session.step(event, on.Moment(0, 0))
            sessions.append(session)
        return sessions

    def batches(self, session: Session, page: Page) -> list[DeliveryBatch]:
        return [action.batch for action in of_kind(do.Deliver, session.step(on.PageRead(page), on.Moment(0, 0)))]

    def test_equal_positions_share_the_batch_itself(self) -> None:
        page = Page.of(4, 7, [entry(5, "node-z"), entry(6, "node-z")])
        left, right = self.sessions("node-a", "node-b")
        [one], [other] = self.batches(left, page), self.batches(right, page)
        assert one is other

    def test_the_author_gets_its_own_cut_and_leaves_the_others_whole(self) -> None:
        page = Page.of(4, 7, [entry(5, "node-a"), entry(6, "node-z"), entry(7, "node-b")])
        author, other, stranger = self.sessions("node-a", "node-b", "node-c")
        assert chain(self.batches(author, page)) == [(4, [6, 7], 7, True, 0)]
        assert chain(self.batches(other, page)) == [(4, [5, 6], 7, True, 0)]
        assert chain(self.batches(stranger, page)) == [(4, [5, 6, 7], 7, True, 0)]
