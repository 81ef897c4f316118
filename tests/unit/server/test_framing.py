"""WebSocket frames of a client: whole messages out of pieces of any size, and every breach has its close code."""

from __future__ import annotations

import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora_daemon.server.deflate import Compression
from kora_daemon.server.framing import (
    BINARY,
    CONTINUATION,
    MOST_SMALL_FRAGMENTS,
    TEXT,
    FrameError,
    FrameParser,
    close_frame,
    deflated_frame_bytes,
    frame_bytes,
    header,
    unmask,
)
from kora_daemon.wire.frame import Frame

CLOSE, PING, PONG = 0x8, 0x9, 0xA
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
MASK = b"\x37\xfa\x21\x3d"


def masked(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0, mask: bytes = MASK) -> bytes:
    """A client's frame."""
    first, second, *length = header(opcode, len(payload))
    if not fin:
        first &= 0x7F
    return bytes([first | reserved, second | 0x80, *length]) + mask + unmask(payload, mask)


def received(*pieces: bytes, limit_bytes: int = 1 << 20, inflates: bool = False) -> list[Frame | bytes]:
    """What comes out of a parser that is fed these pieces; asked for more after each of them."""
    parser = FrameParser(limit_bytes)
    parser.inflates = inflates
    messages: list[Frame | bytes] = []
    for piece in pieces:
        parser.feed(piece)
        while (message := parser.next()) is not None:
            messages.append(message)
    return messages


def refused(*pieces: bytes, limit_bytes: int = 1 << 20, inflates: bool = False) -> int:
    """The close code that the pieces provoke."""
    with pytest.raises(FrameError) as caught:
        received(*pieces, limit_bytes=limit_bytes, inflates=inflates)
    assert caught.value.reason
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_message_of_any_size_is_unmasked(size: int) -> None:
    payload = os.urandom(size)
    [frame] = received(masked(BINARY, payload))
    assert frame == Frame(payload, binary=True)


def test_text_and_binary_are_told_apart() -> None:
    assert received(masked(TEXT, "ü".encode()), masked(BINARY, b"\xff")) == [
        Frame("ü".encode()),
        Frame(b"\xff", binary=True),
    ]


def test_several_messages_may_come_at_once() -> None:
    assert received(masked(TEXT, b"a") + masked(TEXT, b"b") + masked(TEXT, b"c")[:-1]) == [Frame(b"a"), Frame(b"b")]


def test_fragments_become_one_message() -> None:
    first, middle, last = "grün".encode()[:3], "grün".encode()[3:], b""
    pieces = (
        masked(TEXT, first, fin=False),
        masked(CONTINUATION, middle, fin=False),
        masked(CONTINUATION, last),
    )
    assert received(*pieces) == [Frame("grün".encode())]


def test_a_ping_between_two_fragments_comes_out_as_it_came() -> None:
    ping = masked(PING, b"hello")
    pieces = (masked(BINARY, b"ab", fin=False), ping, masked(CONTINUATION, b"cd"))
    assert received(*pieces) == [ping, Frame(b"abcd", binary=True)]


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8" + b"x" * 123])
def test_control_frames_come_out_as_they_came(opcode: int, payload: bytes) -> None:
    frame = masked(opcode, payload)
    assert received(frame, masked(TEXT, b"x")) == [frame, Frame(b"x")]


@pytest.mark.parametrize(
    "frame",
    [
        header(TEXT, 1) + b"x",
        masked(TEXT, b"x", reserved=0x40),
        masked(TEXT, b"x", reserved=0x20),
        masked(TEXT, b"x", reserved=0x10),
        masked(CONTINUATION, b"x"),
        masked(CONTINUATION, b"x", fin=False),
        *(masked(opcode, b"x") for opcode in (0x3, 0x7, 0xB, 0xF)),
        masked(TEXT, b"x", fin=False) + masked(TEXT, b"y"),
        masked(TEXT, b"x", fin=False) + masked(BINARY, b"y"),
        masked(PING, b"x", fin=False),
        masked(PING, b"x" * 126),
        masked(CLOSE, b"x" * 70_000),
    ],
    ids=[
        "unmasked",
        "rsv1",
        "rsv2",
        "rsv3",
        "continuation of nothing",
        "open continuation of nothing",
        "opcode 3",
        "opcode 7",
        "opcode b",
        "opcode f",
        "text inside a fragmented message",
        "binary inside a fragmented message",
        "fragmented ping",
        "long ping",
        "long close",
    ],
)
def test_a_breach_of_the_protocol_is_1002(frame: bytes) -> None:
    assert refused(frame) == 1002


def test_text_that_is_no_utf8_is_1007() -> None:
    assert refused(masked(TEXT, b"\xff")) == 1007
    assert refused(masked(TEXT, "\ud800".encode("utf-8", "surrogatepass"))) == 1007
    assert refused(masked(TEXT, "ü".encode()[:1], fin=False), masked(CONTINUATION, b"")) == 1007


def test_a_character_may_be_split_between_fragments() -> None:
    assert received(masked(TEXT, b"\xc3", fin=False), masked(CONTINUATION, b"\xbc")) == [Frame(b"\xc3\xbc")]


class TestLimits:
    """A message that is too big is refused by its header, before it is there."""

    def test_exactly_the_limit_is_fine(self) -> None:
        assert received(masked(BINARY, b"x" * 100), limit_bytes=100) == [Frame(b"x" * 100, binary=True)]

    @pytest.mark.parametrize("size", [101, 126, 65_536, 1 << 40, (1 << 63) + 1])
    def test_a_header_that_announces_more_is_1009(self, size: int) -> None:
        first, second, *length = header(BINARY, size)
        assert refused(bytes([first, second | 0x80, *length]), limit_bytes=100) == 1009

    def test_fragments_count_together(self) -> None:
        first, second = masked(BINARY, b"x" * 60, fin=False), masked(CONTINUATION, b"x" * 41)
        assert refused(first, second[:2], limit_bytes=100) == 1009
        assert received(first, masked(CONTINUATION, b"x" * 40), limit_bytes=100) == [Frame(b"x" * 100, binary=True)]

    def test_a_control_frame_is_no_part_of_a_message(self) -> None:
        ping = masked(PING, b"x" * 125)
        assert received(masked(TEXT, b"x", fin=False), ping, limit_bytes=1) == [ping]

    def test_the_limit_may_be_raised_between_messages(self) -> None:
        parser = FrameParser(1)
        parser.feed(masked(TEXT, b"a") + masked(TEXT, b"bc"))
        assert parser.next() == Frame(b"a")
        parser.limit_bytes = 2
        assert parser.next() == Frame(b"bc")


def deflated(payload: bytes) -> bytes:
    """The payload as zlib compresses it, without what ends a flush."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


class TestCompressed:
    """Messages with the first reserved bit, between peers that have agreed on it."""

    def test_compressed_and_plain_messages_may_alternate(self) -> None:
        pieces = (
            masked(TEXT, deflated("grün".encode()), reserved=RSV1),
            masked(TEXT, b"plain"),
            masked(BINARY, deflated(b"\xff" * 1_000), reserved=RSV1),
            masked(TEXT, deflated(b""), reserved=RSV1),
        )
        assert received(*pieces, inflates=True) == [
            Frame("grün".encode()),
            Frame(b"plain"),
            Frame(b"\xff" * 1_000, binary=True),
            Frame(b""),
        ]

    def test_only_the_first_fragment_says_so(self) -> None:
        data = deflated(b"Hello, Hello")
        pieces = [masked(TEXT, data[:1], fin=False, reserved=RSV1)]
        pieces += [masked(CONTINUATION, data[index : index + 1], fin=False) for index in range(1, len(data))]
        pieces += [masked(PING, b"here"), masked(CONTINUATION, b"")]
        assert received(*pieces, inflates=True) == [pieces[-2], Frame(b"Hello, Hello")]

    @pytest.mark.parametrize(
        "frame",
        [
            masked(TEXT, b"x", fin=False) + masked(CONTINUATION, b"x", reserved=RSV1),
            masked(TEXT, b"x", fin=False, reserved=RSV1) + masked(CONTINUATION, b"x", reserved=RSV1),
            masked(CONTINUATION, b"x", reserved=RSV1),
            *(masked(opcode, b"x", reserved=RSV1) for opcode in (CLOSE, PING, PONG)),
            *(masked(opcode, b"x", reserved=RSV1) for opcode in (0x3, 0x7, 0xB, 0xF)),
            *(masked(TEXT, b"x", reserved=bits) for bits in (RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV3)),
        ],
    )
    def test_any_other_reserved_bit_is_1002(self, frame: bytes) -> None:
        assert refused(frame, inflates=True) == 1002

    def test_without_an_agreement_it_is_1002(self) -> None:
        assert refused(masked(TEXT, deflated(b"x"), reserved=RSV1)) == 1002

    def test_garbage_is_1007(self) -> None:
        assert refused(masked(BINARY, b"\xff" * 20, reserved=RSV1), inflates=True) == 1007

    def test_text_is_utf8_when_inflated(self) -> None:
        assert refused(masked(TEXT, deflated(b"\xff"), reserved=RSV1), inflates=True) == 1007

    @pytest.mark.parametrize(("size", "code"), [(1_000, None), (1_001, 1009), (1 << 24, 1009)])
    def test_the_limit_holds_for_what_is_inflated(self, size: int, code: int | None) -> None:
        frame = masked(BINARY, deflated(b"x" * size), reserved=RSV1)
        if code is None:
            assert received(frame, limit_bytes=1_000, inflates=True) == [Frame(b"x" * size, binary=True)]
        else:
            assert refused(frame, limit_bytes=20_000 if size > 20_000 else 1_000, inflates=True) == code

    @pytest.mark.parametrize(("size", "code"), [(65_536, None), (65_537, 1009)])
    def test_a_small_message_may_be_inflated_to_64_kib_whatever_the_expansion(
        self, size: int, code: int | None
    ) -> None:
        parser = FrameParser(1 << 20)
        parser.inflates, parser.expansion = True, 2
        parser.feed(masked(BINARY, deflated(b"x" * size), reserved=RSV1))
        if code is None:
            assert parser.next() == Frame(b"x" * size, binary=True)
        else:
            with pytest.raises(FrameError) as caught:
                parser.next()
            assert caught.value.code == code

    def test_a_larger_one_may_expand_so_many_times(self) -> None:
        parser = FrameParser(1 << 20)
        parser.inflates = True
        payload = os.urandom(50_000).hex().encode()  # which is half as long when it is compressed
        parser.expansion = 3
        parser.feed(masked(BINARY, deflated(payload), reserved=RSV1) * 2)
        assert parser.next() == Frame(payload, binary=True)
        parser.expansion = 1
        with pytest.raises(FrameError, match="at most"):
            parser.next()

    def test_what_is_inflated_is_counted(self) -> None:
        parser = FrameParser(1 << 20)
        parser.inflates = True
        parser.feed(masked(BINARY, deflated(b"x" * 500), reserved=RSV1) + masked(BINARY, b"x" * 70))
        assert (parser.next(), parser.next()) == (Frame(b"x" * 500, binary=True), Frame(b"x" * 70, binary=True))
        assert parser.inflated_bytes == 500

    def test_the_limit_holds_for_what_comes_in(self) -> None:
        first = masked(BINARY, bytes(60), fin=False, reserved=RSV1)
        assert refused(first, masked(CONTINUATION, bytes(41))[:2], limit_bytes=100, inflates=True) == 1009


@st.composite
def conversations(draw: st.DrawFn, *, may_deflate: bool = False) -> tuple[bytes, list[Frame | bytes]]:
    """A stream of frames, and the messages in it."""
    stream, messages = b"", list[Frame | bytes]()
    for whole in draw(st.lists(st.binary(max_size=300), max_size=5)):
        compressed = may_deflate and draw(st.booleans())
        payload = deflated(whole) if compressed else whole
        mask = draw(st.binary(min_size=4, max_size=4))
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        parts = [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for index, part in enumerate(parts):
            fin = index == len(parts) - 1
            opcode, reserved = (CONTINUATION, 0) if index else (BINARY, RSV1 if compressed else 0)
            stream += masked(opcode, part, fin=fin, reserved=reserved, mask=mask)
            if not fin and draw(st.booleans()):
                ping = masked(PING, part[:125], mask=mask)
                stream += ping
                messages.append(ping)
        messages.append(Frame(whole, binary=True))
    return stream, messages


@given(conversations(may_deflate=True), st.lists(st.integers(1, 50), max_size=40))
def test_how_the_bytes_are_cut_makes_no_difference(
    conversation: tuple[bytes, list[Frame | bytes]], sizes: list[int]
) -> None:
    stream, messages = conversation
    pieces, position = [], 0
    for size in sizes:
        pieces.append(stream[position : position + size])
        position += size
    assert received(stream, inflates=True) == messages
    assert received(*pieces, stream[position:], inflates=True) == messages
    assert received(*(stream[index : index + 1] for index in range(len(stream))), inflates=True) == messages


@given(st.binary(max_size=200), st.booleans())
def test_noise_is_refused_or_waited_for(noise: bytes, inflates: bool) -> None:
    code = None
    try:
        received(noise, limit_bytes=1_000, inflates=inflates)
    except FrameError as error:
        code = error.code
    assert code in (None, 1002, 1007, 1009)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_of_ours_is_read_by_any_parser(size: int) -> None:
    payload = b"x" * size
    wire = frame_bytes(Frame(payload))
    head = header(TEXT, size)
    assert wire == head + payload
    assert received(bytes([head[0], head[1] | 0x80]) + head[2:] + bytes(4) + payload) == [Frame(payload)]


def test_the_bytes_of_a_shared_frame_are_made_once() -> None:
    frame = Frame(b"x")
    assert frame_bytes(frame) is frame_bytes(frame)
    assert frame_bytes(Frame(b"x", binary=True))[0] == 0x82


TEXT_OF_2000 = b'{"n":1234},' * 182


def test_a_compressed_frame_is_what_a_peer_inflates() -> None:
    [first, *rest] = deflated_frame_bytes(Frame(TEXT_OF_2000), Compression())
    assert first == 0x80 | RSV1 | TEXT
    size = rest[0]
    assert size == len(rest) - 1 < 126
    assert received(masked(TEXT, bytes(rest[1:]), reserved=RSV1), inflates=True) == [Frame(TEXT_OF_2000)]
    assert deflated_frame_bytes(Frame(TEXT_OF_2000, binary=True), Compression())[0] == 0x80 | RSV1 | BINARY


def test_a_shared_frame_is_compressed_once_and_still_there_for_peers_that_do_not_inflate() -> None:
    frame = Frame(TEXT_OF_2000)
    compressed, plain = deflated_frame_bytes(frame, Compression()), frame_bytes(frame)
    assert deflated_frame_bytes(frame, Compression()) is compressed
    assert frame_bytes(frame) is plain
    assert plain == header(TEXT, len(TEXT_OF_2000)) + TEXT_OF_2000
    assert len(compressed) < len(plain)


@pytest.mark.parametrize(("size", "is_compressed"), [(1_023, False), (1_024, True)])
def test_small_frames_are_sent_as_they_are(size: int, is_compressed: bool) -> None:
    frame = Frame(TEXT_OF_2000[:size])
    assert (deflated_frame_bytes(frame, Compression()) is not frame_bytes(frame)) == is_compressed
    assert deflated_frame_bytes(frame, Compression(min_bytes=5_000)) is frame_bytes(frame)


def test_a_frame_that_does_not_shrink_has_one_form() -> None:
    frame = Frame(os.urandom(2_000), binary=True)
    assert deflated_frame_bytes(frame, Compression()) is frame_bytes(frame)
    assert deflated_frame_bytes(frame, Compression()) is frame_bytes(frame)


@pytest.mark.parametrize(("reason", "kept"), [("", ""), ("a" * 200, "a" * 123), ("ü" * 62, "ü" * 61)])
def test_a_close_reason_is_cut_to_what_is_legal(reason: str, kept: str) -> None:
    frame = close_frame(4002, reason)
    assert frame[:2] == bytes([0x88, 2 + len(kept.encode())])
    assert frame[2:] == (4002).to_bytes(2, "big") + kept.encode()


@pytest.mark.parametrize("size", [0, 1, 1_023])
def test_a_message_in_very_many_small_frames_is_refused(size: int) -> None:
    pieces = [masked(TEXT, b"", fin=False), *[masked(CONTINUATION, b"x" * size, fin=False)] * MOST_SMALL_FRAGMENTS]
    assert refused(b"".join(pieces), limit_bytes=8 << 20) == 1008


def test_a_message_may_come_in_many_frames_that_are_not_small() -> None:
    pieces = [*[masked(CONTINUATION, b"x" * 1_024, fin=False)] * 2_000, masked(CONTINUATION, b"")]
    small = [masked(TEXT, b"", fin=False), *[masked(CONTINUATION, b"y", fin=False)] * 900]
    (message,) = received(b"".join(small + pieces), limit_bytes=8 << 20)
    assert isinstance(message, Frame)
    assert len(message.payload) == 900 + 2_000 * 1_024


@pytest.mark.parametrize("size", [b"\xfe\x00\x02", b"\xff\x00\x00\x00\x00\x00\x00\x00\x02"])
def test_the_length_of_a_control_frame_stands_in_seven_bits(size: bytes) -> None:
    parser = FrameParser(1_000)
    parser.feed(b"\x89" + size + b"\0\0\0\0hi")
    with pytest.raises(FrameError, match="illegal control frame"):
        parser.next()
