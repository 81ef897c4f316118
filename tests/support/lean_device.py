"""A device that costs next to nothing, for tests with hundreds of them: a bare socket, and frames as they are."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import trio

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
MASKED = 0x80
NO_MASK = b"\0\0\0\0"
"""A client has to mask what it sends; with nothing, that is."""


class Gone(Exception):
    """The server has closed."""


class LeanDevice:
    """A device with a watermark, on a connection that `connect` has made."""

    def __init__(self, node_id: str, watermark: int = 0) -> None:
        self.node_id = node_id
        self.watermark = watermark
        self.taken: list[str] = []
        self._heard = bytearray()
        self._sending = trio.Lock()
        self._stream: trio.SocketStream | None = None

    @property
    def stream(self) -> trio.SocketStream:
        """The connection."""
        assert self._stream is not None
        return self._stream

    async def connect(self, port: int, receive_bytes: int | None = None) -> None:
        """Connect and say hello. The system holds so many bytes that were not read, or as many as it likes."""
        made = trio.socket.socket()
        if receive_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await made.connect(("127.0.0.1", port))
        self._stream, self._heard = trio.SocketStream(made), bytearray()
        await self.stream.send_all(UPGRADE)
        await self.say(
            type="handshake",
            nodeId=self.node_id,
            versionVector={},
            schemaVersion=1,
            lastDeliverySequence=self.watermark,
        )

    async def say(self, **message: Any) -> None:
        """Send a message."""
        await self.send(TEXT, json.dumps({"messageId": "m", **message}).encode())

    async def send(self, first_byte: int, payload: bytes = b"") -> None:
        """Send a frame."""
        async with self._sending:
            await self.stream.send_all(_head(first_byte, len(payload)) + NO_MASK + payload)

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the server says. Raises Gone at the end."""
        while b"\r\n\r\n" not in self._heard:
            await self._hear()
        del self._heard[: self._heard.index(b"\r\n\r\n") + 4]
        while True:
            kind, payload = await self._frame()
            if kind == PING:
                await self.send(PONG, payload)
            elif kind == CLOSE:
                raise Gone
            elif kind == TEXT:
                yield json.loads(payload)

    async def take(self, message: dict[str, Any]) -> None:
        """Take a batch that goes on from the watermark, and acknowledge it."""
        if message["type"] != "operation-batch" or message["baseDeliverySequence"] != self.watermark:
            return
        self.taken += [one["id"] for one in message["operations"]]
        self.watermark = message["maxDeliverySequence"]
        await self.say(
            type="acknowledgment",
            acknowledgedMessageId=message["messageId"],
            lastSequenceNumber=0,
            deliverySequence=self.watermark,
        )

    async def _frame(self) -> tuple[int, bytes]:
        while (whole := self._whole()) is None:
            await self._hear()
        start, end = whole
        kind, payload = self._heard[0], bytes(self._heard[start:end])
        del self._heard[:end]
        return kind, payload

    def _whole(self) -> tuple[int, int] | None:
        """Where the payload of the first frame begins and ends, None while there is not all of it."""
        if len(self._heard) < 10 and (len(self._heard) < 2 or self._heard[1] >= 126):
            return None
        size, start = self._heard[1], 2
        if size == 126:
            (size,), start = struct.unpack_from(">H", self._heard, 2), 4
        elif size == 127:
            (size,), start = struct.unpack_from(">Q", self._heard, 2), 10
        return (start, start + size) if len(self._heard) >= start + size else None

    async def _hear(self) -> None:
        try:
            data = await self.stream.receive_some(65_536)
        except trio.BrokenResourceError as error:
            raise Gone from error
        if not data:
            raise Gone
        self._heard += data

    def vanish(self) -> None:
        """Close the socket."""
        self.stream.socket.close()


def _head(first_byte: int, size: int) -> bytes:
    if size < 126:
        return bytes([first_byte, MASKED | size])
    if size < 1 << 16:
        return struct.pack(">BBH", first_byte, MASKED | 126, size)
    return struct.pack(">BBQ", first_byte, MASKED | 127, size)
