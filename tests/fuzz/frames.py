"""WebSocket frames as they come from a socket, compressed messages, and what a client says it could do with them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache
from random import Random

from kora_daemon.server.deflate import Compression, agree, deflate, inflate
from kora_daemon.server.framing import BINARY, TEXT, FrameError, FrameParser, close_frame, header, unmask
from kora_daemon.wire.frame import Frame
from tests.fuzz import seeds
from tests.fuzz.mutation import MAX_BYTES, mutated_bytes, mutated_json
from tests.fuzz.target import Disagreement, Target, same

_LIMITS = (1, 125, 1_000, 65_536, 1 << 20, 4 << 20)
_EXPANSIONS = (1, 32, 1_032)
_FREE_BYTES = 65_536
_MASK = b"\x37\xfa\x21\x3d"


def run_frames(data: bytes) -> None:
    """The first byte says what the parser is set to, the rest is what comes. In pieces it comes to the same."""
    options, stream = data[:1] or b"\0", data[1:]
    whole = _heard(options[0], [stream])
    for size in (1, 7) if len(stream) < 4_096 else (4_093,):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        same(_heard(options[0], pieces), whole, f"what is heard in pieces of {size}")


def _heard(options: int, pieces: list[bytes]) -> list[object]:
    """The messages and control frames, and with what code it ended."""
    parser = FrameParser(_LIMITS[options % len(_LIMITS)])
    parser.inflates = options & 64 > 0
    parser.expansion = _EXPANSIONS[options // len(_LIMITS) % len(_EXPANSIONS)]
    heard: list[object] = []
    for piece in pieces:
        parser.feed(piece)
        try:
            while (message := parser.next()) is not None:
                _check(message, parser.limit_bytes)
                heard.append(message)
        except FrameError as error:
            close_frame(error.code, error.reason)
            return [*heard, (error.code, error.reason)]
    return heard


def _check(message: Frame | bytes, limit_bytes: int) -> None:
    if isinstance(message, bytes):
        if len(message) > 2 + 4 + 125:
            raise Disagreement("a control frame that is too long")
        return
    if len(message.payload) > limit_bytes:
        raise Disagreement("a message that is longer than the limit")
    if not message.binary:
        message.payload.decode()


def run_inflate(data: bytes) -> None:
    """Data to inflate: never more than was asked for, and what was deflated comes back."""
    for most_bytes in (1, 1_000, 1 << 20):
        try:
            payload = inflate(data, most_bytes)
        except zlib.error:
            continue
        if len(payload) > most_bytes:
            raise Disagreement("more was inflated than was asked for")
    packed = deflate(data)
    if packed is not None:
        same(inflate(packed, len(data) + 1), data, "what was deflated")


def run_extensions(data: bytes) -> None:
    """The header that offers compression."""
    agreement = agree(data.decode("latin-1"), Compression())
    if agreement is not None and not agreement.answer.startswith("permessage-deflate; "):
        raise Disagreement(f"the answer {agreement.answer!r}")


def client_frame(first: int, payload: bytes, mask: bytes = _MASK) -> bytes:
    """A frame as a client sends it."""
    plain = header(first & 0x7F, len(payload))
    return bytes([first, plain[1] | 0x80]) + plain[2:] + mask + unmask(payload, mask)


def deflated(payload: bytes, level: int = 6) -> bytes:
    """A payload as a client compresses it."""
    packer = zlib.compressobj(level, wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@cache
def seeds_of_frames() -> list[bytes]:
    """Messages whole, in fragments and compressed, with control frames between."""
    made = []
    for text in seeds.messages()[:12]:
        third = len(text) // 3 + 1
        made.append(b"\x05" + client_frame(0x80 | TEXT, text))
        made.append(
            b"\x45"
            + client_frame(TEXT, text[:third])
            + client_frame(0x89, b"ping")
            + client_frame(0, text[third:-third])
            + client_frame(0x80, text[-third:])
            + client_frame(0x88, b"\x03\xe8")
        )
        made.append(b"\x45" + client_frame(0xC0 | TEXT, deflated(text)) + client_frame(0x8A, b""))
        packed = deflated(text)
        made.append(b"\x4b" + client_frame(0x40 | TEXT, packed[:20]) + client_frame(0x80, packed[20:]))
    made += [b"\x45" + client_frame(0x80 | BINARY, one) for one in seeds.binary_messages()]
    made.append(b"\x51" + client_frame(0xC0 | BINARY, deflated(b"\0" * 5_000_000)))
    return made


def _read(stream: bytes) -> Iterator[list[object]]:
    """First byte, second byte, payload of each frame, as far as they can be told apart."""
    at = 0
    while at + 6 <= len(stream):
        size, start = stream[at + 1] & 127, at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(stream[start : start + width], "big"), start + width
        mask = stream[start : start + 4]
        payload = stream[start + 4 : start + 4 + size]
        if len(mask) < 4:
            return
        yield [stream[at], mask, unmask(payload, mask)]
        at = start + 4 + size


def mutated_frames(data: bytes, random: Random) -> bytes:
    """Frames with other headers, lengths that lie, other payloads, in another order."""
    if random.random() < 0.25:
        return mutated_bytes(data, random)
    frames = list(_read(data[1:]))
    options = random.randrange(256) if random.random() < 0.3 else (data or b"\0")[0]
    for _ in range(random.choice([1, 1, 2, 3])):
        at = random.randrange(len(frames) + 1)
        match random.randrange(9):
            case 0:
                frames[at : at + 1] = []
            case 1 if at < len(frames):
                frames[at:at] = [list(frames[at])] * random.choice([1, 2, 30])
            case 2:
                frames[at:at] = [[random.randrange(256), _MASK, random.randbytes(random.choice([0, 2, 125, 126, 300]))]]
            case 3 if at < len(frames):
                frames[at][0] = random.choice([frames[at][0] ^ 1 << random.randrange(8), random.randrange(256)])
            case 4 if at < len(frames):
                frames[at][2] = deflated(bytes(frames[at][2]) * random.choice([1, 1, 50]), random.choice([0, 1, 9]))
            case 5 if at < len(frames):
                half = len(frames[at][2]) // 2
                first, mask, payload = frames[at]
                frames[at : at + 1] = [[first & 0x7F, mask, payload[:half]], [first & 0x80, mask, payload[half:]]]
            case 6 if at < len(frames):
                frames[at][2] = mutated_bytes(bytes(frames[at][2]), random)
            case _ if at < len(frames):
                frames[at][2] = mutated_json(bytes(frames[at][2]), random)
    return (bytes([options]) + b"".join(_written(frame, random) for frame in frames))[:MAX_BYTES]


def _written(frame: list[object], random: Random) -> bytes:
    first, mask, payload = frame
    text = bytearray(client_frame(first, payload, mask))
    if random.random() < 0.04:
        text[1] = random.choice([text[1] ^ 0x80, 0xFF, 0xFE, random.randrange(256)])
    if random.random() < 0.03 and text[1] == 0xFF:
        text[2:10] = random.choice([2**63, 2**62, 2**32, 0, 125]).to_bytes(8, "big")
    return bytes(text)


def _mutated_packed(data: bytes, random: Random) -> bytes:
    plain = random.random() < 0.5
    return mutated_bytes(data, random) if plain else deflated(mutated_bytes(data, random), random.choice([0, 1, 6, 9]))


def _seeds_of_packed() -> list[bytes]:
    texts = seeds.messages()
    return [*texts, *map(deflated, texts), deflated(b"\0" * 3_000_000), deflated(b"a") + b"\x00\x00\xff\xff" * 50]


def _seeds_of_offers() -> list[bytes]:
    return [
        b"permessage-deflate; client_max_window_bits",
        b'permessage-deflate; server_no_context_takeover; client_max_window_bits="15"; server_max_window_bits=15',
        b"x-webkit-deflate-frame, permessage-deflate;client_no_context_takeover , permessage-deflate",
    ]


def _mutated_offer(data: bytes, random: Random) -> bytes:
    words = [
        b";",
        b",",
        b"=",
        b'"',
        b"permessage-deflate",
        b"server_max_window_bits=15",
        b"client_max_window_bits",
        b"\t",
    ]
    return mutated_bytes(data, random, words)


TARGETS = [
    Target("frames", run_frames, seeds_of_frames, mutated_frames, share=32),
    Target("inflate", run_inflate, _seeds_of_packed, _mutated_packed, share=16),
    Target("extensions", run_extensions, _seeds_of_offers, _mutated_offer, share=8),
]
