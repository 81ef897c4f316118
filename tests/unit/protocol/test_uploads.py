"""Uploads: the checks that need no record, and one acknowledgment for each batch, in order (wire.md section 7)."""

from __future__ import annotations

import json

import msgspec
import pytest
from msgspec import Raw

from kora_daemon.errors import SessionMisuse
from kora_daemon.model.clock import INGEST_TOLERANCE_MS, MAX_LOGICAL
from kora_daemon.model.operation import Operation, Timestamp
from kora_daemon.model.outcome import Rejection
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.moves import Phase
from kora_daemon.protocol.rules import SessionRules
from kora_daemon.protocol.uploads import (
    MAX_READ_PAUSE_MS,
    MAX_UNCOMMITTED_BYTES,
    MAX_UNCOMMITTED_OPERATIONS,
    UploadLimits,
)
from tests.support.operations import NOON_MS, operation, upload
from tests.support.rehearsal import SERVER, Rehearsal, of_kind, said

UNIQUE = Rejection("op-2", "todos", "rec-2", "CONSTRAINT_VIOLATION", "the title is taken")


def streaming(limits: UploadLimits | None = None) -> Rehearsal:
    stage = Rehearsal(SessionRules(SERVER, limits=limits or UploadLimits()))
    stage.greet()
    return stage


def handed_over(actions: list[do.Action]) -> list[Operation]:
    """The operations of the one commit among the actions."""
    [commit] = of_kind(do.Commit, actions)
    return list(commit.operations)


def summary(actions: list[do.Action]) -> list[tuple[str, str, object]]:
    """What a client is told: acknowledged batch and sequence number, or refused operation and code."""
    told: list[tuple[str, str, object]] = []
    for message in said(actions):
        if isinstance(message, say.Acknowledgment):
            told.append(("ack", message.acknowledged_message_id, message.last_sequence_number))
        elif isinstance(message, say.OperationRejected):
            told.append(("rejected", message.operation_id, message.code))
        elif isinstance(message, say.ErrorMessage):
            told.append(("error", "", message.code))
    return told


def refused(stage: Rehearsal, *operations: Operation, size_bytes: int = 1_000) -> list[tuple[str, str, object]]:
    """What is said of an upload of which nothing is left to commit."""
    assert handed_over(stage.take(upload(*operations, size_bytes=size_bytes))) == []
    return summary(stage.take(on.Committed([])))


def assert_ends_with_error(stage: Rehearsal, batch: say.OperationBatch, code: str, *, retriable: bool) -> None:
    """Nothing of the batch is applied or acknowledged: an error, and the end."""
    error, close = stage.take(batch)
    [message] = said([error])
    assert isinstance(message, say.ErrorMessage)
    assert (message.code, message.retriable) == (code, retriable)
    assert isinstance(close, do.Close)
    assert stage.session.phase is Phase.CLOSED
    assert stage.take(on.Committed([])) == []


def test_a_batch_is_acknowledged_once_it_is_durable_and_not_before() -> None:
    stage = streaming()
    operations = [operation(1), operation(2, sequence_number=9)]
    actions = stage.take(upload(*operations, message_id="up-7", size_bytes=700))
    assert actions == [do.Commit(operations, 700)]
    assert summary(stage.take(on.Committed([]))) == [("ack", "up-7", 9)]


def test_an_empty_batch_is_acknowledged_with_zero() -> None:
    stage = streaming()
    assert handed_over(stage.take(upload(message_id="up-0"))) == []
    assert summary(stage.take(on.Committed([]))) == [("ack", "up-0", 0)]


def test_the_last_operation_counts_not_the_largest_number() -> None:
    stage = streaming()
    stage.take(upload(operation(3), operation(2)))
    assert summary(stage.take(on.Committed([]))) == [("ack", "up-1", 2)]


def test_batches_are_acknowledged_in_the_order_they_came() -> None:
    stage = streaming()
    for number in (1, 2, 3):
        stage.take(upload(operation(number), message_id=f"up-{number}"))
    acks = [summary(stage.take(on.Committed([]))) for _ in range(3)]
    assert acks == [[("ack", "up-1", 1)], [("ack", "up-2", 2)], [("ack", "up-3", 3)]]


def test_nothing_is_committed_that_was_not_handed_over() -> None:
    stage = streaming()
    stage.take(upload(operation()))
    stage.take(on.Committed([]))
    with pytest.raises(SessionMisuse):
        stage.take(on.Committed([]))


def test_a_rejection_is_said_before_the_acknowledgment() -> None:
    stage = streaming()
    stage.take(upload(operation(1), operation(2), operation(3)))
    actions = stage.take(on.Committed([UNIQUE]))
    assert summary(actions) == [("rejected", "op-2", "CONSTRAINT_VIOLATION"), ("ack", "up-1", 3)]
    rejected = said(actions)[0]
    assert rejected == say.OperationRejected(
        rejected.message_id, "op-2", "todos", "rec-2", "CONSTRAINT_VIOLATION", "the title is taken", False
    )


def test_an_old_client_hears_an_error_then_the_acknowledgment() -> None:
    stage = Rehearsal()
    stage.greet_as_old_client()
    stage.take(upload(operation(2)))
    assert summary(stage.take(on.Committed([UNIQUE]))) == [("error", "", "CONSTRAINT_VIOLATION"), ("ack", "up-1", 2)]
    assert stage.closes == []


def test_a_failing_store_acknowledges_nothing() -> None:
    stage = streaming()
    stage.take(upload(operation()))
    assert stage.take(on.StoreFailed()) == [do.Close(do.INTERNAL_ERROR, "store unavailable")]


def test_a_malformed_operation_is_refused_alone() -> None:
    stage = streaming()
    bad = Rejection("op-2", "", "", "INVALID_OPERATION", "no type")
    batch = say.DamagedBatch("up-1", [operation(1), operation(3)], True, 0, 900, [bad], 3)
    assert [one.id for one in handed_over(stage.take(batch))] == ["op-1", "op-3"]
    assert summary(stage.take(on.Committed([]))) == [("rejected", "op-2", "INVALID_OPERATION"), ("ack", "up-1", 3)]


@pytest.mark.parametrize("ahead_ms", [0, INGEST_TOLERANCE_MS])
def test_a_clock_a_little_fast_is_fine(ahead_ms: int) -> None:
    stage = streaming()
    assert len(handed_over(stage.take(upload(operation(wall_time=NOON_MS + ahead_ms))))) == 1


def test_an_operation_from_the_future_stops_its_whole_batch_without_an_acknowledgment() -> None:
    stage = streaming()
    batch = upload(operation(1), operation(2, wall_time=NOON_MS + INGEST_TOLERANCE_MS + 1), operation(3))
    assert_ends_with_error(stage, batch, "INVALID_TIMESTAMP", retriable=False)
    assert of_kind(do.Commit, stage.actions) == []


def test_an_acknowledgment_never_follows_an_error_about_the_future() -> None:
    stage = streaming()
    stage.take(upload(operation(1), message_id="up-1"))
    stage.take(upload(operation(2, wall_time=NOON_MS * 2), message_id="up-2"))
    assert stage.take(on.Committed([])) == []


def test_old_operations_are_welcome_however_old() -> None:
    stage = streaming()
    assert len(handed_over(stage.take(upload(operation(wall_time=0))))) == 1


@pytest.mark.parametrize(("wall_time", "logical"), [(-1, 0), (NOON_MS, -1), (NOON_MS, MAX_LOGICAL + 1)])
def test_what_is_no_clock_reading_is_refused_alone(wall_time: int, logical: int) -> None:
    stage = streaming()
    odd = operation(1, timestamp=Timestamp(wall_time, logical, "node-a"))
    assert refused(stage, odd) == [("rejected", "op-1", "INVALID_TIMESTAMP"), ("ack", "up-1", 1)]


def padded(size_bytes: int) -> Operation:
    """An operation of that size, without anything that could be left out."""
    made = operation()
    made.data = Raw(b'""')
    rest = len(msgspec.json.encode(made))
    made.data = Raw(b'"%s"' % (b"x" * (size_bytes - rest)))
    return made


def test_an_operation_is_large_from_the_first_byte_above_the_limit() -> None:
    stage = streaming(UploadLimits(max_operation_bytes=1_000))
    assert len(handed_over(stage.take(upload(padded(1_000), size_bytes=1_100)))) == 1
    stage.take(on.Committed([]))
    told = refused(stage, padded(1_001), size_bytes=1_100)
    assert told == [("rejected", "op-1", "OPERATION_TOO_LARGE"), ("ack", "up-1", 1)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"title": "é" * 300}),
        json.dumps({"list": [1] * 300}, indent=8),
        '{"title": "' + r"\u0061" * 700 + '"}',
    ],
)
def test_white_space_and_escapes_do_not_make_an_operation_large(text: str) -> None:
    stage = streaming(UploadLimits(max_operation_bytes=1_000))
    as_sent = operation(previous_data=Raw(b'{ "title": null }'), data=json.loads(text))
    as_sent.data = Raw(text.encode())
    [taken] = handed_over(stage.take(upload(as_sent, size_bytes=len(text) + 300)))
    assert json.loads(bytes(taken.data)) == json.loads(text)
    assert bytes(taken.previous_data) == b'{"title":null}'
    assert len(msgspec.json.encode(taken)) <= 1_000


def test_what_is_large_without_them_is_refused_with_them() -> None:
    stage = streaming(UploadLimits(max_operation_bytes=1_000))
    for text in (
        '{"title": "' + r"\u0061" * 1_000 + '"}',
        '{"a": 1e400, "list": [' + " " * 1_000 + "]}",
        "[" + " " * 9_000 + "]",
    ):
        as_sent = operation()
        as_sent.data = Raw(text.encode())
        assert refused(stage, as_sent, size_bytes=10_000)[0] == ("rejected", "op-1", "OPERATION_TOO_LARGE")


def test_a_large_operation_is_refused_alone() -> None:
    stage = streaming(UploadLimits(max_operation_bytes=1_000))
    batch = upload(operation(1), operation(2, data={"title": "x" * 1_000}), operation(3), size_bytes=2_000)
    assert [one.id for one in handed_over(stage.take(batch))] == ["op-1", "op-3"]


def test_a_long_batch_of_small_operations_is_not_large() -> None:
    stage = streaming(UploadLimits(max_operation_bytes=1_000))
    batch = upload(*map(operation, range(1, 51)), size_bytes=20_000)
    assert len(handed_over(stage.take(batch))) == 50


def test_a_batch_of_too_many_operations_is_refused_whole() -> None:
    stage = streaming(UploadLimits(max_operations_per_batch=3))
    assert len(handed_over(stage.take(upload(*map(operation, range(1, 4)))))) == 3
    too_many = upload(*map(operation, range(1, 5)), message_id="up-2")
    assert_ends_with_error(stage, too_many, "BATCH_TOO_LARGE", retriable=False)


def test_malformed_members_count_as_operations() -> None:
    stage = streaming(UploadLimits(max_operations_per_batch=1))
    bad = Rejection("", "", "", "INVALID_OPERATION", "no object")
    batch = say.DamagedBatch("up-1", [operation(1)], True, 0, 900, [bad], 1)
    assert_ends_with_error(stage, batch, "BATCH_TOO_LARGE", retriable=False)


def test_what_lies_outside_of_the_scopes_is_judged_where_the_records_are() -> None:
    stage = Rehearsal()
    stage.greet(sync_scope={"todos": {"userId": "u"}})
    assert len(handed_over(stage.take(upload(operation(1, data={"userId": "v"}))))) == 1


def test_query_subsets_limit_no_upload() -> None:
    stage = Rehearsal()
    stage.greet(sync_queries=[{"collection": "todos", "where": {"userId": "u"}}])
    assert len(handed_over(stage.take(upload(operation(1, data={"userId": "v"}))))) == 1


class TestTheRateLimit:
    """A token bucket with debt, and back-pressure before any error."""

    LIMITS = UploadLimits(max_operations_per_minute=600)

    def pause_ms(self, stage: Rehearsal) -> int:
        return max(0, stage.session.uploads.read_again_ms - stage.elapsed_ms)

    def send(self, stage: Rehearsal, count: int) -> None:
        """Upload a batch as soon as it may be heard, see it acknowledged."""
        stage.pass_time(self.pause_ms(stage))
        assert len(handed_over(stage.take(upload(*map(operation, range(1, count + 1)))))) == count
        assert summary(stage.take(on.Committed([]))) == [("ack", "up-1", count)]

    def test_a_minute_of_operations_passes_at_once(self) -> None:
        stage = streaming(self.LIMITS)
        self.send(stage, 599)
        assert self.pause_ms(stage) == 0

    def test_debt_keeps_the_session_from_being_read_until_it_is_paid(self) -> None:
        stage = streaming(self.LIMITS)
        self.send(stage, 650)  # 50 too many, at 10 a second
        assert 5_000 < self.pause_ms(stage) <= 5_100

    def test_the_pause_is_shorter_than_a_clients_patience(self) -> None:
        stage = streaming(self.LIMITS)
        self.send(stage, 1_000)
        assert self.pause_ms(stage) == MAX_READ_PAUSE_MS < 30_000

    def test_after_the_longest_pause_a_session_still_in_debt_hears_an_error(self) -> None:
        stage = streaming(self.LIMITS)
        self.send(stage, 1_000)
        stage.pass_time(MAX_READ_PAUSE_MS)
        assert_ends_with_error(stage, upload(operation()), "RATE_LIMIT", retriable=True)

    def test_the_next_connection_makes_progress_again(self) -> None:
        rules = SessionRules(SERVER, limits=self.LIMITS)  # what all connections have in common
        stages = Rehearsal(rules), Rehearsal(rules)
        for stage in stages:
            stage.greet()
            self.send(stage, 1_000)
            stage.pass_time(MAX_READ_PAUSE_MS)
            assert_ends_with_error(stage, upload(operation()), "RATE_LIMIT", retriable=True)

    def test_refused_operations_cost_as_much(self) -> None:
        stage = streaming(self.LIMITS)
        bad = [Rejection("", "", "", "INVALID_OPERATION", "no object")] * 650
        stage.take(say.DamagedBatch("up-1", [], True, 0, 900, bad, 0))
        assert self.pause_ms(stage) > 5_000

    def test_ten_thousand_offline_operations_get_through(self) -> None:
        stage = streaming()
        for _ in range(100):
            self.send(stage, 100)
        assert stage.closes == []

    def test_zero_stands_for_no_limit(self) -> None:
        stage = streaming(UploadLimits(max_operations_per_minute=0))
        for _ in range(20):
            self.send(stage, 1_000)
        assert self.pause_ms(stage) == 0

    def test_a_wall_clock_that_jumps_changes_nothing(self) -> None:
        stage = streaming(self.LIMITS)
        stage.wall_ms += 10**9
        self.send(stage, 650)
        stage.wall_ms -= 10**9
        assert 5_000 < self.pause_ms(stage) <= 5_100


def test_a_session_is_not_heard_while_too_many_operations_wait_for_the_writer() -> None:
    stage = streaming()
    batch = upload(*map(operation, range(1, 501)))
    for _ in range(MAX_UNCOMMITTED_OPERATIONS // 500):
        assert stage.session.hears
        stage.take(batch)
    assert not stage.session.hears
    stage.take(on.Committed([]))
    assert stage.session.hears


def test_a_session_is_not_heard_while_too_many_bytes_wait_for_the_writer() -> None:
    stage = streaming()
    stage.take(upload(operation(), size_bytes=MAX_UNCOMMITTED_BYTES))
    assert not stage.session.hears
    stage.take(on.Committed([]))
    assert stage.session.hears


def test_a_drained_session_gets_its_acknowledgments_and_hears_no_more() -> None:
    stage = streaming()
    stage.take(upload(operation(1), message_id="up-1"))
    stage.take(upload(operation(2), message_id="up-2"))
    assert stage.take(on.Draining()) == []
    assert not stage.session.hears
    assert summary(stage.take(on.Committed([]))) == [("ack", "up-1", 1)]
    actions = stage.take(on.Committed([]))
    assert summary(actions) == [("ack", "up-2", 2)]
    assert actions[-1] == do.Close(do.GOING_AWAY, "server is shutting down")


def test_an_idle_session_is_closed_at_once_by_the_drain() -> None:
    stage = streaming()
    assert stage.take(on.Draining()) == [do.Close(do.GOING_AWAY, "server is shutting down")]


def test_a_connection_without_a_handshake_is_closed_by_the_drain() -> None:
    assert Rehearsal().take(on.Draining()) == [do.Close(do.GOING_AWAY, "server is shutting down")]
