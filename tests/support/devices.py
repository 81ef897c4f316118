"""What devices say: operations as JSON values, stamped now, and the seeding of a log with them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from kora_daemon.protocol.messages import OperationBatch
from kora_daemon.store.contract import Store
from kora_daemon.wire import json as codec


def wall_ms() -> int:
    """Now, ms since the epoch."""
    return time.time_ns() // 1_000_000


def insert(node_id: str, number: int, **data: Any) -> dict[str, Any]:
    """The `number`-th operation of a node: a new todo. Its id is readable: "<node>/<number>"."""
    return {
        "id": f"{node_id}/{number}",
        "nodeId": node_id,
        "type": "insert",
        "collection": "todos",
        "recordId": f"record-{node_id}-{number}",
        "data": {"title": f"todo {number}", **data},
        "previousData": None,
        "timestamp": {"wallTime": wall_ms(), "logical": number % 100_000, "nodeId": node_id},
        "sequenceNumber": number,
        "causalDeps": [],
        "schemaVersion": 1,
    }


def inserts(node_id: str, first: int, last: int) -> list[dict[str, Any]]:
    """Operations `first` to `last` of a node, both included."""
    return [insert(node_id, number) for number in range(first, last + 1)]


def seed(store: Store, operations: Iterable[dict[str, Any]]) -> None:
    """Open a store and append operations, as if they had been uploaded before."""
    batch = {"type": "operation-batch", "messageId": "-", "operations": [*operations], "isFinal": True, "batchIndex": 0}
    decoded = codec.decode(json.dumps(batch).encode())
    assert isinstance(decoded, OperationBatch)
    store.open()
    with store.transaction() as transaction:
        transaction.append(decoded.operations, wall_ms())


def ids(*batches: dict[str, Any]) -> list[str]:
    """The ids of the operations in batches, in order."""
    return [operation["id"] for batch in batches for operation in batch["operations"]]
