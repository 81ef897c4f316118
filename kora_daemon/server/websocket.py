"""The WebSocket as a transport: trio-websocket over our `FrameStream`."""

from __future__ import annotations

from typing import Final

import trio
import trio_websocket

from kora_daemon.server.deflate import Agreement
from kora_daemon.server.framing import deflated_frame_bytes, frame_bytes
from kora_daemon.server.stream import RECEIVE_BYTES, FrameStream
from kora_daemon.server.transport import Receiver, has_room
from kora_daemon.wire.frame import Frame

UPGRADE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
HANDSHAKE_MESSAGE_BYTES = 4 << 20
"""Before its handshake was accepted a peer may not send more than this in a message."""


class WebSocketTransport:
    """One upgraded connection. `max_message_bytes` holds once `admit` was called, a smaller limit before.

    With an agreement, which the answer to the upgrade will tell the client of, messages go both ways compressed.
    """

    name: Final = "websocket"

    def __init__(
        self,
        stream: FrameStream,
        max_message_bytes: int,
        max_buffered_bytes: int,
        agreement: Agreement | None = None,
    ) -> None:
        self._stream = stream
        self._outbox = stream.outbox
        self._max_message_bytes = max_message_bytes
        self._max_buffered_bytes = max_buffered_bytes
        self._agreement = agreement
        if agreement is not None:
            stream.inflate()
        self._receiver: Receiver | None = None
        self._websocket: trio_websocket.WebSocketConnection | None = None

    @property
    def keeps_order(self) -> bool:
        """There is one stream."""
        return True

    async def serve(self, receiver: Receiver, nursery: trio.Nursery) -> None:
        """Answer the upgrade, then hand in frames until the peer is gone."""
        self._receiver = receiver
        self._outbox.nursery = nursery
        with trio.move_on_after(UPGRADE_TIMEOUT_S) as upgrade:
            request = await trio_websocket.wrap_server_stream(
                nursery,
                self._stream,
                message_queue_size=1,
                max_message_size=self._max_message_bytes,
                receive_buffer_size=RECEIVE_BYTES,
            )
            self._websocket = await request.accept(extra_headers=self._extensions())
            del request
        if upgrade.cancelled_caught:
            return
        self._stream.upgrade(receiver)
        receiver.opened()
        try:
            await self._stream.ended.wait()
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                await self._outbox.flush()
        finally:
            self._outbox.nursery = None

    def _extensions(self) -> list[tuple[bytes, bytes]]:
        agreement = self._agreement
        return [] if agreement is None else [(b"Sec-WebSocket-Extensions", agreement.answer.encode())]

    def admit(self) -> None:
        """The handshake was accepted: allow messages of full size."""
        self._stream.allow(self._max_message_bytes)

    def send(self, frame: Frame) -> None:
        """Send a frame, or queue it."""
        websocket = self._websocket
        if websocket is None or websocket.closed:
            return
        agreement = self._agreement
        self._outbox.push(
            frame_bytes(frame) if agreement is None else deflated_frame_bytes(frame, agreement.compression)
        )
        if self._outbox.buffered_bytes > self._max_buffered_bytes and self._receiver is not None:
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

    async def close(self, code: int, reason: str) -> None:
        """Close handshake, with a deadline; then the socket is closed whatever the peer does."""
        self._stream.begin_close()
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            if self._websocket is not None:
                await self._websocket.aclose(code, reason.encode()[:123].decode(errors="ignore"))
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_TIMEOUT_S):
            await self._stream.aclose()
