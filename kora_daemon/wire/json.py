"""JSON text frames (wire.md section 2).

The typed decoder is the common case. Whatever it refuses is read again by `wire.lenient`, which knows why: one
malformed operation must not spoil its batch, and half a surrogate pair is legal JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.model.json_scan import needs_closer_look
from kora_daemon.model.operation import Operation
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.lenient import ANY_NUMBER, read_leniently, settle_atomic

FORMAT = "json"
_OBJECT_OR_NULL = (b"{", b"n")


class _Handshake(say.Handshake, tag="handshake", tag_field="type"): ...


class _OperationBatch(say.OperationBatch, tag="operation-batch", tag_field="type"): ...


class _Acknowledgment(say.Acknowledgment, tag="acknowledgment", tag_field="type"): ...


class _ErrorMessage(say.ErrorMessage, tag="error", tag_field="type"): ...


class _AwarenessUpdate(say.AwarenessUpdate, tag="awareness-update", tag_field="type"): ...


class _DocumentUpdate(say.DocumentUpdate, tag="yjs-doc-update", tag_field="type"): ...


class _BlobRequest(say.BlobRequest, tag="blob-chunk-request", tag_field="type"): ...


class _BlobResponse(say.BlobResponse, tag="blob-chunk-response", tag_field="type"): ...


class _BlobPush(say.BlobPush, tag="blob-chunk-push", tag_field="type"): ...


_Heard = (
    _Handshake
    | _OperationBatch
    | _Acknowledgment
    | _ErrorMessage
    | _AwarenessUpdate
    | _DocumentUpdate
    | _BlobRequest
    | _BlobResponse
    | _BlobPush
)
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Heard)
_encode = msgspec.json.encode

_TAG_PREFIX: dict[type[say.Message], bytes] = {
    kind: b'{"type":"%s",' % tag.encode()
    for kind, tag in (
        (say.HandshakeResponse, "handshake-response"),
        (say.Acknowledgment, "acknowledgment"),
        (say.ErrorMessage, "error"),
        (say.OperationRejected, "operation-rejected"),
        (say.AwarenessUpdate, "awareness-update"),
        (say.DocumentUpdate, "yjs-doc-update"),
        (say.BlobRequest, "blob-chunk-request"),
        (say.BlobResponse, "blob-chunk-response"),
    )
}


def decode(text: bytes, max_operations: int = ANY_NUMBER) -> say.Message | Malformed | Unknown:
    """Read one text frame (UTF-8, checked already). Never raises: what is no message comes back as an event.

    The operations of a batch longer than `max_operations` may not be looked at.
    """
    try:
        message: say.Message = _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return read_leniently(text, max_operations)
    if type(message) is _OperationBatch:
        if not all(map(settle, message.operations)):
            return read_leniently(text, max_operations)
        message.size_bytes = len(text)
    return message


def settle(operation: Operation) -> bool:
    """Give unset members their one form; False when a raw member needs a closer look."""
    for text in (bytes(operation.data), bytes(operation.previous_data)):
        if text[:1] not in _OBJECT_OR_NULL or needs_closer_look(text):
            return False
    if operation.transaction_id is None:
        operation.transaction_id = UNSET
    if operation.mutation_name is None:
        operation.mutation_name = UNSET
    return operation.atomic_ops is UNSET or settle_atomic(operation)


def encode(message: say.Message) -> Frame:
    """One frame for one message."""
    # The members of a message are spelled as on the wire already; only the tag is missing, unless it came from there.
    prefix = _TAG_PREFIX.get(type(message))
    return Frame(prefix + _encode(message)[1:] if prefix else _encode(message))


def encode_batch(batch: DeliveryBatch) -> Frame:
    """The frame of a planned batch, built by the first session that sends it."""
    frame: Frame | None = batch.frames.get(FORMAT)
    if frame is None:
        frame = batch.frames[FORMAT] = Frame(_batch_text(batch))
    return frame


def _batch_text(batch: DeliveryBatch) -> bytes:
    tail = f'],"isFinal":{"true" if batch.is_final else "false"},"batchIndex":{batch.index}'
    if batch.total is not None:
        tail += f',"totalBatches":{batch.total}'
    if batch.cursor is not None:
        tail += f',"cursor":"{batch.cursor}"'
    if batch.base is not None:
        tail += f',"baseDeliverySequence":{batch.base},"maxDeliverySequence":{batch.maximum}'
    head = f'{{"type":"operation-batch","messageId":"{batch.message_id}","operations":['
    return b"".join((head.encode(), b",".join([entry.body for entry in batch.entries]), tail.encode(), b"}"))
