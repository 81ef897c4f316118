"""The store-writer task: the one place that writes to the log.

It takes the waiting batches of all sessions, commits them as one transaction in one thread, and only then answers
(architecture section 5). Writes by the server's own side have a transaction each. It has never heard of a socket: an
answer goes to whoever handed the batch in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import structlog
import trio
from msgspec import Struct

from kora_daemon.apply.authority import is_free
from kora_daemon.apply.pipeline import BatchOutcome, Pipeline, refuse
from kora_daemon.apply.trusted import ConditionalWrite, TrustedOutcome, TrustedWrite, commit_trusted
from kora_daemon.errors import StoreCorrupt, StoreError, StoreUnavailable
from kora_daemon.model.delivery import DeliveryEntry, LogEntry
from kora_daemon.model.node import NodeNews
from kora_daemon.model.outcome import Rejection
from kora_daemon.server.clock import wall_ms
from kora_daemon.server.journal import Journal
from kora_daemon.server.ledger import Telemetry
from kora_daemon.server.log_size import LogSize
from kora_daemon.server.measures import Measures
from kora_daemon.server.outage import Outage
from kora_daemon.server.pulse import SIGN_OF_LIFE_S, Pulse
from kora_daemon.server.threads import ThreadPool
from kora_daemon.server.write_queue import Group, WriteQueue
from kora_daemon.server.write_requests import Job, TrustedRequest, WriteRequest
from kora_daemon.store.contract import Store, WriteTransaction

PROBE_INTERVAL_S = 1.0
_CANNOT_HOLD = "the store can't hold this operation"
THREAD_PATIENCE_S = 1.0
"""For the system to have a thread: less is no outage yet."""
STORE_PATIENCE_S = 60.0
"""For one group, in a store that sets itself no limits."""

T = TypeVar("T")

log = structlog.get_logger("kora.writer")


class _Written(Struct, gc=False):
    outcome: Any
    entries: list[DeliveryEntry]


class Writer:
    """Groups, commits, answers.

    `publish` gets the new entries of each commit before anybody is answered, and whether earlier ones are now seen by
    others than before.
    """

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        encode: Callable[[LogEntry, int], DeliveryEntry],
        publish: Callable[[list[DeliveryEntry], bool], None],
        patience_s: float = 0.0,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._store = store
        self._pipeline = pipeline
        self._encode = encode
        self._publish = publish
        self.pulse = Pulse("store writer", STORE_PATIENCE_S)
        self._outage = Outage(patience_s)
        self._telemetry = telemetry or Telemetry(Measures(), Journal())
        self._thread = ThreadPool("kora-writer", 1, patience_s=THREAD_PATIENCE_S)
        self._queue = WriteQueue()
        self._jobs: deque[Job[Any]] = deque()
        self._work = trio.Event()
        self._closing = self._ended = False
        self._at_hand: Sequence[WriteRequest | TrustedRequest] = ()
        self._proved_at = -math.inf
        self._proof: trio.Event | None = None
        """Somebody waits to see whether the store takes writes."""
        self.failure: str | None = None
        """Why the store does not take writes, None while it does."""
        self.log_size = LogSize(store, self._wake)

    def _wake(self) -> None:
        self._work.set()

    def submit(self, request: WriteRequest | TrustedRequest) -> None:
        """Queue a write; it is answered in the order of submission."""
        if self._ended:
            request.answer(None)
            return
        self._queue.add(request)
        self._wake()

    @property
    def waiting(self) -> tuple[int, int]:
        """How many operations and bytes are queued."""
        return self._queue.operations, self._queue.size_bytes

    @property
    def has_room(self) -> bool:
        """Whether sessions should go on reading from their peers."""
        return self._queue.has_room

    async def wait_for_room(self) -> None:
        """Return when the queue is short enough for more."""
        await self._queue.wait_for_room()

    async def prove(self, within_s: float) -> None:
        """Return once the store has taken a write within the last so many seconds, or has failed to: see `failure`.

        At most one small write in `within_s`, however many ask.
        """
        if self.failure is not None or trio.current_time() - self._proved_at < within_s:
            return
        if self._proof is None:
            self._proof = trio.Event()
            self._wake()
        await self._proof.wait()

    async def perform(self, call: Callable[[], T]) -> T:
        """Let the thread that writes make a call, between two commits; whatever it raises, this raises.

        Once begun it is not left alone. Raises `StoreUnavailable` when nothing is written any more.
        """
        job = Job(call)
        if self._ended:
            job.give_up()
        else:
            self._jobs.append(job)
            self._wake()
        return await job.result()

    def finish(self) -> None:
        """Let `run` return once the queue is empty. No batch may be submitted afterwards."""
        self._closing = True
        self._outage.give_up()
        self._wake()

    async def run(self) -> None:
        """Write until `finish`. A failing store is a state, not an end; any other exception is.

        Whatever ends it, nobody is left waiting for an answer.
        """
        try:
            await self._run()
        finally:
            self._ended = True
            self._proved()
            for request in (*self._at_hand, *self._queue.clear()):
                request.answer(None)
            for job in self._jobs:
                job.give_up()

    async def _run(self) -> None:
        while True:
            self.pulse.beat()
            with trio.move_on_after(PROBE_INTERVAL_S if self.failure or self.log_size.is_doubtful else SIGN_OF_LIFE_S):
                await self._work.wait()
            if self._jobs:
                await self._jobs.popleft().run(self._thread)
            if self._queue:
                await self._write(self._queue.take_group())
            elif self._closing:
                return
            elif not self._jobs:
                self._work = trio.Event()
                if self.failure or self._proof is not None:
                    await self._probe()
            if self.failure is None:
                await self.log_size.settle(self._thread)

    async def _write(self, group: Group) -> None:
        if isinstance(group, list) and not any(request.operations or request.news for request in group):
            for empty in group:
                empty.answer(BatchOutcome([], []))
            return
        requests: Sequence[WriteRequest | TrustedRequest] = [group] if isinstance(group, TrustedRequest) else group
        self._at_hand = requests
        begun_at = trio.current_time()
        try:
            written = await self._outage.outlast(lambda: self._try(group))
        except StoreError as error:
            self._failed(error)
            self._at_hand = ()
            self._give_up(requests)
            return
        self._at_hand = ()
        self._recovered()
        stored = sum(len(one.entries) for one in written if one is not None)
        self._measure(requests, stored, trio.current_time() - begun_at)
        for one in written:
            if one is not None:
                self._publish(one.entries, one.outcome.has_moved)
                self.log_size.operations += len(one.entries)
        for request, one in zip(requests, written, strict=True):
            if one is None:
                self._give_up([request])
            else:
                answer: Callable[[Any], None] = request.answer
                answer(one.outcome)

    def _give_up(self, requests: Sequence[WriteRequest | TrustedRequest]) -> None:
        """Tell them that nothing of them is stored, and whatever their sessions have sent behind them.

        Stored without what came before, it would make the version vector say that all of it is there, and the device
        would not offer the rest again. Or it would be refused, since it is about a record that is not there yet.
        """
        sessions = {one.origin for one in requests if isinstance(one, WriteRequest)}
        for request in (*requests, *self._queue.take_of(sessions)):
            request.answer(None)

    def _measure(self, requests: Sequence[WriteRequest | TrustedRequest], stored: int, seconds: float) -> None:
        measures = self._telemetry.measures
        measures.committed(stored, seconds)
        if stored:
            measures.will_publish(min(one.received_at for one in requests))

    async def _try(self, group: Group) -> list[_Written | None]:
        self.pulse.beat()
        try:
            return await self._thread.run(lambda: self._commit(group))
        except StoreError as error:
            self.log_size.is_doubtful = True
            self._failed(error)
            raise

    def _commit(self, group: Group) -> list[_Written | None]:
        try:
            if isinstance(group, TrustedRequest):
                return [self._commit_trusted(group)]
            return list(self._commit_together(group))
        except (StoreUnavailable, StoreCorrupt):
            raise
        except StoreError as error:
            log.error("store.refused", error=str(error))
            if isinstance(group, TrustedRequest):
                return [_Written(TrustedOutcome("skipped", rejection=_unfit(group.write)), [])]
            return [self._commit_one_by_one(request) for request in group]
        except Exception as error:
            # Something in one of the batches that no check foresaw: it must not cost the others theirs.
            log.exception("writer.batch_failed", error=repr(error))
            alone = isinstance(group, TrustedRequest) or len(group) == 1
            return [None] if alone else list(self._commit_apart(group))  # type: ignore[arg-type]

    def _commit_apart(self, group: list[WriteRequest]) -> Iterator[_Written | None]:
        """A transaction for each batch; none for what a session has sent behind one that failed, see `_give_up`."""
        failed: set[int] = set()
        for request in group:
            written = None if request.origin in failed else self._commit([request])[0]
            if written is None:
                failed.add(request.origin)
            yield written

    def _commit_one_by_one(self, request: WriteRequest) -> _Written:
        """Find out which operation it is that the store can't hold: it must cost nobody anything, nor come for ever."""
        written = _Written(BatchOutcome([], []), [])
        for operation in request.operations:
            self.pulse.beat()
            alone = WriteRequest([operation], 0, request.origin, request.answer, request.authority)
            try:
                (one,) = self._commit_together([alone])
            except (StoreUnavailable, StoreCorrupt):
                raise
            except StoreError:
                refused = refuse(operation, "INVALID_OPERATION", _CANNOT_HOLD)
                written.outcome.rejections.append(refused)
            else:
                written.outcome.applied += one.outcome.applied
                written.outcome.rejections += one.outcome.rejections
                written.outcome.has_moved |= one.outcome.has_moved
                written.entries += one.entries
        return written

    def _commit_together(self, group: list[WriteRequest]) -> list[_Written]:
        with self._store.transaction() as tx:
            now_ms = wall_ms()
            outcomes = self._pipeline.apply_batches(
                tx, [request.operations for request in group], now_ms, [request.authority for request in group]
            )
            for news in _believed(tx, group):
                tx.remember(news, now_ms)
            # Inside the transaction: what can't be sent must not be stored either.
            return [
                _Written(outcome, self._encoded(outcome.applied, request.origin))
                for request, outcome in zip(group, outcomes, strict=True)
            ]

    def _commit_trusted(self, request: TrustedRequest) -> _Written:
        outcome = commit_trusted(self._store, self._pipeline, request.write, wall_ms(), request.scopes, request.tried)
        return _Written(outcome, self._encoded(outcome.applied, 0))

    def _encoded(self, entries: Sequence[LogEntry], origin: int) -> list[DeliveryEntry]:
        """What the server brings about itself comes from no session: also the one that caused it has to hear of it."""
        own = self._pipeline.author.node_id
        return [self._encode(entry, 0 if entry.operation.node_id == own else origin) for entry in entries]

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
            self._telemetry.measures.outages += 1
            self._telemetry.journal.record("store.failed", reason=str(error))
        self.failure = str(error)
        self._proved()

    def _recovered(self) -> None:
        if self.failure is not None:
            log.info("store.recovered")
            self._telemetry.journal.record("store.recovered")
        self.failure = None
        self._proved_at = trio.current_time()
        self._proved()

    def _proved(self) -> None:
        if self._proof is not None:
            self._proof.set()
            self._proof = None


def _unfit(wanted: TrustedWrite) -> Rejection:
    key = wanted.target if isinstance(wanted, ConditionalWrite) else (wanted.collection, wanted.record_id or "")
    return Rejection("", *key, "INVALID_OPERATION", _CANNOT_HOLD)


def _believed(tx: WriteTransaction, group: Sequence[WriteRequest]) -> Iterator[NodeNews]:
    """What is to be remembered: who may not write as a device has no say in where its next stream begins either."""
    told = [(one.news, one.authority) for one in group if one.news is not None]
    strict = {who.node_id for _, who in told if who is not None and who.binding == "enforce"}
    claims = tx.claims(strict) if strict else {}
    for news, who in told:
        if who is None or who.binding != "enforce" or is_free(who, claims.get(who.node_id)):
            yield news
