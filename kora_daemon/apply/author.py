"""Operations that the server writes in its own name (store.md sections 6.3 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Raw, Struct

from kora_daemon.materialization.json_text import write_json
from kora_daemon.model.clock import HybridClock
from kora_daemon.model.identity import operation_id
from kora_daemon.model.operation import NULL, Operation, OperationType, Timestamp
from kora_daemon.model.record import RecordKey


class Draft(Struct, frozen=True):
    """What an operation is to say. `causes` are the ids of the operations that it follows from."""

    type: OperationType
    key: RecordKey
    data: Mapping[str, Any] | None
    previous_data: Mapping[str, Any] | None
    schema_version: int
    causes: list[str] = []
    atomic_ops: Mapping[str, Any] | None = None


class Author:
    """Stamps and signs operations of the node `node_id`, each later than all before it and than all it has seen."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self._clock = HybridClock(node_id)

    def saw(self, timestamp: Timestamp) -> None:
        """What is written from now on is later than `timestamp`."""
        self._clock.advance_to(timestamp)

    def write(self, draft: Draft, sequence_number: int, now_ms: int) -> Operation:
        """A new operation; `now_ms` is the server's clock, ms since the epoch."""
        operation = Operation(
            "-",
            self.node_id,
            draft.type,
            draft.key.collection,
            draft.key.record_id,
            self._clock.now(now_ms),
            sequence_number,
            draft.causes,
            draft.schema_version,
            data=_raw(draft.data),
            previous_data=_raw(draft.previous_data),
            atomic_ops=_raw(draft.atomic_ops) if draft.atomic_ops else UNSET,
        )
        operation.id = operation_id(operation)
        return operation


def _raw(members: Mapping[str, Any] | None) -> Raw:
    return NULL if members is None else Raw(write_json(dict(members)).encode())
