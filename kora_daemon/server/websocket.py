"""The WebSocket as a transport: trio-websocket over our `FrameStream`."""

from __future__ import annotations

from typing import Final

import trio
import trio_websocket
from wsproto.connection import SERVER, Connection
from wsproto.utilities import generate_accept_token

from kora_daemon.protocol.actions import Close
from kora_daemon.server.deflate import Agreement
from kora_daemon.server.framing import deflated_frame_bytes, frame_bytes
from kora_daemon.server.stream import FrameStream
from kora_daemon.server.transport import Receiver, has_room
from kora_daemon.wire.frame import Frame

CLOSE_TIMEOUT_S = 2.0
HANDSHAKE_MESSAGE_BYTES = 4 << 20
"""Before its handshake was accepted a peer may not send more than this in a message."""


class _Upgraded(trio_websocket.WebSocketConnection):
    """The library's connection from behind the handshake on, made for the first ping of the peer, or for a close.

    It would parse the handshake a second time, a quarter of the cost of a new connection; nothing public runs its
    reader alone. To make one is a tenth of that cost, and most connections live long without it.
    """

    def __init__(self, stream: FrameStream) -> None:
        # Of a connection's state before the handshake it needs nothing any more.
        super().__init__(stream, Connection(SERVER), message_queue_size=1)  # type: ignore[arg-type]

    async def run(self) -> None:
        """Answer control frames until the peer is gone."""
        await self._reader_task()


class WebSocketTransport:
    """A connection whose request to be upgraded is acceptable; `key` is its `Sec-WebSocket-Key`.

    `max_message_bytes` holds once `admit` was called, a smaller limit before. With an agreement, which the answer to
    the upgrade tells the client of, messages go both ways compressed.
    """

    name: Final = "websocket"

    def __init__(
        self,
        stream: FrameStream,
        key: bytes,
        max_message_bytes: int,
        max_buffered_bytes: int,
        agreement: Agreement | None = None,
    ) -> None:
        self._stream = stream
        self._key = key
        self._outbox = stream.outbox
        self._max_message_bytes = max_message_bytes
        self._max_buffered_bytes = max_buffered_bytes
        self._agreement = agreement
        if agreement is not None:
            stream.inflate()
        self._receiver: Receiver | None = None
        """While it is served."""
        self._websocket: _Upgraded | None = None

    @property
    def keeps_order(self) -> bool:
        """There is one stream."""
        return True

    async def serve(self, receiver: Receiver, nursery: trio.Nursery) -> None:
        """Answer the upgrade, then hand in frames until the peer is gone."""
        self._receiver = receiver
        self._outbox.nursery = nursery
        self._outbox.push(self._answer())
        self._stream.receiver = receiver
        receiver.opened()
        try:
            if await self._stream.has_control_frame() or self._websocket is not None:
                await self._library().run()
        finally:
            self._receiver = self._outbox.nursery = None

    def _library(self) -> _Upgraded:
        if self._websocket is None:
            self._websocket = _Upgraded(self._stream)
        return self._websocket

    def _answer(self) -> bytes:
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + generate_accept_token(self._key),
        ]
        if self._agreement is not None:
            lines.append(b"Sec-WebSocket-Extensions: " + self._agreement.answer.encode())
        return b"\r\n".join((*lines, b"", b""))

    def admit(self) -> None:
        """The handshake was accepted: allow messages of full size."""
        self._stream.allow(self._max_message_bytes)

    def send(self, frame: Frame) -> None:
        """Send a frame, or queue it."""
        if self._receiver is None or (self._websocket is not None and self._websocket.closed):
            return
        agreement = self._agreement
        self._outbox.push(
            frame_bytes(frame) if agreement is None else deflated_frame_bytes(frame, agreement.compression)
        )
        if self._outbox.waiting_bytes > self._max_buffered_bytes and self._receiver is not None:
            self._receiver.overflowed()

    def ping(self) -> None:
        """Provoke a sign of life, unless enough is queued for the peer to answer to."""
        if self._outbox.buffered_bytes == 0:
            self._stream.ping()

    @property
    def heard_at(self) -> float:
        """When the last byte came in."""
        return self._stream.heard_at

    @property
    def buffered_bytes(self) -> int:
        """Bytes that the kernel did not take yet."""
        return self._outbox.buffered_bytes

    def has_room_for(self, size_bytes: int) -> bool:
        """Whether the queue stays below a quarter of its limit, or is empty."""
        return has_room(self._outbox.buffered_bytes, size_bytes, self._max_buffered_bytes)

    def delivered(self) -> bool:
        """Whether the peer's kernel has everything."""
        return self._outbox.buffered_bytes == 0 and self._outbox.in_kernel_bytes() == 0

    @property
    def own_close(self) -> Close | None:
        """For a frame that is illegal or too large."""
        fault = self._stream.fault
        return None if fault is None else Close(fault.code, fault.reason)

    async def close(self, code: int, reason: str) -> None:
        """Close handshake, with a deadline; then the socket is closed whatever the peer does."""
        self._stream.begin_close()
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            if self._receiver is not None:
                await self._library().aclose(code, reason.encode()[:123].decode(errors="ignore"))
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_TIMEOUT_S):
            await self._stream.aclose()
