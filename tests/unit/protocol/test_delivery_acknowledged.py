"""The delivery stream goes by what the client acknowledges: window, positions, resends (wire.md section 5)."""

from __future__ import annotations

import pytest

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.delivery import FIRST_WINDOW_BYTES, WINDOW_BATCHES, WINDOW_BYTES, LogSpan
from kora_daemon.server.tail import MAX_PAGE_BYTES
from tests.support.downloads import applied, chain, grow, opened, passed_over, stall, streaming
from tests.support.operations import entry
from tests.support.rehearsal import Rehearsal


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

    def test_the_next_page_is_read_while_the_client_has_the_last_one_to_take(self) -> None:
        stage = opened(watermark=0, frontier=9)
        first = stage.show([entry(1)], upto=1)
        applied(stage, *first)
        stage.show([entry(2, body=b"x" * MAX_PAGE_BYTES)], upto=2)
        assert stage.reads[2:] == [do.ReadPage(LogSpan(2, 9))]
        stage.show([entry(3, body=b"x" * MAX_PAGE_BYTES)], upto=3)
        assert len(stage.reads) == 3

    def test_who_has_acknowledged_nothing_yet_gets_a_page(self) -> None:
        stage = opened(watermark=0, frontier=9)
        sent = stage.show([entry(1, body=b"x" * (FIRST_WINDOW_BYTES // 2))], upto=1)
        assert stage.reads[1:] == [do.ReadPage(LogSpan(1, 9))]
        sent += stage.show([entry(2, body=b"x" * MAX_PAGE_BYTES)], upto=2)
        assert len(stage.reads) == 2
        assert applied(stage, sent[0]) == [do.ReadPage(LogSpan(2, 9))]


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

    def test_a_full_window_is_empty_again_after_a_stall(self) -> None:
        stage = opened(watermark=0, frontier=9)
        stage.show([entry(1, body=b"x" * WINDOW_BYTES)], upto=1)
        assert stall(stage) == [do.ReadPage(LogSpan(0, 9))]

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
