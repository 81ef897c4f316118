"""The store-writer task: the one place that writes to the log.

It takes the waiting batches of all sessions, commits them as one transaction in one thread, and only then answers
(architecture section 5). It has never heard of a socket: an answer goes to whoever handed the batch in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import structlog
import trio
from msgspec import Struct

from kora_daemon.apply.pipeline import BatchOutcome, apply_batches
from kora_daemon.errors import StoreError
from kora_daemon.model.delivery import DeliveryEntry, LogEntry
from kora_daemon.model.operation import Operation
from kora_daemon.protocol.events import Committed, StoreFailed
from kora_daemon.server.clock import wall_ms
from kora_daemon.server.threads import ThreadPool
from kora_daemon.store.contract import Store

MAX_GROUP_OPERATIONS = 2_000
"""In one transaction: enough to pay for its fsync, few enough for a short wait."""
MAX_WAITING_OPERATIONS = 20_000
MAX_WAITING_BYTES = 64 << 20
"""Of all sessions together. Above either no session is read until the writer has caught up."""
PROBE_INTERVAL_S = 1.0

Answer = Callable[[Committed | StoreFailed], None]
log = structlog.get_logger("kora.writer")


class WriteRequest(Struct, gc=False):
    """A batch on its way to the log. `origin` is the number of its session; `answer` is called in the event loop."""

    operations: Sequence[Operation]
    size_bytes: int
    origin: int
    answer: Answer


class _Written(Struct, gc=False):
    outcome: BatchOutcome
    entries: list[DeliveryEntry]


class Writer:
    """Groups, commits, answers. `publish` gets the new entries of each commit before anybody is answered."""

    def __init__(
        self,
        store: Store,
        encode: Callable[[LogEntry, int], DeliveryEntry],
        publish: Callable[[list[DeliveryEntry]], None],
    ) -> None:
        self._store = store
        self._encode = encode
        self._publish = publish
        self._thread = ThreadPool("kora-writer", 1)
        self._waiting: deque[WriteRequest] = deque()
        self._waiting_operations = self._waiting_bytes = 0
        self._work = trio.Event()
        self._room = trio.Event()
        self._room.set()
        self._closing = False
        self.failure: str | None = None
        """Why the store does not take writes, None while it does."""
        self.committed_operations = 0

    def submit(self, request: WriteRequest) -> None:
        """Queue a batch; it is answered in the order of submission."""
        self._waiting.append(request)
        self._waiting_operations += len(request.operations)
        self._waiting_bytes += request.size_bytes
        if self._overfull and self._room.is_set():
            self._room = trio.Event()
        self._work.set()

    @property
    def _overfull(self) -> bool:
        return self._waiting_operations >= MAX_WAITING_OPERATIONS or self._waiting_bytes >= MAX_WAITING_BYTES

    @property
    def has_room(self) -> bool:
        """Whether sessions should go on reading from their peers."""
        return self._room.is_set()

    async def wait_for_room(self) -> None:
        """Return when the queue is short enough for more."""
        await self._room.wait()

    def finish(self) -> None:
        """Let `run` return once the queue is empty. No batch may be submitted afterwards."""
        self._closing = True
        self._work.set()

    async def run(self) -> None:
        """Write until `finish`. A failing store is a state, not an end; any other exception is."""
        while True:
            timeout = PROBE_INTERVAL_S if self.failure else float("inf")
            with trio.move_on_after(timeout):
                await self._work.wait()
            if self._waiting:
                await self._write(self._take_group())
            elif self._closing:
                return
            else:
                self._work = trio.Event()
                if self.failure:
                    await self._probe()

    def _take_group(self) -> list[WriteRequest]:
        group = [self._waiting.popleft()]
        count = len(group[0].operations)
        while self._waiting and count + len(self._waiting[0].operations) <= MAX_GROUP_OPERATIONS:
            request = self._waiting.popleft()
            count += len(request.operations)
            group.append(request)
        self._waiting_operations -= count
        self._waiting_bytes -= sum(request.size_bytes for request in group)
        if not self._overfull:
            self._room.set()
        return group

    async def _write(self, group: list[WriteRequest]) -> None:
        if not any(request.operations for request in group):
            for request in group:
                request.answer(Committed([]))
            return
        try:
            written = await self._thread.run(lambda: self._commit(group))
        except StoreError as error:
            self._failed(error)
            for request in group:
                request.answer(StoreFailed())
            return
        self._recovered()
        for one in written:
            if one is not None:
                self._publish(one.entries)
                self.committed_operations += len(one.entries)
        for request, one in zip(group, written, strict=True):
            request.answer(StoreFailed() if one is None else Committed(one.outcome.rejections))

    def _commit(self, group: list[WriteRequest]) -> list[_Written | None]:
        try:
            return list(self._commit_together(group))
        except StoreError:
            raise
        except Exception as error:
            # Something in one of the batches that no check foresaw: it must not cost the others theirs.
            log.exception("writer.batch_failed", error=repr(error))
            return [self._commit_alone(request) for request in group] if len(group) > 1 else [None]

    def _commit_alone(self, request: WriteRequest) -> _Written | None:
        return self._commit([request])[0]

    def _commit_together(self, group: list[WriteRequest]) -> list[_Written]:
        with self._store.transaction() as tx:
            outcomes = apply_batches(tx, [request.operations for request in group], wall_ms())
            # Inside the transaction: what can't be sent must not be stored either.
            return [
                _Written(outcome, [self._encode(entry, request.origin) for entry in outcome.applied])
                for request, outcome in zip(group, outcomes, strict=True)
            ]

    async def _probe(self) -> None:
        try:
            await self._thread.run(self._store.probe)
        except StoreError as error:
            self._failed(error)
        else:
            self._recovered()

    def _failed(self, error: StoreError) -> None:
        if self.failure is None:
            log.error("store.failed", error=str(error), cause=repr(error.__cause__))
        self.failure = str(error)

    def _recovered(self) -> None:
        if self.failure is not None:
            log.info("store.recovered")
        self.failure = None
