"""A WebSocket from the upgrade on."""

from __future__ import annotations

import trio
from trio.testing import memory_stream_pair

from kora_daemon.server.lookout import Lookout
from kora_daemon.server.stream import FrameStream
from kora_daemon.server.websocket import WebSocketTransport


class Silent:
    """A receiver that has nothing to say."""

    def opened(self) -> None: ...


async def test_who_is_gone_before_the_upgrade_is_answered_is_no_crash() -> None:
    peer, ours = memory_stream_pair()
    await peer.aclose()
    transport = WebSocketTransport(FrameStream(ours, b"", 1_000, Lookout()), b"dGhlIHNhbXBsZSBub25jZQ==", 1_000, 1_000)
    async with trio.open_nursery() as nursery:
        await transport.serve(Silent(), nursery)  # type: ignore[arg-type]
        nursery.cancel_scope.cancel()
