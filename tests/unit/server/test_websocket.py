"""A WebSocket from the upgrade on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock, memory_stream_pair

from kora_daemon.server.lookout import Lookout
from kora_daemon.server.stream import CONTROL_FRAMES_PER_S, FrameStream
from kora_daemon.server.websocket import WebSocketTransport


class Silent:
    """A receiver that has nothing to say."""

    is_ready = True

    def opened(self) -> None: ...


async def test_who_is_gone_before_the_upgrade_is_answered_is_no_crash() -> None:
    peer, ours = memory_stream_pair()
    await peer.aclose()
    transport = WebSocketTransport(FrameStream(ours, b"", 1_000, Lookout()), b"dGhlIHNhbXBsZSBub25jZQ==", 1_000, 1_000)
    async with trio.open_nursery() as nursery:
        await transport.serve(Silent(), nursery)  # type: ignore[arg-type]
        nursery.cancel_scope.cancel()


class Peer:
    """The other end of a transport that is served; `is_over` once that has ended."""

    def __init__(self) -> None:
        self.stream, ours = memory_stream_pair()
        self.transport = WebSocketTransport(FrameStream(ours, b"", 1_000, Lookout()), b"key", 1_000, 1_000)
        self.is_over = trio.Event()

    async def serve(self, nursery: trio.Nursery) -> None:
        await self.transport.serve(Silent(), nursery)  # type: ignore[arg-type]
        self.is_over.set()

    async def reads(self) -> bytes:
        """What has come, once there is something."""
        return bytes(await self.stream.receive_some())


@asynccontextmanager
async def upgraded() -> AsyncIterator[Peer]:
    peer = Peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.serve, nursery)
        assert (await peer.reads()).startswith(b"HTTP/1.1 101 ")
        yield peer
        nursery.cancel_scope.cancel()


def masked(first: int, payload: bytes) -> bytes:
    return bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload


async def test_a_ping_is_answered() -> None:
    async with upgraded() as peer:
        for payload in (b"one", b"two"):
            await peer.stream.send_all(masked(0x89, payload))
            assert await peer.reads() == b"\x8a\x03" + payload


async def test_pongs_mean_nothing_but_that_somebody_is_there(autojump_clock: MockClock) -> None:
    async with upgraded() as peer:
        begun_at = trio.current_time()
        for number in range(CONTROL_FRAMES_PER_S):
            await peer.stream.send_all(masked(0x8A, b"") + masked(0x8A, bytes((number,))))
        await peer.stream.send_all(masked(0x89, b"one"))
        assert await peer.reads() == b"\x8a\x03one"
        assert trio.current_time() >= begun_at + 1.8  # a flood of them is read slowly


async def test_a_close_of_the_peer_is_answered() -> None:
    async with upgraded() as peer:
        await peer.stream.send_all(masked(0x88, b"\x03\xe8"))
        assert await peer.reads() == b"\x88\x02\x03\xe8"


async def test_a_close_of_ours_is_over_when_the_peer_closes_too(autojump_clock: MockClock) -> None:
    begun_at = trio.current_time()
    async with upgraded() as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.transport.close, 1001, "going")
        assert await peer.reads() == b"\x88\x07\x03\xe9going"
        await peer.stream.send_all(masked(0x88, b"\x03\xe9"))
        await peer.is_over.wait()
    assert trio.current_time() == begun_at


async def test_who_goes_without_a_word_is_not_waited_for(autojump_clock: MockClock) -> None:
    begun_at = trio.current_time()
    async with upgraded() as peer:
        await peer.stream.aclose()
        await peer.is_over.wait()
        await peer.transport.close(1001, "going")
    assert trio.current_time() == begun_at


async def test_nor_who_does_so_while_we_close(autojump_clock: MockClock) -> None:
    begun_at = trio.current_time()
    async with upgraded() as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.transport.close, 1001, "going")
        assert await peer.reads() == b"\x88\x07\x03\xe9going"
        await peer.stream.aclose()
        await peer.is_over.wait()
    assert trio.current_time() == begun_at


async def test_who_breaks_the_rules_hears_why_while_we_close(autojump_clock: MockClock) -> None:
    async with upgraded() as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.transport.close, 1001, "going")
        assert await peer.reads() == b"\x88\x07\x03\xe9going"
        await peer.stream.send_all(b"\x81\x01x")  # not masked
        assert (await peer.reads()).startswith(b"\x88")
        await peer.is_over.wait()
        assert peer.transport.own_close is not None
