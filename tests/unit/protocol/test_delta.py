"""The stream of clients without a watermark: a causal delta, then one live batch at a time (wire.md section 6)."""

from __future__ import annotations

import base64

import pytest

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.delivery import FIRST_WINDOW_BYTES, LogPositions, LogSpan
from kora_daemon.protocol.delta import WINDOW_BATCHES, decode_cursor, encode_cursor, resume_after
from kora_daemon.protocol.moves import Phase
from kora_daemon.protocol.rules import SessionRules
from tests.support.operations import entry
from tests.support.rehearsal import SERVER, Rehearsal, of_kind


def opened(frontier: int, delta: list[int], batch_size: int = 2) -> Rehearsal:
    """A session of node-a whose delta has been asked for."""
    stage = Rehearsal(SessionRules(SERVER, batch_size=batch_size))
    stage.greet_as_old_client(frontier, delta)
    return stage


def streaming(frontier: int, batch_size: int = 2) -> Rehearsal:
    """A session that is up to date."""
    stage = opened(frontier, [], batch_size)
    applied(stage, *stage.show([]))
    return stage


def applied(stage: Rehearsal, *batches: DeliveryBatch) -> list[do.ReadPage]:
    """The client takes these batches and says so; what is read now."""
    wanted: list[do.Action] = []
    for batch in batches:
        wanted += stage.take(say.Acknowledgment("a", batch.message_id, 0))
    return of_kind(do.ReadPage, wanted)


def grow(stage: Rehearsal, frontier: int) -> list[do.ReadPage]:
    return of_kind(do.ReadPage, stage.take(on.FrontierMoved(frontier)))


def stall(stage: Rehearsal) -> list[do.ReadPage]:
    due_ms = stage.session.due_ms
    assert due_ms is not None
    stage.pass_time(due_ms - stage.elapsed_ms)
    return of_kind(do.ReadPage, stage.take(on.Tick()))


def shown(batches: list[DeliveryBatch]) -> list[tuple[list[int], bool, int, int | None]]:
    """Sequences, final, index, total of each batch."""
    return [([e.sequence for e in b.entries], b.is_final, b.index, b.total) for b in batches]


def entries_at(read: do.ReadPage) -> list[int]:
    assert isinstance(read.read, LogPositions)
    return list(read.read.sequences)


class TestTheDelta:
    """Everything above the client's version vector, in causal order."""

    def test_it_is_cut_into_batches_with_total_and_cursor(self) -> None:
        stage = opened(9, [8, 3, 5])
        assert entries_at(stage.reads[-1]) == [8, 3]
        [first] = stage.show([entry(8), entry(3)])
        assert shown([first]) == [([8, 3], False, 0, 2)]
        assert first.cursor == encode_cursor("op-3", 0)
        assert entries_at(stage.reads[-1]) == [5]
        [second] = stage.show([entry(5)])
        assert shown([second]) == [([5], True, 1, 2)]
        assert second.cursor == encode_cursor("op-5", 1)

    def test_there_are_no_delivery_fields(self) -> None:
        [batch] = opened(1, [1]).show([entry(1)])
        assert batch.base is None

    def test_with_nothing_to_send_one_empty_final_batch_comes(self) -> None:
        stage = opened(4, [])
        [batch] = stage.show([])
        assert shown([batch]) == [([], True, 0, 1)]
        assert batch.cursor is None
        assert stage.session.phase is Phase.STREAMING

    def test_own_operations_are_sent_as_far_as_the_vector_asks_for_them(self) -> None:
        [batch] = opened(2, [1, 2]).show([entry(1, "node-a"), entry(2)])
        assert shown([batch]) == [([1, 2], True, 0, 1)]

    def test_a_few_batches_go_out_ahead_of_acknowledgments(self) -> None:
        delta = list(range(1, 40))
        stage = opened(39, delta)
        sent: list[DeliveryBatch] = []
        while len(stage.reads) > len(sent):
            sent += stage.show([entry(n) for n in entries_at(stage.reads[-1])])
        assert len(sent) == WINDOW_BATCHES
        [read] = applied(stage, sent[0])
        assert entries_at(read) == delta[2 * WINDOW_BATCHES : 2 * WINDOW_BATCHES + 2]

    def test_who_has_acknowledged_nothing_yet_gets_less(self) -> None:
        delta = list(range(1, 40))
        stage = opened(39, delta)
        large = b"x" * (FIRST_WINDOW_BYTES // 2)
        first = stage.show([entry(1, body=large), entry(2, body=large)])
        assert len(stage.reads) == 1
        assert len(applied(stage, *first)) == 1
        stage.show([entry(3, body=large), entry(4, body=large)])
        assert len(stage.reads) == 3

    def test_what_is_hidden_leaves_an_empty_batch(self) -> None:
        stage = opened(3, [1, 2, 3])
        assert shown(stage.show([])) == [([], False, 0, 2)]
        assert shown(stage.show([entry(3)])) == [([3], True, 1, 2)]

    def test_a_stall_sends_again_from_what_was_acknowledged(self) -> None:
        stage = opened(5, [1, 2, 3, 4, 5])
        sent = [*stage.show([entry(1), entry(2)]), *stage.show([entry(3), entry(4)]), *stage.show([entry(5)])]
        applied(stage, sent[0])
        [read] = stall(stage)
        assert entries_at(read) == [3, 4]
        assert shown(stage.show([entry(3), entry(4)])) == [([3, 4], False, 1, 3)]
        assert shown(stage.show([entry(5)])) == [([5], True, 2, 3)]

    def test_an_empty_final_batch_is_sent_again_too(self) -> None:
        stage = opened(5, [])
        stage.show([])
        [read] = stall(stage)
        assert entries_at(read) == []
        assert shown(stage.show([])) == [([], True, 0, 1)]


class TestLiveBatches:
    """The log as it grows."""

    def test_they_wait_for_the_delta_to_be_acknowledged(self) -> None:
        stage = opened(2, [1, 2])
        delta = stage.show([entry(1), entry(2)])
        assert grow(stage, 3) == []
        assert applied(stage, *delta) == [do.ReadPage(LogSpan(2, 3))]
        assert shown(stage.show([entry(3)])) == [([3], True, 0, None)]

    def test_only_one_is_under_way(self) -> None:
        stage = streaming(2)
        assert grow(stage, 3) == [do.ReadPage(LogSpan(2, 3))]
        live = stage.show([entry(3)])
        assert grow(stage, 5) == []
        assert applied(stage, *live) == [do.ReadPage(LogSpan(3, 5))]

    def test_each_is_final_and_has_index_zero(self) -> None:
        stage = streaming(2)
        for sequence in (3, 4):
            grow(stage, sequence)
            live = stage.show([entry(sequence)])
            assert shown(live) == [([sequence], True, 0, None)]
            assert live[0].cursor is None
            applied(stage, *live)

    def test_a_long_page_is_cut_and_read_on_from_there(self) -> None:
        stage = streaming(0)
        grow(stage, 9)
        live = stage.show([entry(n) for n in (2, 4, 7, 9)])
        assert shown(live) == [([2, 4], True, 0, None)]
        assert applied(stage, *live) == [do.ReadPage(LogSpan(4, 9))]

    def test_own_operations_are_left_out(self) -> None:
        stage = streaming(0)
        grow(stage, 4)
        session = stage.session.number
        mixed = [entry(1, "node-a"), entry(2, "node-z", session), entry(3, "node-z", 0), entry(4, "node-z", 99)]
        assert shown(stage.show(mixed)) == [([3, 4], True, 0, None)]

    def test_nothing_is_sent_when_nothing_is_visible(self) -> None:
        stage = streaming(0)
        grow(stage, 4)
        assert stage.show([]) == []
        assert grow(stage, 5) == [do.ReadPage(LogSpan(4, 5))]

    def test_an_unacknowledged_one_is_sent_again_and_again_with_longer_waits(self) -> None:
        stage = streaming(0)
        grow(stage, 1)
        waits = []
        for _ in range(7):
            assert shown(stage.show([entry(1)])) == [([1], True, 0, None)]
            assert stage.session.due_ms is not None
            waits.append(stage.session.due_ms - stage.elapsed_ms)
            assert stall(stage) == [do.ReadPage(LogSpan(0, 1))]
        assert waits == [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]

    def test_an_acknowledgment_of_something_else_moves_nothing(self) -> None:
        stage = streaming(0)
        grow(stage, 1)
        stage.show([entry(1)])
        stage.take(say.Acknowledgment("a", "something else", 0))
        assert stall(stage) == [do.ReadPage(LogSpan(0, 1))]


class TestCursors:
    """Where a download was interrupted."""

    def test_the_text_is_what_clients_write(self) -> None:
        cursor = encode_cursor("op-1", 3)
        assert "=" not in cursor
        padded = cursor + "=" * (-len(cursor) % 4)
        assert base64.urlsafe_b64decode(padded) == b'{"lastOperationId":"op-1","batchIndex":3}'

    @pytest.mark.parametrize("operation_id", ["a", "ab", "abc", "ü", "\U0001f600"])
    def test_it_is_read_back(self, operation_id: str) -> None:
        assert decode_cursor(encode_cursor(operation_id, 0)) == operation_id

    @pytest.mark.parametrize(
        "cursor",
        [
            None,
            5,
            [],
            "",
            "x",
            "\ud800",
            "ü" * 8,
            base64.urlsafe_b64encode(b"\xff\xfe").decode(),
            base64.urlsafe_b64encode(b"[" * 100_000).decode(),
            base64.urlsafe_b64encode(b"9" * 5_000).decode(),
            *(base64.urlsafe_b64encode(text).decode() for text in (b"1", b"[]", b"{}", b'"op-1"', b"null")),
            base64.urlsafe_b64encode(b'{"lastOperationId": 5, "batchIndex": 0}').decode(),
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_what_is_no_cursor_is_ignored(self, cursor: object) -> None:
        assert decode_cursor(cursor) is None
        assert resume_after(["op-1", "op-2"], cursor) == 0

    def test_the_download_goes_on_behind_the_operation_it_names(self) -> None:
        assert resume_after(["op-3", "op-1", "op-2"], encode_cursor("op-1", 7)) == 2

    def test_an_operation_that_is_not_in_the_delta_starts_it_from_the_beginning(self) -> None:
        assert resume_after(["op-3", "op-1"], encode_cursor("op-9", 7)) == 0
