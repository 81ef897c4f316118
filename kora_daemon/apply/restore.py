"""Putting a backup back into a store (store.md section 9), once it has been verified."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from kora_daemon.apply.pipeline import Pipeline
from kora_daemon.materialization.shape import Refill
from kora_daemon.model.operation import Operation
from kora_daemon.store.contract import Store

MERGED_AT_ONCE = 500
WRITTEN_AT_ONCE = 2_000
BYTES_AT_ONCE = 2 << 20
"""Of data, and one operation more: so much is in memory, several times."""


class LogSource(Protocol):
    """What a backup holds."""

    @property
    def version_vector(self) -> Mapping[str, int]:
        """Node id -> sequence number."""
        ...

    def operations(self) -> Iterator[Operation]:
        """All operations in the order of the file."""
        ...


def merge_log(store: Store, source: LogSource, received_at_ms: int) -> Iterator[int]:
    """Apply what the store does not have, a write at each step; yields how many operations each has added.

    Operations are not judged again: they were when they were first stored. Can be interrupted and begun again.
    """
    pipeline = Pipeline(store.node_id)
    for batch in _batches(source.operations(), MERGED_AT_ONCE):
        with store.transaction() as tx:
            (outcome,) = pipeline.apply_batches(tx, [batch], received_at_ms)
        yield len(outcome.applied)


def replace_log(store: Store, source: LogSource, received_at_ms: int) -> int:
    """Put the backup in place of everything, as one write; how many operations it has.

    Delivery sequences begin at 1 again, in the order of the file, and the version vector is that of the file. All rows
    are to be made again afterwards (`refill`).
    """
    restored = 0
    with store.transaction() as tx:
        tx.replace_log(source.version_vector)
        for batch in _batches(source.operations(), WRITTEN_AT_ONCE):
            known = tx.known_ids([operation.id for operation in batch])
            fresh = {one.id: one for one in batch if one.id not in known}
            restored += len(tx.append(list(fresh.values()), received_at_ms))
        for name in tx.shapes:
            tx.set_refill(name, Refill("log"))
        tx.save({})
    return restored


def _batches(operations: Iterable[Operation], size: int) -> Iterator[list[Operation]]:
    batch: list[Operation] = []
    size_bytes = 0
    for operation in operations:
        batch.append(operation)
        size_bytes += len(bytes(operation.data)) + len(bytes(operation.previous_data))
        if len(batch) == size or size_bytes >= BYTES_AT_ONCE:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
