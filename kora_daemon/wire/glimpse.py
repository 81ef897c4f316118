"""The little that a transport without an order of its own looks at in a message, before the session gets it."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from msgspec import UNSET, Struct

from kora_daemon.wire.envelope import Envelope
from kora_daemon.wire.frame import Frame


class Glimpse(Struct, frozen=True, rename="camel"):
    """What a message says of itself, unchecked: its other members are of any type and may be missing."""

    type: Any = UNSET
    message_id: Any = UNSET
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

    def predates(self, other: Glimpse) -> bool:
        """Whether the client wrote it before the other one, as far as ids tell: those of stock clients count."""
        ids = [_STOCK_ID.fullmatch(one.message_id) for one in (self, other) if isinstance(one.message_id, str)]
        if len(ids) < 2 or ids[0] is None or ids[1] is None:
            return False
        (mine_ms, mine), (other_ms, others) = ((int(found[1]), int(found[2])) for found in ids if found is not None)
        return mine < others and mine_ms <= other_ms


_STOCK_ID = re.compile(r"msg-(\d{1,15})-(\d{1,15})")
"""Time in ms, and a number that counts in the process."""
_MOST_DIGITS = 4_300
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
        envelope.message_id,
        envelope.auth_token or None,
        envelope.batch_index,
        envelope.is_final,
        None,  # an envelope can't say how many there are
    )


def _lenient_glimpse(payload: bytes) -> Glimpse | None:
    """JSON as JavaScript writes it, half surrogate pairs included (see `wire.lenient`)."""
    try:
        message = json.loads(payload, parse_int=_integer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    return Glimpse(**{_MEMBERS[name]: value for name, value in message.items() if name in _MEMBERS})


def _integer(digits: str) -> float:
    """Any number that takes too many digits for Python is as large as the next: codecs skip such a member, too."""
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf
