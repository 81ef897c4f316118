"""What happens to uploaded operations inside the write transaction (store.md section 6.1)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.operation import Operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.store.contract import WriteTransaction


class BatchOutcome(Struct):
    """What became of one uploaded batch. What is neither applied nor refused was in the log already."""

    applied: list[LogEntry]
    rejections: list[Rejection]


def apply_batches(
    tx: WriteTransaction, batches: Sequence[Sequence[Operation]], received_at_ms: int
) -> list[BatchOutcome]:
    """Apply batches of several sessions in order, as one write; one outcome for each.

    An id that is in the log, or came earlier in the same write, is a duplicate: acknowledged, never compared.
    `received_at_ms` is the server's clock, ms since the epoch.
    """
    seen = tx.known_ids([operation.id for batch in batches for operation in batch])
    fresh: list[list[Operation]] = []
    for batch in batches:
        new: list[Operation] = []
        for operation in batch:
            if operation.id not in seen:
                seen.add(operation.id)
                new.append(operation)
        fresh.append(new)
    sequences = iter(tx.append([operation for new in fresh for operation in new], received_at_ms))
    return [BatchOutcome([LogEntry(next(sequences), operation) for operation in new], []) for new in fresh]
