"""A client whose messages arrive in any order is sent its stream once its own arrears are acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.arrears import PATIENCE_MS
from kora_daemon.protocol.moves import Phase
from tests.support.operations import operation
from tests.support.rehearsal import Rehearsal, of_kind, said


def batch(number: int, *, final: bool) -> say.OperationBatch:
    return say.OperationBatch(f"b-{number}", [operation(number + 1)], final, number, 1_000)


def greeted(*, in_order: bool = False, frontier: int = 3) -> Rehearsal:
    stage = Rehearsal()
    stage.session.hears_in_order = in_order
    stage.greet(frontier)
    return stage


def reads(actions: Sequence[do.Action]) -> bool:
    return bool(of_kind(do.ReadPage, actions))


def test_a_client_that_is_heard_in_order_is_sent_its_stream_at_once() -> None:
    stage = greeted(in_order=True)
    assert len(stage.reads) == 1
    assert stage.session.due_ms is None


@pytest.mark.parametrize("watermark", [0, None])
def test_the_stream_waits_for_the_last_acknowledgment(watermark: int | None) -> None:
    stage = Rehearsal()
    stage.session.hears_in_order = False
    stage.greet(3, last_delivery_sequence=watermark, delta=(1, 2, 3) if watermark is None else ())
    assert isinstance(said(stage.actions)[0], say.HandshakeResponse)
    for number, final in ((0, False), (1, True)):
        stage.take(batch(number, final=final))
    assert not reads(stage.take(on.Committed([])))
    last = stage.take(on.Committed([]))
    assert isinstance(last[0], do.Send)
    assert isinstance(last[0].message, say.Acknowledgment)
    assert isinstance(last[1], do.ReadPage)


def test_an_acknowledgment_in_between_starts_nothing() -> None:
    stage = greeted()
    stage.take(batch(0, final=False))
    assert not reads(stage.take(on.Committed([])))
    assert not reads(stage.take(on.FrontierMoved(7)))


def test_arrears_that_don_t_come_are_not_waited_for_for_ever() -> None:
    stage = greeted()
    assert stage.session.due_ms == stage.elapsed_ms + PATIENCE_MS
    stage.pass_time(PATIENCE_MS - 1)
    assert stage.take(on.Tick()) == []
    stage.pass_time(1)
    assert reads(stage.take(on.Tick()))
    assert stage.session.due_ms is None


def test_as_long_as_they_come_they_are_waited_for() -> None:
    stage = greeted()
    for number in range(3):
        stage.pass_time(PATIENCE_MS - 1)
        stage.take(batch(number, final=False))
        stage.pass_time(2)
        assert stage.take(on.Tick()) == []
        stage.take(on.Committed([]))
    stage.take(batch(3, final=True))
    stage.pass_time(10 * PATIENCE_MS)
    assert stage.take(on.Tick()) == []  # the disk is slow, and that is nobody's fault
    assert reads(stage.take(on.Committed([])))


def test_afterwards_it_is_a_session_like_any_other() -> None:
    stage = greeted(frontier=0)
    stage.take(batch(0, final=True))
    assert reads(stage.take(on.Committed([])))
    stage.show([])
    assert stage.session.phase is Phase.STREAMING
    stage.take(batch(1, final=True))
    assert not reads(stage.take(on.Committed([])))
    assert reads(stage.take(on.FrontierMoved(2)))


def test_a_server_that_stops_waits_for_what_it_has() -> None:
    stage = greeted()
    stage.take(batch(0, final=True))
    assert stage.take(on.Draining()) == []
    wanted = stage.take(on.Committed([]))
    assert [type(action) for action in wanted] == [do.Send, do.Close]
