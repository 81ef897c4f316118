"""Positions in the log and what is sent between them (wire.md section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from msgspec import Struct, field

from kora_daemon.model.operation import Operation, encode_operation


class LogEntry(Struct, frozen=True, gc=False):
    """An operation with its delivery sequence: positive, ascending in commit order.

    `stamp` is JSON text: what the record was when the operation was stored, see `materialization.stamp`. None for
    operations of collections without a schema.
    """

    sequence: int
    operation: Operation
    stamp: str | None = None


class CausalKey(Struct, frozen=True, gc=False):
    """What is needed to put one log entry into causal order, without its body (store.md section 1.3)."""

    sequence: int
    id: str
    causal_deps: list[str]
    order_key: tuple[int, int, str]


class DeliveryEntry(Struct, gc=False):
    """A log entry ready to be sent: its operation is encoded already and will not be looked into again."""

    sequence: int
    operation_id: str
    node_id: str
    collection: str
    body: bytes
    origin: int = 0
    """Number of the session it was uploaded in, while that is remembered; 0 = unknown."""
    stamp: str | None = None
    """See `LogEntry`."""
    judged: Any = None
    """What views have read of it so far, see `server.visible`."""
    packed: bytes | None = None
    """The operation as protobuf; filled by the first session that sends it so."""

    @classmethod
    def of(cls, entry: LogEntry, origin: int = 0) -> DeliveryEntry:
        """A log entry, ready to be sent many times."""
        operation = entry.operation
        body = encode_operation(operation)
        return cls(entry.sequence, operation.id, operation.node_id, operation.collection, body, origin, entry.stamp)


class DeliveryBatch(Struct):
    """One planned batch. Sessions of equal views and positions share it, and with it its encoded frames."""

    message_id: str
    entries: list[DeliveryEntry]
    is_final: bool
    index: int
    base: int | None = None
    """The watermark a client must hold to take it; None for clients without a watermark."""
    maximum: int = 0
    """The watermark a client holds afterwards; of no meaning without a base."""
    total: int | None = None
    cursor: str | None = None
    frames: dict[str, Any] = field(default_factory=dict)
    """Encoded forms by wire format; filled by the first session that sends the batch."""

    size_bytes: int = 0
    """Of the operations in it, near enough for a send window; counted once for all sessions."""

    def __post_init__(self) -> None:
        self.size_bytes = sum([len(entry.body) for entry in self.entries]) + 200


class Page(Struct):
    """The part of the log in (after, upto] that one view may see. Shared by the sessions of that view.

    `apart` are delivery sequences, ascending, each of which begins another batch than what is before it.
    """

    after: int
    upto: int
    entries: list[DeliveryEntry]
    authors: frozenset[str]
    origins: frozenset[int]
    apart: Sequence[int] = ()
    plans: dict[tuple[Any, ...], list[DeliveryBatch]] = field(default_factory=dict)
    """Batches planned from it so far, by what the plan depends on."""

    @classmethod
    def of(cls, after: int, upto: int, entries: list[DeliveryEntry], apart: Sequence[int] = ()) -> Page:
        """A page over (after, upto] of these visible entries."""
        return cls(
            after,
            upto,
            entries,
            frozenset(map(attrgetter("node_id"), entries)),
            frozenset(filter(None, map(attrgetter("origin"), entries))),
            apart,
        )
