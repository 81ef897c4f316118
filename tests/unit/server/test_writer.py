"""The writer, without sessions: what becomes of batches when the store or one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event

import pytest
import trio

from kora_daemon.apply.pipeline import BatchOutcome, Pipeline
from kora_daemon.errors import StoreUnavailable
from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.operation import Operation
from kora_daemon.server import log_size
from kora_daemon.server import writer as writer_module
from kora_daemon.server.write_requests import WriteRequest
from kora_daemon.server.writer import Writer
from kora_daemon.store.contract import WriteTransaction
from kora_daemon.store.memory import MemoryStore
from tests.support.network import eventually
from tests.support.operations import operation

FIRST, SECOND, OTHER = (operation(number) for number in (1, 2, 3))


class FailsOnce(MemoryStore):
    """The first commit waits until it may go on, and fails."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = Event()
        self._failures = 1

    @contextmanager
    def transaction(self, locks: Sequence[object] = ()) -> Iterator[WriteTransaction]:
        with super().transaction() as transaction:
            yield transaction
            if self._failures:
                self._failures = 0
                self.go_on.wait(10)
                raise StoreUnavailable("the disk is full")


class SaysNothing(MemoryStore):
    """The first commit is done, and its answer is lost; so is the first count."""

    def __init__(self) -> None:
        super().__init__()
        self._unheard = {"commit", "count"}

    def _lose(self, answer: str) -> None:
        if answer in self._unheard:
            self._unheard.remove(answer)
            raise StoreUnavailable("the connection was lost")

    @contextmanager
    def transaction(self, locks: Sequence[object] = ()) -> Iterator[WriteTransaction]:
        with super().transaction() as transaction:
            yield transaction
        self._lose("commit")

    def count_operations(self) -> int:
        self._lose("count")
        return super().count_operations()


class Answers:
    """What became of batches, by the ids of their operations."""

    def __init__(self, writer: Writer) -> None:
        self.stored: dict[str, bool] = {}
        self._writer = writer

    def submit(self, session: int, *operations: Operation) -> None:
        self._writer.submit(WriteRequest(operations, 100, session, self._heard(operations)))

    def _heard(self, operations: Sequence[Operation]) -> Callable[[BatchOutcome | None], None]:
        def heard(outcome: BatchOutcome | None) -> None:
            self.stored |= {one.id: outcome is not None for one in operations}

        return heard


async def written(store: MemoryStore, script: Callable[[Answers], None]) -> dict[str, bool]:
    """What became of what a script has submitted before and after the writer has taken its first group."""
    store.open()
    writer = Writer(store, Pipeline(store.node_id), DeliveryEntry.of, lambda entries, has_moved: None)
    answers = Answers(writer)
    answers.submit(1, FIRST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        script(answers)
        writer.finish()
    assert writer.waiting == (0, 0)
    return answers.stored


async def test_what_a_session_has_sent_behind_a_batch_that_failed_is_not_stored_either() -> None:
    store = FailsOnce()

    def script(answers: Answers) -> None:
        answers.submit(1, SECOND)
        answers.submit(2, OTHER)
        store.go_on.set()

    assert await written(store, script) == {FIRST.id: False, SECOND.id: False, OTHER.id: True}
    assert store.version_vector() == {OTHER.node_id: OTHER.sequence_number}
    assert store.known_ids([FIRST.id, SECOND.id, OTHER.id]) == {OTHER.id}


async def test_nor_when_the_batch_itself_is_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    apply_batches = Pipeline.apply_batches

    def trip(self: Pipeline, tx: WriteTransaction, batches: Sequence[Sequence[Operation]], *rest: object) -> object:
        if any(FIRST in batch for batch in batches):
            raise ZeroDivisionError
        return apply_batches(self, tx, batches, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Pipeline, "apply_batches", trip)
    store.open()
    writer = Writer(store, Pipeline(store.node_id), DeliveryEntry.of, lambda entries, has_moved: None)
    answers = Answers(writer)
    answers.submit(1, FIRST)
    answers.submit(1, SECOND)
    answers.submit(2, OTHER)
    writer.finish()
    await writer.run()
    assert answers.stored == {FIRST.id: False, SECOND.id: False, OTHER.id: True}


async def test_what_was_stored_without_a_word_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((writer_module, "PROBE_INTERVAL_S"), (writer_module, "SIGN_OF_LIFE_S"), (log_size, "PAUSE_S")):
        monkeypatch.setattr(module, name, 0.01)
    store = SaysNothing()
    store.open()
    writer = Writer(store, Pipeline(store.node_id), DeliveryEntry.of, lambda entries, has_moved: None)
    answers = Answers(writer)
    answers.submit(1, FIRST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await eventually(lambda: writer.log_size.operations == 1)
        assert writer.failure is None
        answers.submit(2, OTHER)
        await eventually(lambda: writer.log_size.operations == 2)
        writer.finish()
    assert answers.stored == {FIRST.id: False, OTHER.id: True}
    assert store.count_operations() == 2
