"""The messages of the protocol (wire.md section 2), in our own names.

How they look on the wire is known in `kora_daemon.wire` only. Every message has a `message_id`, opaque text.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType

from kora_daemon.model.operation import Operation
from kora_daemon.model.outcome import Rejection


class Message(Struct, gc=False, rename="camel"):
    """Anything that travels between a client and the server. Spelled in camelCase in every text form."""

    message_id: str


class Handshake(Message):
    """A client's first message (wire.md section 4).

    Fields after `schema_version` are unauthenticated input of any JSON shape; `protocol.handshake` reads them.
    """

    node_id: str
    version_vector: dict[str, Any]
    schema_version: float
    auth_token: Any = None
    supported_wire_formats: Any = None
    sync_scope: Any = None
    sync_queries: Any = None
    delta_cursor: Any = None
    last_delivery_sequence: Any = None


class HandshakeResponse(Message):
    """The server's answer; `accepted` false only for a schema that is not supported."""

    node_id: str
    version_vector: dict[str, int]
    schema_version: int
    accepted: bool
    reject_reason: str | UnsetType = UNSET
    supported_schema_min: int | UnsetType = UNSET
    supported_schema_max: int | UnsetType = UNSET
    selected_wire_format: str | UnsetType = UNSET
    server_time: int | UnsetType = UNSET
    server_max_delivery_sequence: int | UnsetType = UNSET
    accepted_scope: dict[str, dict[str, Any]] | UnsetType = UNSET
    blob_storage_enabled: bool | UnsetType = UNSET


class OperationBatch(Message):
    """Operations that a client uploads."""

    operations: list[Operation]
    is_final: bool
    batch_index: float
    size_bytes: int = 0
    """Of the message; set by the decoder, whatever a client wrote there."""


class DamagedBatch(OperationBatch):
    """A batch with members that are no operations: they stand in `malformed`, in the order they came."""

    malformed: list[Rejection] = []
    last_sequence_number: int = 0
    """Of the last member, 0 when it has none that can be one."""


class Acknowledgment(Message):
    """`delivery_sequence` is the watermark of a client of the delivery stream."""

    acknowledged_message_id: str
    last_sequence_number: Any
    delivery_sequence: Any = UNSET


class ErrorMessage(Message):
    """A connection-level error. Clients go offline on any of these (wire.md section 7)."""

    code: str
    message: str
    retriable: bool


class OperationRejected(Message):
    """One operation is refused, the batch goes on."""

    operation_id: str
    collection: str
    record_id: str
    code: str
    message: str
    retriable: bool


class AwarenessUpdate(Message):
    """Presence (wire.md section 9): client id as text -> state (JSON object) or None when it left."""

    client_id: float
    states: dict[str, Raw]


class DocumentUpdate(Message):
    """A Yjs update (base64) of one field of one record."""

    collection: str
    record_id: str
    field: str
    update: str


class BlobRequest(Message):
    """Asks for the bytes behind a SHA-256 `hash` (hex)."""

    request_id: str
    hash: str


class BlobResponse(Message):
    """Bytes as base64 text, None when the sender does not have them."""

    request_id: str
    bytes: str | None = None


class BlobPush(Message):
    """Bytes (base64) that a client offers to keep centrally."""

    hash: str
    bytes: str
