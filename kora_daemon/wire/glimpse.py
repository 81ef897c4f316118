"""The little that a transport without an order of its own looks at in a message, before the session gets it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from msgspec import UNSET, Struct

from kora_daemon.wire.envelope import Envelope
from kora_daemon.wire.frame import Frame


class Glimpse(Struct, frozen=True, rename="camel"):
    """What a message says of itself, unchecked: its other members are of any type and may be missing."""

    type: Any = UNSET
    auth_token: Any = None
    batch_index: Any = 0
    is_final: Any = True
    total_batches: Any = UNSET
    last_delivery_sequence: Any = UNSET

    @property
    def is_handshake(self) -> bool:
        """Whether a session begins with it."""
        return bool(self.type == "handshake")

    @property
    def is_upload(self) -> bool:
        """Whether it brings operations."""
        return bool(self.type == "operation-batch")


_DECODER = msgspec.json.Decoder(Glimpse)
_MEMBERS = {field.encode_name: field.name for field in msgspec.structs.fields(Glimpse)}


def glimpse(frame: Frame) -> Glimpse | None:
    """A look at a message, None for what has no type and so is none. Costs little: what it does not want it skips."""
    if frame.binary:
        return _binary_glimpse(frame.payload)
    try:
        seen: Glimpse | None = _DECODER.decode(frame.payload)
    except (msgspec.DecodeError, RecursionError):
        seen = _lenient_glimpse(frame.payload)
    return seen if seen is not None and isinstance(seen.type, str) else None


def _binary_glimpse(payload: bytes) -> Glimpse | None:
    try:
        envelope = Envelope.FromString(payload)
    except DecodeError:
        return None
    return Glimpse(
        envelope.type,
        envelope.auth_token or None,
        envelope.batch_index,
        envelope.is_final,
        None,  # an envelope can't say how many there are
    )


def _lenient_glimpse(payload: bytes) -> Glimpse | None:
    """JSON as JavaScript writes it, half surrogate pairs included (see `wire.lenient`)."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    return Glimpse(**{_MEMBERS[name]: value for name, value in message.items() if name in _MEMBERS})
