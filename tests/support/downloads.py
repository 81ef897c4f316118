"""A session that delivers to a client with a watermark, step by step."""

from __future__ import annotations

from typing import Any

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.rules import SessionRules
from tests.support.rehearsal import SERVER, Rehearsal, of_kind


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
