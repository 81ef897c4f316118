"""WebSocket frames of a client (RFC 6455 section 5), sans-io: whole data messages, and control frames as they came."""

from __future__ import annotations

import zlib

from kora_daemon.server.deflate import Compression, deflate, inflate
from kora_daemon.wire.frame import Frame

CONTINUATION, TEXT, BINARY = 0x0, 0x1, 0x2
_CONTROL = 0x8
_RESERVED = 0x70
_DEFLATED = 0x40
"""RSV1 of a message's first frame: the message is compressed."""
PING_FRAME = b"\x89\x00"

ANY_EXPANSION = 1_032
"""So many times its size is the most that deflate can bring forth."""
_FREE_BYTES = 65_536
"""A message may always be inflated to that much."""
_SMALL_BYTES = 1_024
MOST_SMALL_FRAGMENTS = 1_000
"""Frames of one message that are smaller than that: each costs as much as a message, and no client sends them."""

_PROTOCOL_ERROR = 1002
_BAD_PAYLOAD = 1007
_POLICY = 1008
_TOO_BIG = 1009
TRY_AGAIN = 1013


class FrameError(Exception):
    """The peer broke the WebSocket protocol or a limit; `code` is the close code that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def header(opcode: int, size_bytes: int) -> bytes:
    """Header of an unmasked, unfragmented frame; `opcode` may have reserved bits with it."""
    first = 0x80 | opcode
    if size_bytes < 126:
        return bytes((first, size_bytes))
    if size_bytes < 65_536:
        return bytes((first, 126)) + size_bytes.to_bytes(2, "big")
    return bytes((first, 127)) + size_bytes.to_bytes(8, "big")


def frame_bytes(frame: Frame) -> bytes:
    """The frame as it goes over the socket; made once for a shared frame."""
    wire = frame.wire
    if wire is None:
        wire = frame.wire = header(_opcode(frame), len(frame.payload)) + frame.payload
    return wire


def deflated_frame_bytes(frame: Frame, compression: Compression) -> bytes:
    """The same for a peer that inflates: compressed, once for a shared frame, where that pays."""
    if len(frame.payload) < compression.min_bytes:
        return frame_bytes(frame)
    wire = frame.deflated
    if wire is None:
        data = deflate(frame.payload)
        wire = frame_bytes(frame) if data is None else header(_DEFLATED | _opcode(frame), len(data)) + data
        frame.deflated = wire
    return wire


def _opcode(frame: Frame) -> int:
    return BINARY if frame.binary else TEXT


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut to the 123 bytes that fit."""
    payload = code.to_bytes(2, "big") + reason.encode()[:123].decode(errors="ignore").encode()
    return header(0x8, len(payload)) + payload


def unmask(payload: bytes | bytearray | memoryview, mask: bytes) -> bytes:
    """The payload of a client's frame, XOR its four-byte mask."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


class FrameParser:
    """Takes bytes in pieces of any size; gives messages. `limit_bytes` may be changed at any time.

    It holds for a message as it came and as it is inflated. `inflates` says whether messages may be compressed,
    `expansion` how many times larger than it came one may turn out to be, `inflated_bytes` counts what was inflated.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.inflates = False
        self.expansion = ANY_EXPANSION
        self.inflated_bytes = 0
        self._buffer = bytearray()
        self._start = 0
        self._fragments: bytearray | None = None
        self._fragments_kind = CONTINUATION
        self._small_fragments = 0

    @property
    def held_bytes(self) -> int:
        """What has come of messages that are not whole yet."""
        return len(self._buffer) - self._start + len(self._fragments or b"")

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add what came from the socket."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next(self) -> Frame | bytes | None:
        """A whole data message, the bytes of one control frame, or None when more has to come.

        Raises FrameError as soon as a header is illegal or announces too much; nothing can be read after that.
        """
        while (head := self._header()) is not None:
            first, mask_at, size = head
            kind, fin = first & (_DEFLATED | 0x0F), first & 0x80
            end = mask_at + 4 + size
            if len(self._buffer) < end:
                return None
            if kind & _CONTROL:
                control = bytes(self._buffer[self._start : end])
                self._start = end
                return control
            payload = unmask(self._buffer[mask_at + 4 : end], bytes(self._buffer[mask_at : mask_at + 4]))
            self._start = end
            if fin and self._fragments is None:
                return self._message(kind, payload)
            if self._fragments is None:
                self._fragments = bytearray()
                self._fragments_kind = kind
                self._small_fragments = 0
            self._fragments += payload
            self._small_fragments += size < _SMALL_BYTES
            if self._small_fragments > MOST_SMALL_FRAGMENTS:
                raise FrameError(_POLICY, "a message comes in fewer and larger frames")
            if fin:
                whole, self._fragments = bytes(self._fragments), None
                return self._message(self._fragments_kind, whole)
        return None

    def _header(self) -> tuple[int, int, int] | None:
        """(first byte, where the mask begins, payload size) of the frame at the start of the buffer."""
        buffer, start = self._buffer, self._start
        available = len(buffer) - start
        if available < 2:
            return None
        first, second = buffer[start], buffer[start + 1]
        size, offset = second & 0x7F, start + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if available < 2 + width:
                return None
            size = int.from_bytes(buffer[offset : offset + width], "big")
            offset += width
        self._check(first, second, size)
        return first, offset, size

    def _check(self, first: int, second: int, size: int) -> None:
        opcode = first & 0x0F
        if first & _RESERVED and not (self.inflates and first & _RESERVED == _DEFLATED and opcode in (TEXT, BINARY)):
            raise FrameError(_PROTOCOL_ERROR, "reserved bits are set")
        if not second & 0x80:
            raise FrameError(_PROTOCOL_ERROR, "a client's frames are masked")
        if opcode >= _CONTROL:
            if opcode > 0xA or second & 0x7F > 125 or not first & 0x80:
                raise FrameError(_PROTOCOL_ERROR, "illegal control frame")
            return
        if opcode > BINARY or (opcode == CONTINUATION) != (self._fragments is not None):
            raise FrameError(_PROTOCOL_ERROR, "illegal data frame")
        if size + len(self._fragments or b"") > self.limit_bytes:
            raise _too_big(self.limit_bytes)

    def _message(self, kind: int, payload: bytes) -> Frame:
        if kind & _DEFLATED:
            payload = self._inflated(payload)
        if kind & BINARY:
            return Frame(payload, binary=True)
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise FrameError(_BAD_PAYLOAD, "a text message is UTF-8") from error
        return Frame(payload)

    def _inflated(self, data: bytes) -> bytes:
        most_bytes = min(self.limit_bytes, max(_FREE_BYTES, self.expansion * len(data)))
        try:
            payload = inflate(data, most_bytes + 1)
        except zlib.error as error:
            raise FrameError(_BAD_PAYLOAD, "a compressed message is deflate data") from error
        if len(payload) > most_bytes:
            raise _too_big(most_bytes)
        self.inflated_bytes += len(payload)
        return payload


def _too_big(most_bytes: int) -> FrameError:
    return FrameError(_TOO_BIG, f"a message has at most {most_bytes} bytes")
