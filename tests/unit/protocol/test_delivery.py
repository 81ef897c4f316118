"""The delivery stream: batches chained base -> max from the client's watermark (wire.md section 5)."""

from __future__ import annotations

import pytest

from kora_daemon.errors import SessionMisuse
from kora_daemon.model.delivery import DeliveryBatch, Page
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.delivery import LogSpan
from tests.support.downloads import applied, chain, grow, opened, streaming
from tests.support.operations import entry
from tests.support.rehearsal import Rehearsal, of_kind, said


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

    def test_a_batch_begins_where_the_page_says(self) -> None:
        stage = opened(watermark=0, frontier=9, batch_size=3)
        batches = stage.show([entry(n) for n in (1, 2, 4, 5, 6, 7, 8)], apart=(2, 8))
        assert chain(batches) == [
            (0, [1], 1, False, 0),
            (1, [2, 4, 5], 5, False, 1),
            (5, [6, 7], 7, False, 2),
            (7, [8], 9, True, 3),
        ]

    def test_a_beginning_at_the_first_of_a_page_or_behind_a_full_batch_changes_nothing(self) -> None:
        stage = opened(watermark=0, frontier=5)
        batches = stage.show([entry(n) for n in (1, 2, 3, 5)], apart=(1, 3))
        assert chain(batches) == [(0, [1, 2], 2, False, 0), (2, [3, 5], 5, True, 1)]

    def test_what_is_left_out_of_a_page_leaves_its_beginnings(self) -> None:
        stage = opened(watermark=1, frontier=5, batch_size=4)
        batches = stage.show([entry(2), entry(3, "node-a"), entry(4)], apart=(3,))
        assert chain(batches) == [(1, [2], 2, False, 0), (2, [4], 5, True, 1)]

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

    def test_what_is_passed_over_is_not_read_again(self) -> None:
        stage = streaming(5)
        assert stage.session.live_at == 5
        stage.session.pass_over(9)
        assert stage.session.live_at == 9
        assert stage.take(on.FrontierMoved(9)) == []
        stage.take(on.FrontierMoved(12))
        assert stage.reads[-1].read == LogSpan(9, 12)
        assert stage.session.live_at is None, "it is being read"
        assert chain(stage.show([entry(11)])) == [(5, [11], 12, True, 0)]

    def test_nothing_is_passed_over_while_the_client_catches_up(self) -> None:
        assert opened(0, 5).session.live_at is None

    def test_the_same_frontier_again_is_no_news(self) -> None:
        stage = streaming(4)
        assert grow(stage, 4) == grow(stage, 3) == []

    def test_the_frontier_never_goes_back(self) -> None:
        stage = streaming(4)
        grow(stage, 5)
        grow(stage, 7)
        grow(stage, 6)
        stage.show([entry(5)])
        assert stage.reads[-1].read == LogSpan(5, 7)

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


class TestSharing:
    """Live sessions of one view at one position get the same batch, encoded once."""

    def sessions(self, *node_ids: str) -> list[Rehearsal]:
        """Sessions that are up to date at 4 and have asked for what is above."""
        stages = [Rehearsal(number=number) for number in range(1, len(node_ids) + 1)]
        for stage, node_id in zip(stages, node_ids, strict=True):
            stage.greet(4, node_id=node_id, last_delivery_sequence=4)
            applied(stage, *stage.show([]))
            grow(stage, 7)
        return stages

    def batches(self, stage: Rehearsal, page: Page) -> list[DeliveryBatch]:
        return [action.batch for action in of_kind(do.Deliver, stage.take(on.PageRead(page)))]

    def test_equal_positions_share_the_batch_itself(self) -> None:
        page = Page.of(4, 7, [entry(5, "node-z"), entry(6, "node-z")])
        left, right = self.sessions("node-a", "node-b")
        [one], [other] = self.batches(left, page), self.batches(right, page)
        assert one is other

    def test_the_author_gets_its_own_cut_and_leaves_the_others_whole(self) -> None:
        page = Page.of(4, 7, [entry(5, "node-a"), entry(6, "node-z"), entry(7, "node-b", origin=3)])
        author, other, uploader, stranger = self.sessions("node-a", "node-b", "node-c", "node-d")
        assert chain(self.batches(author, page)) == [(4, [6, 7], 7, True, 0)]
        assert chain(self.batches(other, page)) == [(4, [5, 6], 7, True, 0)]
        assert chain(self.batches(uploader, page)) == [(4, [5, 6], 7, True, 0)]
        assert chain(self.batches(stranger, page)) == [(4, [5, 6, 7], 7, True, 0)]

    def test_a_download_is_shared_with_nobody(self) -> None:
        # A late acknowledgment of the same client's last connection would count as one of this connection.
        page = Page.of(4, 7, [entry(5)])
        stages = [Rehearsal(), Rehearsal()]
        for stage in stages:
            stage.greet(7, last_delivery_sequence=4)
        [one], [other] = (self.batches(stage, page) for stage in stages)
        assert one is not other
