"""The operation: one immutable change to one record (store.md section 1)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

MAX_SAFE_INTEGER = 2**53 - 1
"""Largest integer that a JavaScript client holds exactly."""

NULL = Raw(b"null")

MAX_NAME_LENGTH = 255
"""Characters of an id or a name. They end up in version vectors and logs, which must not be bloated from outside."""

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
Sequence = Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
SchemaVersion = Annotated[int, Meta(ge=1, le=MAX_SAFE_INTEGER)]
OperationType = Literal["insert", "update", "delete"]


class Timestamp(Struct, frozen=True, gc=False, rename="camel"):
    """Hybrid logical clock reading (store.md section 1.2).

    `wall_time` is ms since the epoch. The node id is the timestamp's own and may differ from the operation's.
    """

    wall_time: int
    logical: int
    node_id: Name

    @property
    def order_key(self) -> tuple[int, int, str]:
        """Total order: wall time, logical, node id by code point."""
        return (self.wall_time, self.logical, self.node_id)


class Operation(Struct, gc=False, rename="camel"):
    """One operation, as it came and as it goes out.

    `data`, `previous_data` and `atomic_ops` keep the JSON text the author sent, byte for byte: key order, big numbers,
    binary forms and lone surrogates survive because nothing here ever parses and prints them again, unless they are too
    large with the white space and the escapes that they came with.
    """

    id: Name
    node_id: Name
    type: OperationType
    collection: Name
    record_id: Name
    timestamp: Timestamp
    sequence_number: Sequence
    causal_deps: list[Name]
    schema_version: SchemaVersion
    data: Raw = NULL
    previous_data: Raw = NULL
    atomic_ops: Raw | UnsetType = UNSET
    transaction_id: str | UnsetType | None = UNSET
    mutation_name: str | UnsetType | None = UNSET


def encode_operation(operation: Operation) -> bytes:
    """The operation as JSON, as it stands in a batch."""
    return msgspec.json.encode(operation)
