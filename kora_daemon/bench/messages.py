"""What clients say and hear (wire.md), as text frames. Only what a load generator looks at is read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple
from uuid import uuid4

import msgspec
from msgspec import Struct

from kora_daemon.bench.frames import masked_frame
from kora_daemon.model.operation import Operation

_RUN = uuid4().hex[:12]
_NUMBERS = count()
_encode = msgspec.json.encode
_MOST_REMEMBERED = 256


class DeliveredOperation(Struct, rename="camel", gc=False):
    """An operation, as far as it matters here."""

    id: str
    sequence_number: int


class Delivered(Struct, rename="camel", tag_field="type", tag="operation-batch"):
    """A batch from the server. One object stands for the equal frames that many clients are sent.

    `places` is for whoever looks its operations up; `ack` is the frame that acknowledges it.
    """

    message_id: str
    operations: list[DeliveredOperation]
    is_final: bool = True
    base_delivery_sequence: int | None = None
    max_delivery_sequence: int | None = None
    places: Sequence[int] | None = None
    ack: bytes = b""


class Acknowledged(Struct, rename="camel", tag_field="type", tag="acknowledgment"):
    """The server has a batch of ours."""

    acknowledged_message_id: str


class Welcome(Struct, rename="camel", tag_field="type", tag="handshake-response"):
    """The server's handshake."""

    accepted: bool
    reject_reason: str | None = None
    server_max_delivery_sequence: int | None = None


class Refusal(Struct, rename="camel", tag_field="type", tag="operation-rejected"):
    """An operation is refused for good."""

    code: str = ""


class ServerError(Struct, rename="camel", tag_field="type", tag="error"):
    """Something is refused, and the connection with it."""

    code: str = ""


class Cursor(Struct):
    """Where somebody is; `anchor` counts their updates."""

    anchor: int


class User(Struct):
    """Who somebody is."""

    name: str


class PresenceState(Struct):
    """One client's presence."""

    user: User | None = None
    cursor: Cursor | None = None


class Presence(Struct, rename="camel", tag_field="type", tag="awareness-update"):
    """Who is where."""

    states: dict[str, PresenceState | None]


Heard = Delivered | Acknowledged | Welcome | Refusal | ServerError | Presence
_DECODER = msgspec.json.Decoder(Heard)


class Batch(NamedTuple):
    """Operations of one upload, ready to be sent."""

    message_id: str
    operations: Sequence[Operation]
    frame: bytes


class Hearing:
    """Reads messages. Equal frames are read once: a server sends most of them to many clients."""

    def __init__(self) -> None:
        self._recent: dict[bytes, Delivered] = {}

    def read(self, payload: bytes) -> Heard:
        """Raises msgspec.DecodeError for what is no message that a server sends here."""
        known = self._recent.get(payload)
        if known is not None:
            return known
        message: Heard = _DECODER.decode(payload)
        if type(message) is Delivered:
            message.ack = _acknowledgment(message)
            if len(self._recent) == _MOST_REMEMBERED:
                self._recent.clear()
            self._recent[payload] = message
        return message


def message_id() -> str:
    """One that no other message of this run has."""
    return f"{_RUN}-{next(_NUMBERS):x}"


def handshake(node_id: str, watermark: int, token: str | None, queries: Sequence[object]) -> bytes:
    """The frame that opens a session of a current client: where it goes on, and its live queries if it has any."""
    said: dict[str, object] = {
        "type": "handshake",
        "messageId": message_id(),
        "nodeId": node_id,
        "versionVector": {},
        "schemaVersion": 1,
        "supportedWireFormats": ["json"],
        "lastDeliverySequence": watermark,
    }
    if token is not None:
        said["authToken"] = token
    if queries:
        said["syncQueries"] = queries
    return masked_frame(_encode(said))


def upload(operations: Sequence[Operation]) -> Batch:
    """A batch of a client's own operations."""
    name = message_id()
    said = {"type": "operation-batch", "messageId": name, "operations": operations, "isFinal": True, "batchIndex": 0}
    return Batch(name, operations, masked_frame(_encode(said)))


def repeated(batch: Delivered, watermark: int) -> bytes:
    """The acknowledgment of a batch that is known already: it names the watermark."""
    return _acknowledging(batch.message_id, 0, watermark)


def presence(name: str, client_id: int, number: int) -> bytes:
    """The frame by which somebody says where they are, for the `number`th time."""
    state = {
        "user": {"name": name, "color": "#3366cc"},
        "cursor": {"collection": "todos", "recordId": "r-1", "field": "notes", "anchor": number, "head": number},
    }
    said = {"type": "awareness-update", "messageId": message_id(), "clientId": client_id}
    return masked_frame(_encode({**said, "states": {str(client_id): state}}))


def _acknowledgment(batch: Delivered) -> bytes:
    sequence = batch.operations[-1].sequence_number if batch.operations else 0
    return _acknowledging(batch.message_id, sequence, batch.max_delivery_sequence)


def _acknowledging(name: str, sequence: int, delivery_sequence: int | None) -> bytes:
    said: dict[str, object] = {
        "type": "acknowledgment",
        "messageId": message_id(),
        "acknowledgedMessageId": name,
        "lastSequenceNumber": sequence,
    }
    if delivery_sequence is not None:
        said["deliverySequence"] = delivery_sequence
    return masked_frame(_encode(said))
