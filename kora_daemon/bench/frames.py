"""WebSocket frames as a client sends and hears them (RFC 6455 section 5), as fast as Python goes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from kora_daemon.server.framing import TEXT, header, unmask

CLOSE, PING, PONG = 0x8, 0x9, 0xA
_FIN, _MASKED = 0x80, 0x80
_KEY = os.urandom(4)
"""One for all frames of this process: they are made once and sent by many clients."""


def masked_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A whole message in one frame, masked as a client's frames have to be."""
    head = bytearray(header(opcode, len(payload)))
    head[1] |= _MASKED
    return bytes(head) + _KEY + unmask(payload, _KEY)


class BrokenFrame(Exception):
    """A frame that no server may send."""


class FrameReader:
    """Takes bytes in pieces of any size; gives the messages and control frames of a server: opcode and payload."""

    def __init__(self) -> None:
        self._rest = b""
        self._fragments = b""
        self._kind = TEXT

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """What is whole by now. Raises BrokenFrame; nothing can be read after that."""
        if self._rest:
            data = self._rest + data
        start, size = 0, len(data)
        while size - start >= 2:
            first, length = data[start], data[start + 1]
            at = start + 2
            if length > 125:
                if length > 127:
                    raise BrokenFrame("a server's frames are not masked")
                at += 2 if length == 126 else 8
                if at > size:
                    break
                length = int.from_bytes(data[start + 2 : at], "big")
            end = at + length
            if end > size:
                break
            start = end
            opcode = first & 0x0F
            if first >> 4 == 0x8 and opcode:
                yield opcode, data[at:end]
            else:
                yield from self._fragment(first, data[at:end])
        self._rest = data[start:]

    def _fragment(self, first: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
        if first & 0x70:
            raise BrokenFrame("reserved bits are set, and no extension was agreed on")
        if first & 0x0F:
            self._kind, self._fragments = first & 0x0F, b""
        self._fragments += payload
        if first & _FIN:
            yield self._kind, self._fragments
