"""The two forms of a message, and one message for peers that speak different ones."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct, field

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.protocol.events import Malformed, Unknown
from kora_daemon.protocol.messages import Message
from kora_daemon.wire import json, protobuf
from kora_daemon.wire.frame import Frame


class Codec(Protocol):
    """What `wire.json` and `wire.protobuf` do."""

    FORMAT: str

    def decode(self, payload: bytes, max_operations: int = ...) -> Message | Malformed | Unknown:
        """Read one frame. Never raises."""
        ...

    def encode(self, message: Message) -> Frame:
        """One frame for one message."""
        ...

    def encode_batch(self, batch: DeliveryBatch) -> Frame:
        """The frame of a planned batch, shared by all sessions that send it."""
        ...


TEXT: Codec = json
BINARY: Codec = protobuf


class SharedMessage(Struct):
    """One message for many peers, encoded once in each format that one of them speaks."""

    message: Message
    frames: dict[str, Frame] = field(default_factory=dict)

    def frame(self, codec: Codec) -> Frame:
        """The frame for a peer, built for the first one that needs it."""
        frame = self.frames.get(codec.FORMAT)
        if frame is None:
            frame = self.frames[codec.FORMAT] = codec.encode(self.message)
        return frame
