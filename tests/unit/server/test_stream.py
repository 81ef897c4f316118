"""Our stream under trio-websocket: how fast it reads peers that send compressed messages."""

from __future__ import annotations

import zlib

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from kora_daemon.server.framing import BINARY, header
from kora_daemon.server.lookout import Lookout
from kora_daemon.server.stream import CONTROL_FRAMES_PER_S, INFLATED_BYTES_PER_S, FrameStream, Outbox
from kora_daemon.wire.frame import Frame

CLOSE = b"\x88\x80" + bytes(4)


class Heard:
    """A receiver that is always ready."""

    is_ready = True

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def ready(self) -> None: ...

    def receive(self, frame: Frame) -> None:
        self.sizes.append(len(frame.payload))


def message(size: int, *, compressed: bool) -> bytes:
    """A client's frame whose payload is `size` bytes in the end."""
    payload, bits = bytes(size), 0
    if compressed:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        payload, bits = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4], 0x40
    first, second, *length = header(bits | BINARY, len(payload))
    return bytes([first, second | 0x80, *length]) + bytes(4) + payload


async def heard(*frames: bytes, trusted: bool = True) -> tuple[list[int], bytes]:
    """The sizes of what is handed in, and the control frame behind it."""
    client, ours = memory_stream_pair()
    stream, receiver = FrameStream(ours, b"", 4 << 20, Lookout()), Heard()
    stream.inflate()
    if trusted:
        stream.allow(32 << 20)
    stream.receiver = receiver  # type: ignore[assignment]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"".join(frames) + CLOSE)
        control = await stream.receive_some()
        nursery.cancel_scope.cancel()
    return receiver.sizes, control


async def test_what_has_to_be_inflated_is_read_at_a_limited_speed(autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    size = 8 << 20
    assert await heard(*[message(size, compressed=True)] * 4) == ([size] * 4, CLOSE)
    assert trio.current_time() - begin == pytest.approx(4 * size / INFLATED_BYTES_PER_S)


async def test_many_small_ones_count_together(autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    sizes, _ = await heard(*[message(60_000, compressed=True)] * 100)
    assert sizes == [60_000] * 100
    assert trio.current_time() - begin == pytest.approx(6_000_000 / INFLATED_BYTES_PER_S, rel=0.2)


async def test_what_came_as_it_is_is_read_as_fast_as_it_comes(autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    sizes, _ = await heard(*[message(4 << 20, compressed=False)] * 4, message(60_000, compressed=True))
    assert sizes == [4 << 20] * 4 + [60_000]
    assert trio.current_time() == begin


async def test_a_stranger_may_not_send_what_is_much_larger_than_it_looks() -> None:
    assert await heard(message(60_000, compressed=True), trusted=False) == ([60_000], CLOSE)
    assert await heard(message(70_000, compressed=True), trusted=False) == ([], b"")
    assert await heard(message(4 << 20, compressed=False), trusted=False) == ([4 << 20], CLOSE)


async def test_many_pings_are_read_at_a_limited_speed(autojump_clock: MockClock) -> None:
    client, ours = memory_stream_pair()
    stream = FrameStream(ours, b"", 4 << 20, Lookout())
    stream.receiver = Heard()  # type: ignore[assignment]
    await client.send_all(b"\x89\x80\0\0\0\0" * 300)
    begin = trio.current_time()
    for _ in range(300):
        assert await stream.receive_some() == b"\x89\x80\0\0\0\0"
    assert trio.current_time() - begin == pytest.approx(300 / CONTROL_FRAMES_PER_S, rel=0.1)


async def test_a_ping_now_and_then_waits_for_nothing(autojump_clock: MockClock) -> None:
    client, ours = memory_stream_pair()
    stream = FrameStream(ours, b"", 4 << 20, Lookout())
    stream.receiver = Heard()  # type: ignore[assignment]
    for _ in range(100):
        await trio.sleep(1)
        sent_at = trio.current_time()
        await client.send_all(b"\x89\x80\0\0\0\0")
        assert await stream.receive_some() == b"\x89\x80\0\0\0\0"
        assert trio.current_time() == sent_at


async def test_whoever_sends_many_messages_at_once_lets_others_have_their_turn() -> None:
    client, ours = memory_stream_pair()
    stream, receiver = FrameStream(ours, b"", 4 << 20, Lookout()), Heard()
    stream.receiver = receiver  # type: ignore[assignment]
    await client.send_all(message(1, compressed=False) * 1_000 + CLOSE)
    turns: list[int] = []

    async def watch() -> None:
        while True:
            turns.append(len(receiver.sizes))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await stream.receive_some()
        nursery.cancel_scope.cancel()
    assert len(receiver.sizes) == 1_000
    assert max(b - a for a, b in zip([0, *turns], [*turns, 1_000], strict=True)) <= 130


async def test_the_frame_that_is_on_its_way_is_none_of_those_that_wait() -> None:
    peer, ours = memory_stream_pair()
    outbox = Outbox(ours)
    async with trio.open_nursery() as outbox.nursery:
        assert outbox.waiting_bytes == 0
        for size in (1_000, 10, 5):
            outbox.push(bytes(size))
        assert (outbox.buffered_bytes, outbox.waiting_bytes) == (1_015, 15)
        await outbox.flush()
        assert (outbox.buffered_bytes, outbox.waiting_bytes) == (0, 0)
    await peer.aclose()
