"""A WebSocket from the upgrade on."""

from __future__ import annotations

import trio
from trio.testing import memory_stream_pair

from kora_daemon.server.stream import FrameStream
from kora_daemon.server.websocket import WebSocketTransport

REQUEST = (
    b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


class Nobody:
    """A receiver that must not be told anything."""


async def test_who_is_gone_before_the_upgrade_is_answered_is_no_crash() -> None:
    peer, ours = memory_stream_pair()
    await peer.aclose()
    transport = WebSocketTransport(FrameStream(ours, REQUEST, b"", 1_000), 1_000, 1_000)
    async with trio.open_nursery() as nursery:
        await transport.serve(Nobody(), nursery)  # type: ignore[arg-type]
        nursery.cancel_scope.cancel()
