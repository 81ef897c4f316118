"""Operations and logs for tests of the stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from kora_daemon.model.operation import Operation, Timestamp
from kora_daemon.store.contract import Store

RECEIVED_AT_MS = 1_700_000_000_000


def operation(number: int, node: str = "node-a", **changes: Any) -> Operation:
    """The operation with sequence number `number` of `node`; its id says so."""
    made = Operation(
        f"{node}:{number}",
        node,
        "insert",
        "todos",
        f"record-{number}",
        Timestamp(RECEIVED_AT_MS + number, 0, node),
        number,
        [],
        1,
        data=Raw(b'{"title":"%d"}' % number),
    )
    return replace(made, **changes)


def operations(numbers: range, node: str = "node-a") -> list[Operation]:
    """The operations of `node` with these sequence numbers."""
    return [operation(number, node) for number in numbers]


def append(store: Store, *appended: Operation) -> list[int]:
    """Append in a transaction of its own."""
    with store.transaction() as tx:
        return tx.append(appended, RECEIVED_AT_MS)


def log_ids(store: Store) -> list[str]:
    """The ids of the whole log, in delivery order."""
    return [entry.operation.id for entry in store.entries_after(0, 1_000_000)]


def plain(made: Operation) -> dict[str, Any]:
    """Every field of an operation, the raw ones as bytes: two of these can be compared."""
    fields = {name: getattr(made, name) for name in made.__struct_fields__}
    return {name: bytes(value) if isinstance(value, Raw) else value for name, value in fields.items()}


def plains(made: Sequence[Operation]) -> list[dict[str, Any]]:
    """`plain` of each."""
    return [plain(one) for one in made]
