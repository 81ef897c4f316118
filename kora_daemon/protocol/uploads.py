"""What a client uploads: the checks that need no record, and the way to the acknowledgment (wire.md section 7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from msgspec import UNSET, Struct
from msgspec.structs import replace

from kora_daemon.errors import ProtocolError
from kora_daemon.model.clock import IngestVerdict, judge_arrival
from kora_daemon.model.json_scan import compact
from kora_daemon.model.limits import OperationBudget
from kora_daemon.model.operation import Operation, encode_operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.protocol.events import Moment
from kora_daemon.protocol.messages import (
    Acknowledgment,
    DamagedBatch,
    ErrorMessage,
    Message,
    OperationBatch,
    OperationRejected,
)

MAX_UNCOMMITTED_OPERATIONS = 2_000
MAX_UNCOMMITTED_BYTES = 4 << 20
"""Handed to the writer and not yet durable; beyond either the session is not read."""
MAX_READ_PAUSE_MS = 20_000
"""Clients give up on an acknowledgment after 30 s, so back-pressure has to end before."""

MOST_ESCAPED = 6
"""Bytes that JSON may take for what is one byte: `\\u0061`."""

_OK = IngestVerdict.OK


class UploadLimits(Struct, frozen=True):
    """Limits of one session's uploads; 0 operations per minute = unlimited."""

    max_operation_bytes: int = 262_144
    max_operations_per_batch: int = 1_000
    max_operations_per_minute: int = 6_000


class _Uncommitted(Struct, frozen=True, gc=False):
    message_id: str
    last_sequence_number: int
    count: int
    size_bytes: int
    rejections: list[Rejection]


class Uploads:
    """The batches of one session between receipt and acknowledgment, oldest first."""

    def __init__(self, limits: UploadLimits, elapsed_ms: int, next_id: Callable[[], str]) -> None:
        self._limits = limits
        self._next_id = next_id
        per_minute = limits.max_operations_per_minute
        self._budget = OperationBudget(per_minute, elapsed_ms) if per_minute else None
        self._uncommitted: deque[_Uncommitted] = deque()
        self._operations = self._bytes = 0
        self.explains_rejections = True
        """False for clients that know no `operation-rejected`: they get an error instead."""
        self.read_again_ms = 0
        """The rate limit wants the session not to be read before, on the elapsed clock."""

    @property
    def idle(self) -> bool:
        """Whether everything is acknowledged."""
        return not self._uncommitted

    @property
    def full(self) -> bool:
        """Whether the session has to wait for the writer."""
        return self._operations >= MAX_UNCOMMITTED_OPERATIONS or self._bytes >= MAX_UNCOMMITTED_BYTES

    def receive(self, batch: OperationBatch, now: Moment) -> Sequence[Operation]:
        """Check a batch; return the operations to commit.

        Raises ProtocolError when nothing of the batch may be applied or acknowledged: over the rate limit, too long,
        or with an operation from the future.
        """
        malformed = batch.malformed if isinstance(batch, DamagedBatch) else []
        count = len(batch.operations) + len(malformed)
        self._spend(count, now.elapsed_ms)
        if count > self._limits.max_operations_per_batch:
            text = f"A batch holds at most {self._limits.max_operations_per_batch} operations"
            raise ProtocolError(text, code="BATCH_TOO_LARGE")
        accepted: list[Operation] = []
        rejections = list(malformed)
        may_be_large = batch.size_bytes > self._limits.max_operation_bytes
        for operation in batch.operations:
            fitting = self._fitted(operation) if may_be_large else operation
            checked = self._check(operation, fitting, now.wall_ms)
            if isinstance(checked, Rejection):
                rejections.append(checked)
            else:
                accepted.append(checked)
        if isinstance(batch, DamagedBatch):
            last = batch.last_sequence_number
        else:
            last = batch.operations[-1].sequence_number if batch.operations else 0
        self._uncommitted.append(_Uncommitted(batch.message_id, last, count, batch.size_bytes, rejections))
        self._operations += count
        self._bytes += batch.size_bytes
        return accepted

    def _spend(self, count: int, elapsed_ms: int) -> None:
        if self._budget is None:
            return
        if self._budget.ready_at(elapsed_ms) > elapsed_ms:
            raise ProtocolError("Too many operations, send them again later", code="RATE_LIMIT", retriable=True)
        self._budget.take(count, elapsed_ms)
        ready_ms = self._budget.ready_at(elapsed_ms)
        self.read_again_ms = 0 if ready_ms <= elapsed_ms else min(ready_ms, elapsed_ms + MAX_READ_PAUSE_MS)

    def _fitted(self, operation: Operation) -> Operation | None:
        """The operation as it came, or without white space and escapes; None where that is too large, too.

        It is measured by its compact JSON (store.md section 6.1), and what is handed on must not be larger than that.
        """
        most = self._limits.max_operation_bytes
        size_bytes = len(encode_operation(operation))
        if size_bytes <= most:
            return operation
        if size_bytes > MOST_ESCAPED * most:
            return None
        compacted = replace(
            operation,
            data=compact(operation.data),
            previous_data=compact(operation.previous_data),
            atomic_ops=UNSET if operation.atomic_ops is UNSET else compact(operation.atomic_ops),
        )
        return compacted if len(encode_operation(compacted)) <= most else None

    def _check(self, operation: Operation, fitting: Operation | None, now_ms: int) -> Operation | Rejection:
        verdict = judge_arrival(operation.timestamp, now_ms)
        if verdict is not _OK:
            if verdict is IngestVerdict.MALFORMED:
                return _refuse(operation, "INVALID_TIMESTAMP", "The timestamp is no clock reading")
            text = f"Operation {operation.id!r} is stamped more than 60 s in the future: check the device's clock"
            raise ProtocolError(text, code="INVALID_TIMESTAMP")
        if fitting is None:
            text = f"An operation has at most {self._limits.max_operation_bytes} bytes"
            return _refuse(operation, "OPERATION_TOO_LARGE", text)
        return fitting

    def committed(self, rejections: Sequence[Rejection]) -> list[Message]:
        """The oldest batch is durable, but for `rejections`: what the client is told."""
        batch = self._uncommitted.popleft()
        self._operations -= batch.count
        self._bytes -= batch.size_bytes
        refused = [*batch.rejections, *rejections]
        said: list[Message] = [self._explain(rejection) for rejection in refused]
        said.append(Acknowledgment(self._next_id(), batch.message_id, batch.last_sequence_number))
        return said

    def _explain(self, rejection: Rejection) -> Message:
        if not self.explains_rejections:
            return ErrorMessage(self._next_id(), rejection.code, rejection.message, rejection.retriable)
        return OperationRejected(
            self._next_id(),
            rejection.operation_id,
            rejection.collection,
            rejection.record_id,
            rejection.code,
            rejection.message,
            rejection.retriable,
        )


def _refuse(operation: Operation, code: str, message: str) -> Rejection:
    return Rejection(operation.id, operation.collection, operation.record_id, code, message)
