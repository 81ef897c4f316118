"""One device on a socket of its own, by the rules of a real client.

A batch that begins at the watermark is taken and acknowledged; one that begins below it is acknowledged with the
watermark and not taken; one that begins above it is ignored (wire.md section 5).
"""

from __future__ import annotations

import base64
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from kora_daemon.bench import messages as say
from kora_daemon.bench.frames import CLOSE, PING, PONG, BrokenFrame, FrameReader, masked_frame
from kora_daemon.bench.loop import READABLE, WRITABLE, Loop, now_s
from kora_daemon.bench.operations import new_id

_READ_BYTES = 262_144
_RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"
"""SO_LINGER of 0 s: closing resets the connection, as a network does that goes away."""


class State(Enum):
    """Where a connection is."""

    CLOSED = auto()
    CONNECTING = auto()
    UPGRADING = auto()
    GREETING = auto()
    SYNCING = auto()
    STREAMING = auto()


class Address(NamedTuple):
    """Where clients connect to: a socket address, and what the request for the upgrade says."""

    family: int
    place: tuple[object, ...]
    request: bytes


class Ground(NamedTuple):
    """What the clients of a run have in common; `trouble` counts everything that should not have happened."""

    loop: Loop
    address: Address
    hearing: say.Hearing
    trouble: Counter[str]
    token: str | None


Acked = Callable[[float], None]


class Client:
    """A device; it may come and go. Times are those of `now_s`.

    `on_welcome` is told that the server has let it in, `on_taken` of each batch that was taken, `on_presence` of
    others. A connection that ends and was not closed from here is trouble, unless it `may_be_dropped`.
    """

    def __init__(self, ground: Ground, watermark: int = 0) -> None:
        self._ground = ground
        self.node_id = new_id()
        self.watermark = watermark
        self.state = State.CLOSED
        self.on_taken: Callable[[Client, say.Delivered, float], None] | None = None
        self.on_presence: Callable[[Client, say.Presence, float], None] | None = None
        self.on_welcome: Callable[[Client], None] | None = None
        self.may_be_dropped = False
        self.queries: Sequence[object] = ()
        self.opened_at = self.greeted_at = self.first_at = self.streaming_at = 0.0
        self.arrived = self.taken = self.repeats = self.gaps = self.frames_in = self.bytes_in = 0
        self.waiting: dict[str, tuple[say.Batch, Acked]] = {}
        """Batches that are not acknowledged, by message id."""

    @property
    def is_streaming(self) -> bool:
        """Whether it has everything that was there when it came, and hears what is new."""
        return self.state is State.STREAMING

    def open(self) -> None:
        """Connect and shake hands; what it has waiting is sent again once it is welcome."""
        self._socket = socket.socket(self._ground.address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._descriptor = self._socket.fileno()
        self._reader = FrameReader()
        self._head = b""
        self._unsent = b""
        self.state = State.CONNECTING
        self.opened_at, self.greeted_at, self.first_at, self.streaming_at = now_s(), 0.0, 0.0, 0.0
        self._socket.connect_ex(self._ground.address.place)
        self._ground.loop.watch(self._descriptor, WRITABLE, self._connected)

    def upload(self, batch: say.Batch, acked: Acked) -> None:
        """Send a batch; `acked` is told when it was acknowledged. Without a connection it waits for one."""
        self.waiting[batch.message_id] = batch, acked
        if self.state.value >= State.SYNCING.value:
            self.send(batch.frame)

    def send(self, frame: bytes) -> None:
        """Send a frame as it is."""
        if self._unsent:
            self._unsent += frame
            return
        try:
            sent = self._socket.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(error.strerror)
            return
        if sent < len(frame):
            self._unsent = frame[sent:]
            self._ground.loop.watch(self._descriptor, READABLE | WRITABLE, self._ready)

    def pause(self) -> None:
        """Read nothing any more."""
        self._ground.loop.forget(self._descriptor)

    def resume(self) -> None:
        """Read again."""
        self._ground.loop.watch(self._descriptor, READABLE | WRITABLE, self._ready)

    def close(self, *, reset: bool = False) -> None:
        """Go, with a close frame or as if the network were gone."""
        if self.state is State.CLOSED:
            return
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif self.state.value > State.UPGRADING.value:
            self.send(masked_frame((1000).to_bytes(2, "big"), CLOSE))
        self._drop()

    def _drop(self) -> None:
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self._ground.loop.forget(self._descriptor)
            self._socket.close()

    def _lost(self, reason: str | None) -> None:
        if self.state is not State.CLOSED:
            if not self.may_be_dropped:
                self._ground.trouble[f"connection ended: {reason}"] += 1
            self._drop()

    def _connected(self, _mask: int) -> None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._lost(os.strerror(error))
            return
        self.state = State.UPGRADING
        self._ground.loop.watch(self._descriptor, READABLE, self._ready)
        key = base64.b64encode(os.urandom(16))
        self.send(self._ground.address.request + b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")

    def _ready(self, mask: int) -> None:
        if mask & WRITABLE:
            rest, self._unsent = self._unsent, b""
            self._ground.loop.watch(self._descriptor, READABLE, self._ready)
            if rest:
                self.send(rest)
        if mask & ~WRITABLE and self.state is not State.CLOSED:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error.strerror)
            return
        at = now_s()
        if not data:
            self._lost("the server is gone")
            return
        self.bytes_in += len(data)
        if self.state is State.UPGRADING:
            data = self._upgraded(data)
        try:
            for opcode, payload in self._reader.feed(data):
                self._hear(opcode, payload, at)
                if self.state is State.CLOSED:
                    return
        except (BrokenFrame, msgspec.DecodeError) as error:
            self._lost(f"unreadable: {error}")

    def _upgraded(self, data: bytes) -> bytes:
        """What came behind the answer to the request."""
        self._head, complete, rest = (self._head + data).partition(b"\r\n\r\n")
        if not complete:
            return b""
        status = self._head.split(b"\r\n", 1)[0].decode("latin-1")
        if " 101 " not in status:
            self._lost(status)
            return b""
        self.state = State.GREETING
        self.send(say.handshake(self.node_id, self.watermark, self._ground.token, self.queries))
        return rest

    def _hear(self, opcode: int, payload: bytes, at: float) -> None:
        if opcode == PING:
            self.send(masked_frame(payload, PONG))
            return
        if opcode == CLOSE:
            self._lost(f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}".strip())
            return
        if opcode == PONG:
            return
        self.frames_in += 1
        message = self._ground.hearing.read(payload)
        if type(message) is say.Delivered:
            self._deliver(message, at)
        elif type(message) is say.Acknowledged:
            waiting = self.waiting.pop(message.acknowledged_message_id, None)
            if waiting is not None:
                waiting[1](at)
        elif type(message) is say.Presence:
            if self.on_presence is not None:
                self.on_presence(self, message, at)
        elif type(message) is say.Welcome:
            self._welcomed(message, at)
        elif isinstance(message, say.Refusal | say.ServerError):
            self._ground.trouble[f"refused: {message.code}"] += 1

    def _welcomed(self, message: say.Welcome, at: float) -> None:
        if not message.accepted:
            self._lost(f"handshake refused: {message.reject_reason}")
            return
        self.greeted_at = at
        self.state = State.SYNCING
        most = message.server_max_delivery_sequence
        if most is not None and most < self.watermark:
            self.watermark = 0
        for batch, _ in list(self.waiting.values()):
            self.send(batch.frame)
        if self.on_welcome is not None:
            self.on_welcome(self)

    def _deliver(self, batch: say.Delivered, at: float) -> None:
        number = len(batch.operations)
        self.arrived += number
        most = batch.max_delivery_sequence
        if most is not None:
            base = batch.base_delivery_sequence or 0
            if base > self.watermark:
                self.gaps += 1
                return
            if base < self.watermark:
                self.repeats += 1
                self.send(say.repeated(batch, self.watermark))
                return
            self.watermark = most
        self.send(batch.ack)
        self.taken += number
        if number:
            self.first_at = self.first_at or at
            if self.on_taken is not None:
                self.on_taken(self, batch, at)
        if batch.is_final and self.state is State.SYNCING:
            self.state, self.streaming_at = State.STREAMING, at
