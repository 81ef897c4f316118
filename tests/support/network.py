"""A server on a real socket, inside the test's own event loop, and a plain WebSocket client to talk to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import structlog
import trio
import trio_websocket

from kora_daemon.auth.contract import AuthProvider
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.http.access import Access
from kora_daemon.http.backup import ImportOptions
from kora_daemon.http.listener import Listener, ListenerOptions, addresses
from kora_daemon.http.own_routes import OwnRoute, OwnRoutes
from kora_daemon.http.static_files import AppFiles
from kora_daemon.http.surface import Extras, surface
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.store.blobs.contract import BlobStore
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from tests.support.protobuf import from_binary, to_binary

PATIENCE_S = 10.0
"""How long a test waits for something that has to happen."""


async def eventually(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds."""
    with trio.fail_after(patience_s):
        while not condition():
            await trio.sleep(0.005)


@contextmanager
def nothing_crashes() -> Iterator[None]:
    """Fail when the barrier around a connection had to stop a crash: nobody but the log would tell."""
    crashed: list[Any] = []

    def note(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if str(event["event"]).endswith("crashed"):
            crashed.append(event)
        return event

    processors = structlog.get_config()["processors"]
    processors.insert(0, note)
    try:
        yield
    finally:
        processors.remove(note)
    assert not crashed


class Host:
    """A running server and where to find it."""

    def __init__(self, server: SyncServer, listeners: Sequence[trio.SocketListener], path: str) -> None:
        self.server = server
        self.addresses = addresses(listeners)
        self.port: int = listeners[0].socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def running_server(
    store: Store | None = None,
    auth: AuthProvider | None = None,
    options: ServerOptions | None = None,
    listening: ListenerOptions | None = None,
    path: str = "/",
    access: Access | None = None,
    app: AppFiles | None = None,
    imports: ImportOptions | None = None,
    routes: Sequence[OwnRoute] = (),
    blobs: BlobStore | None = None,
) -> AsyncIterator[Host]:
    """A server with a listener on a free port, stopped in the proper order at the end."""
    server = SyncServer(store or MemoryStore(), auth or NoAuthProvider(), options, blobs)
    listening = listening or ListenerOptions(port=0)
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        own = OwnRoutes(server, routes)
        await nursery.start(own.run)
        with nothing_crashes():
            async with trio.open_nursery() as front:
                listener = Listener(
                    server, surface(server, path, access, Extras(imports or ImportOptions(), app, own)), listening
                )
                listeners = await listener.open()
                front.start_soon(listener.serve, listeners, nursery)
                try:
                    yield Host(server, listeners, path)
                finally:
                    front.cancel_scope.cancel()
            with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE_S):
                await own.finish(1)
                await server.stop()
        nursery.cancel_scope.cancel()


class Closed(Exception):
    """The server closed the connection."""

    def __init__(self, code: int, reason: str | None) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Client:
    """A peer that says exactly what a test tells it to. It answers pings and nothing else.

    With `binary` it speaks protobuf, and understands it in any case.
    """

    def __init__(self, websocket: trio_websocket.WebSocketConnection, binary: bool = False) -> None:
        self._websocket = websocket
        self._messages = 0
        self.binary = binary
        self.heard_binary = False
        """The last message came in a binary frame."""

    async def say(self, message: dict[str, Any]) -> str:
        """Send a message, with a message id if it has none; return the id."""
        self._messages += 1
        message = {"messageId": f"msg-{self._messages}", **message}
        await self.say_text(to_binary(message) if self.binary else json.dumps(message))
        return str(message["messageId"])

    async def say_text(self, text: str | bytes) -> None:
        """Send a frame as it is."""
        try:
            await self._websocket.send_message(text)
        except trio_websocket.ConnectionClosed as closed:
            raise _closed(closed) from None

    async def was_heard(self) -> None:
        """Wait until the server has taken in all that was said (or has closed): its pong comes behind that."""
        try:
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._stop_when_closed, nursery.cancel_scope)
                    await self._websocket.ping()
                    nursery.cancel_scope.cancel()
        except* trio_websocket.ConnectionClosed:
            pass

    async def _stop_when_closed(self, waiting: trio.CancelScope) -> None:
        while not self._websocket.closed:
            await trio.sleep(0.005)
        waiting.cancel()

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """All messages to come, however long they take; raises Closed at the end."""
        while True:
            try:
                yield self._read(await self._websocket.get_message())
            except trio_websocket.ConnectionClosed as closed:
                raise _closed(closed) from None

    async def hear(self) -> dict[str, Any]:
        """The next message; raises Closed when the server has closed instead."""
        return self._read(await self._next_frame())

    def _read(self, frame: str | bytes) -> dict[str, Any]:
        self.heard_binary = isinstance(frame, bytes)
        message = from_binary(frame) if isinstance(frame, bytes) else json.loads(frame)
        assert isinstance(message, dict)
        return message

    async def hear_text(self) -> str:
        """The next frame as text."""
        text = await self._next_frame()
        assert isinstance(text, str)
        return text

    async def _next_frame(self) -> str | bytes:
        try:
            with trio.fail_after(PATIENCE_S):
                frame: str | bytes = await self._websocket.get_message()
        except trio_websocket.ConnectionClosed as closed:
            raise _closed(closed) from None
        return frame

    async def hears_nothing(self, seconds: float = 0.2) -> bool:
        """Whether the server stays silent for a while."""
        with trio.move_on_after(seconds):
            await self._websocket.get_message()
            return False
        return True

    async def closed(self) -> Closed:
        """Wait until the server has closed; messages on the way are passed over."""
        while True:
            try:
                await self.hear()
            except Closed as closed:
                return closed

    async def shake_hands(self, node_id: str = "node-a", watermark: int | None = 0, **members: Any) -> dict[str, Any]:
        """Send a handshake and return the response; whatever comes after it is still to be heard."""
        handshake: dict[str, Any] = {"type": "handshake", "nodeId": node_id, "versionVector": {}, "schemaVersion": 1}
        if watermark is not None:
            handshake["lastDeliverySequence"] = watermark
        await self.say({**handshake, **members})
        return await self.hear()

    async def upload(self, *operations: dict[str, Any]) -> str:
        """Send a final batch."""
        return await self.say(
            {"type": "operation-batch", "operations": list(operations), "isFinal": True, "batchIndex": 0}
        )

    async def acknowledge(self, batch: dict[str, Any]) -> None:
        """Acknowledge a batch as a stock client does."""
        operations = batch["operations"]
        message = {
            "type": "acknowledgment",
            "acknowledgedMessageId": batch["messageId"],
            "lastSequenceNumber": operations[-1]["sequenceNumber"] if operations else 0,
        }
        if "maxDeliverySequence" in batch:
            message["deliverySequence"] = batch["maxDeliverySequence"]
        await self.say(message)

    async def download(self) -> list[dict[str, Any]]:
        """Take and acknowledge the batches up to a final one; other messages are passed over."""
        batches: list[dict[str, Any]] = []
        while not batches or not batches[-1]["isFinal"]:
            message = await self.hear()
            if message["type"] == "operation-batch":
                await self.acknowledge(message)
                batches.append(message)
        return batches

    async def go(self) -> None:
        """Close as a browser does."""
        with trio.move_on_after(PATIENCE_S):
            await self._websocket.aclose(1000, "Client disconnecting")


def _closed(closed: trio_websocket.ConnectionClosed) -> Closed:
    reason = closed.reason
    return Closed(reason.code, reason.reason) if reason is not None else Closed(1006, None)


@asynccontextmanager
async def connected(url: str, binary: bool = False, source: str | None = None, **options: Any) -> AsyncIterator[Client]:
    """A client on an open WebSocket; gone at the end. `options` are trio-websocket's, for the way there.

    `source` is the address that it comes from, where this host has several.
    """
    if source is not None:
        async with _connected_from(source, url) as websocket:
            yield Client(websocket, binary)
        return
    async with trio_websocket.open_websocket_url(url, max_message_size=1 << 26, **options) as websocket:
        yield Client(websocket, binary)


@asynccontextmanager
async def _connected_from(source: str, url: str) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    address = urlsplit(url)
    stream = await trio.open_tcp_stream(address.hostname or "", address.port or 80, local_address=source)
    async with trio.open_nursery() as nursery:
        try:
            yield await trio_websocket.wrap_client_stream(nursery, stream, address.netloc, address.path)
        finally:
            nursery.cancel_scope.cancel()
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def streaming(
    url: str, node_id: str = "node-a", watermark: int | None = 0, **options: Any
) -> AsyncIterator[Client]:
    """A client past its handshake: the response is heard, the first download acknowledged."""
    async with connected(url, **options) as client:
        response = await client.shake_hands(node_id, watermark)
        assert response["accepted"] is True
        await client.download()
        yield client
