"""A WebSocket client that speaks permessage-deflate: wsproto's own, on a real socket."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio_websocket
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from tests.support.network import Client


class NotedDeflate(PerMessageDeflate):
    """wsproto's extension; notes of each data frame that comes in whether it is compressed, and its size."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.heard: list[tuple[bool, int]] = []

    def frame_inbound_header(self, proto: Any, opcode: Any, rsv: Any, payload_length: int) -> Any:
        if not opcode.iscontrol():
            self.heard.append((bool(rsv.rsv1), payload_length))
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)


class DeflatingSocket:
    """As much of a trio-websocket connection as `Client` needs. It compresses all that it sends."""

    def __init__(self, stream: trio.SocketStream, extension: PerMessageDeflate) -> None:
        self._stream = stream
        self._wsproto = WSConnection(ConnectionType.CLIENT)
        self.extension = extension
        self._parts: list[str | bytes] = []
        self._messages: deque[str | bytes] = deque()
        self.closed: trio_websocket.CloseReason | None = None
        self.accepted: AcceptConnection | None = None

    async def open(self) -> None:
        """Send the upgrade and take the answer."""
        await self._send(Request(host="localhost", target="/", extensions=[self.extension]))
        while self.accepted is None:
            await self._read()

    async def send_message(self, message: str | bytes, fragments: int = 1) -> None:
        """Send a message, in so many fragments."""
        kind: type[Message] = TextMessage if isinstance(message, str) else BytesMessage
        size = -(-len(message) // fragments)
        for index in range(fragments):
            part = message[index * size : (index + 1) * size]
            await self._send(kind(data=part, message_finished=index == fragments - 1))

    async def get_message(self) -> str | bytes:
        """The next message; raises trio_websocket.ConnectionClosed instead when there is none to come."""
        while not self._messages:
            if self.closed is not None:
                raise trio_websocket.ConnectionClosed(self.closed)
            await self._read()
        return self._messages.popleft()

    async def aclose(self, code: int = 1000, reason: str | None = None) -> None:
        """Close, and wait until the server has, too."""
        if self.closed is None:
            await self._send(CloseConnection(code, reason))
            while self.closed is None:
                await self._read()

    async def _send(self, event: Event) -> None:
        try:
            await self._stream.send_all(self._wsproto.send(event))
        except trio.BrokenResourceError:
            self.closed = self.closed or trio_websocket.CloseReason(1006, None)

    async def _read(self) -> None:
        try:
            data = await self._stream.receive_some(65_536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.closed = self.closed or trio_websocket.CloseReason(1006, None)
            assert self.accepted is not None, "the upgrade was not answered"
            return
        self._wsproto.receive_data(data)
        for event in self._wsproto.events():
            await self._take(event)

    async def _take(self, event: Event) -> None:
        if isinstance(event, Message):
            self._parts.append(event.data)
            if event.message_finished:
                parts, self._parts = self._parts, []
                self._messages.append(type(parts[0])().join(parts))
        elif isinstance(event, Ping):
            await self._send(event.response())
        elif isinstance(event, CloseConnection):
            self.closed = trio_websocket.CloseReason(event.code, event.reason)
        elif isinstance(event, AcceptConnection):
            self.accepted = event
        else:
            assert not isinstance(event, RejectConnection), event


@asynccontextmanager
async def deflating(port: int, **parameters: Any) -> AsyncIterator[tuple[Client, DeflatingSocket]]:
    """A client whose upgrade offers permessage-deflate with these parameters, and what is underneath."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        socket = DeflatingSocket(stream, NotedDeflate(**parameters))
        await socket.open()
        yield Client(socket), socket
