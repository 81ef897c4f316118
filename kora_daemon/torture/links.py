"""How a simulated device talks: WebSocket frames, written and read here once more, from the client's side."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import trio

from kora_daemon.torture.network import Unreachable
from kora_daemon.torture.protobuf import from_binary, to_binary

Sent = dict[str, Any]
Connect = Callable[[], Awaitable[trio.abc.Stream]]

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, Unreachable)
PATIENCE_S = 10.0
"""For the answer to an upgrade."""
PAUSE_S = 0.25
"""Between an empty poll and the next one."""
_TEXT, _BINARY, _CLOSE, _PING = 0x1, 0x2, 0x8, 0x9
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_PONG = b"\x8a\x80\0\0\0\0"
_UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: daemon\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


class Lost(Exception):
    """The connection is over; says how."""


class Link(Protocol):
    """One connection of a client."""

    def say(self, message: Sent) -> None:
        """Send a message some time; never blocks."""
        ...

    async def hear(self) -> Sent:
        """The next message. Raises Lost."""
        ...


class Bytes:
    """What comes out of a stream, by size or up to a mark."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def exactly(self, count: int) -> bytes:
        """So many bytes. Raises Lost."""
        while len(self._buffer) < count:
            await self._more()
        return self._take(count)

    async def upto(self, mark: bytes) -> bytes:
        """All up to a mark, with it. Raises Lost."""
        while (found := self._buffer.find(mark)) < 0:
            await self._more()
        return self._take(found + len(mark))

    async def _more(self) -> None:
        try:
            data = await self._stream.receive_some()
        except GONE:
            data = b""
        if not data:
            raise Lost("gone")
        self._buffer += data

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


class Speech:
    """How a client puts its messages: as text, until an answer says that protobuf is understood, too.

    Presence has no protobuf form, in either direction.
    """

    def __init__(self) -> None:
        self._packs = False

    def write(self, message: Sent) -> tuple[bytes, bool]:
        """A message as bytes, and whether these are protobuf."""
        if self._packs and message["type"] != "awareness-update":
            return to_binary(message), True
        return json.dumps(message).encode(), False

    def read(self, payload: bytes, binary: bool) -> Sent:
        """The message in a payload."""
        message: Sent = from_binary(payload) if binary else json.loads(payload)
        self._packs = self._packs or message.get("selectedWireFormat") == "protobuf"
        return message


class WebSocketLink:
    """A WebSocket. Frames are masked with zeros, which is as legal as any other mask."""

    def __init__(self, stream: trio.abc.Stream, tasks: trio.Nursery) -> None:
        self._stream = stream
        self._bytes = Bytes(stream)
        self._speech = Speech()
        self._put, frames = trio.open_memory_channel[bytes](10_000)
        tasks.start_soon(self._send, frames)

    async def open(self) -> None:
        """Shake hands as WebSockets do. Raises Lost."""
        self._put.send_nowait(_UPGRADE)
        with trio.move_on_after(PATIENCE_S):
            head = await self._bytes.upto(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 101 "):
                return
            raise Lost(head.partition(b"\r\n")[0].decode())
        raise Lost("no answer to the upgrade")

    def say(self, message: Sent) -> None:
        """Send a message some time."""
        payload, binary = self._speech.write(message)
        self._put.send_nowait(_frame(_BINARY if binary else _TEXT, payload))

    async def hear(self) -> Sent:
        """The next message. Raises Lost."""
        while True:
            kind, payload = await self._next_frame()
            if kind == _CLOSE:
                raise Lost(f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}")
            if kind == _PING:
                self._put.send_nowait(_PONG)
            elif kind in (_TEXT, _BINARY):
                return self._speech.read(payload, kind == _BINARY)

    async def _next_frame(self) -> tuple[int, bytes]:
        first, second = await self._bytes.exactly(2)
        size = second
        if second == 126:
            size = int.from_bytes(await self._bytes.exactly(2), "big")
        elif second == 127:
            size = int.from_bytes(await self._bytes.exactly(8), "big")
        return first & 0x0F, await self._bytes.exactly(size)

    async def _send(self, frames: trio.MemoryReceiveChannel[bytes]) -> None:
        async for frame in frames:
            try:
                await self._stream.send_all(frame)
            except GONE:
                return  # whoever reads notices, too


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | kind, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x80 | kind, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | kind, 0xFF)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


class PollingLink:
    """HTTP long-polling (wire.md section 11): one request for each message, and polls one after the other."""

    def __init__(self, connect: Connect, headers: dict[str, str], tasks: trio.Nursery) -> None:
        self._connect = connect
        self._head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._tasks = tasks
        self._idle: list[trio.abc.Stream] = []
        self._speech = Speech()
        self._heard, self._hear = trio.open_memory_channel[Sent | Lost](10_000)

    async def open(self) -> None:
        """Begin to poll."""
        self._tasks.start_soon(self._poll)
        await trio.lowlevel.checkpoint()

    def say(self, message: Sent) -> None:
        """Post a message, without waiting for those before it."""
        self._tasks.start_soon(self._post, *self._speech.write(message))

    async def hear(self) -> Sent:
        """The next message. Raises Lost."""
        heard = await self._hear.receive()
        if isinstance(heard, Lost):
            raise heard
        return heard

    async def _poll(self) -> None:
        with self._losing():
            stream = await self._connect()
            source = Bytes(stream)
            while True:
                status, body, binary = await self._ask(stream, source, "GET", b"")
                if status == 200:
                    self._heard.send_nowait(self._speech.read(body, binary))
                elif status == 204:
                    await trio.sleep(PAUSE_S)
                else:
                    raise Lost(f"{status} {body.decode().strip()}")

    async def _post(self, body: bytes, binary: bool) -> None:
        with self._losing():
            stream = self._idle.pop() if self._idle else await self._connect()
            status, answer, _ = await self._ask(stream, Bytes(stream), "POST", body, _PROTOBUF if binary else _JSON)
            if status != 202:
                raise Lost(f"{status} {answer.decode().strip()}")
            self._idle.append(stream)

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """Whatever request fails: the client is offline then."""
        try:
            yield
        except Lost as lost:
            self._heard.send_nowait(lost)
        except GONE:
            self._heard.send_nowait(Lost("gone"))

    async def _ask(
        self, stream: trio.abc.Stream, source: Bytes, method: str, body: bytes, form: str = _JSON
    ) -> tuple[int, bytes, bool]:
        """Status and body of an answer, and whether that is protobuf."""
        kind = f"content-type: {form}\r\ncontent-length: {len(body)}\r\n" if body else ""
        await stream.send_all(f"{method} / HTTP/1.1\r\nhost: daemon\r\n{self._head}{kind}\r\n".encode() + body)
        head = (await source.upto(b"\r\n\r\n")).decode().lower()
        status, size = int(head.split()[1]), 0
        for line in head.split("\r\n")[1:]:
            name, _, value = line.partition(":")
            if name == "content-length":
                size = int(value)
        return status, await source.exactly(size), f"content-type: {_PROTOBUF}\r\n" in head
