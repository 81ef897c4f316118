"""Binary frames: one protobuf envelope each (wire.md section 8).

Presence and document updates have no such form: they go out as text, also to a client that changed over to protobuf,
whose decoder takes both; of one that comes in as an envelope nothing is left but its type.
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf
from msgspec import UNSET

from kora_daemon.errors import ProtocolError
from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.model.operation import Operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown
from kora_daemon.wire import json
from kora_daemon.wire.envelope import Envelope
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.lenient import ANY_NUMBER, too_large
from kora_daemon.wire.packed import pack_entry, sequence_number_of, unpack

FORMAT = "protobuf"
_NAMES_BYTES = 250
"""Of the members of an operation, which JSON spells out: an operation is measured as JSON."""


def decode(payload: bytes, max_operations: int = ANY_NUMBER) -> say.Message | Malformed | Unknown:
    """Read one binary frame. Never raises: what is no message comes back as an event.

    A batch of more than `max_operations` is not looked into.
    """
    try:
        envelope = Envelope.FromString(payload)
    except DecodeError as error:
        return Malformed(ProtocolError(f"The message is no protobuf envelope: {error}"[:200]))
    if envelope.type == "operation-batch":
        return _read_batch(envelope, len(payload), max_operations)
    read = _READ.get(envelope.type)
    return read(envelope) if read is not None else Unknown(envelope.type[:40])


def _read_batch(envelope: Protobuf, size_bytes: int, max_operations: int) -> say.Message | Malformed:
    members = envelope.operations
    if len(members) > max_operations:
        return too_large(max_operations)
    operations: list[Operation] = []
    malformed: list[Rejection] = []
    for member in members:
        read = unpack(member)
        if isinstance(read, Operation):
            operations.append(read)
        else:
            malformed.append(read)
    size_bytes += _NAMES_BYTES * len(members)
    head = (envelope.message_id, operations, envelope.is_final, envelope.batch_index, size_bytes)
    if not malformed:
        return say.OperationBatch(*head)
    return say.DamagedBatch(*head, malformed, sequence_number_of(members[-1]))


def _read_handshake(envelope: Protobuf) -> say.Handshake:
    return say.Handshake(
        envelope.message_id,
        envelope.node_id,
        dict(envelope.version_vector),
        envelope.schema_version,
        auth_token=envelope.auth_token or None,
        supported_wire_formats=list(envelope.supported_wire_formats) or None,
        last_delivery_sequence=(
            envelope.last_delivery_sequence if envelope.HasField("last_delivery_sequence") else None
        ),
    )


def _read_acknowledgment(envelope: Protobuf) -> say.Acknowledgment:
    return say.Acknowledgment(
        envelope.message_id,
        envelope.acknowledged_message_id,
        envelope.last_sequence_number,
        envelope.delivery_sequence if envelope.HasField("delivery_sequence") else UNSET,
    )


def _read_error(envelope: Protobuf) -> say.ErrorMessage:
    code, message = envelope.error_code or "UNKNOWN", envelope.error_message or "Unknown error"
    return say.ErrorMessage(envelope.message_id, code, message, envelope.retriable)


def _read_blob_request(envelope: Protobuf) -> say.BlobRequest:
    return say.BlobRequest(envelope.message_id, envelope.request_id, envelope.hash)


def _read_blob_response(envelope: Protobuf) -> say.BlobResponse:
    content = envelope.chunk_bytes if envelope.has_bytes else None
    return say.BlobResponse(envelope.message_id, envelope.request_id, content)


def _read_blob_push(envelope: Protobuf) -> say.BlobPush:
    return say.BlobPush(envelope.message_id, envelope.hash, envelope.chunk_bytes)


_READ: dict[str, Callable[[Protobuf], say.Message]] = {
    "handshake": _read_handshake,
    "acknowledgment": _read_acknowledgment,
    "error": _read_error,
    # Clients take an envelope without a type for one.
    "": _read_error,
    "blob-chunk-request": _read_blob_request,
    "blob-chunk-response": _read_blob_response,
    "blob-chunk-push": _read_blob_push,
}


_TYPES: dict[type[say.Message], str] = {
    say.HandshakeResponse: "handshake-response",
    say.Acknowledgment: "acknowledgment",
    say.ErrorMessage: "error",
    say.OperationRejected: "operation-rejected",
    say.BlobRequest: "blob-chunk-request",
    say.BlobResponse: "blob-chunk-response",
}
_FIELDS = {"code": "error_code", "message": "error_message", "bytes": "chunk_bytes"}
"""Member of a message -> its field in the envelope, where that is called otherwise."""
_NOT_REPRESENTABLE = ("accepted_scope", "supported_schema_min", "supported_schema_max")


def encode(message: say.Message) -> Frame:
    """One frame for one message: a text frame where there is no other."""
    kind = _TYPES.get(type(message))
    if kind is None:
        return json.encode(message)
    members = {
        _FIELDS.get(name, name): value
        for name in message.__struct_fields__
        if (value := getattr(message, name)) is not UNSET and name not in _NOT_REPRESENTABLE
    }
    if isinstance(message, say.BlobResponse):
        members["has_bytes"] = message.bytes is not None
    return _frame(Envelope(type=kind, **members))


def _frame(envelope: Protobuf) -> Frame:
    # Deterministic: the entries of a version vector are sorted.
    return Frame(envelope.SerializeToString(deterministic=True), binary=True)


def encode_batch(batch: DeliveryBatch) -> Frame:
    """The frame of a planned batch, built by the first session that sends it in this format."""
    frame: Frame | None = batch.frames.get(FORMAT)
    if frame is None:
        frame = batch.frames[FORMAT] = _frame(_batch_envelope(batch))
    return frame


def _batch_envelope(batch: DeliveryBatch) -> Protobuf:
    envelope = Envelope(
        type="operation-batch",
        message_id=batch.message_id,
        operations=map(pack_entry, batch.entries),
        is_final=batch.is_final,
        batch_index=batch.index,
    )
    if batch.base is not None:
        envelope.base_delivery_sequence = batch.base
        envelope.max_delivery_sequence = batch.maximum
    return envelope
