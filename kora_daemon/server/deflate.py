"""permessage-deflate (RFC 7692): what a client and we agree on, and messages in and out.

Neither side remembers anything between messages ("no context takeover"). So a shared frame has one compressed form,
made once for all its peers, and a connection costs no window.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable

from isal import isal_zlib
from msgspec import Struct

_NAME = "permessage-deflate"
_ANSWER = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
_RAW = -15
"""Deflate without a header, with a window of 2^15 bytes."""
_TAIL = b"\x00\x00\xff\xff"
"""What every flush ends with and is left out on the wire (section 7.2.1)."""
_PADDED_ENDS = (_TAIL, b"\x00" + _TAIL)
_LEGAL: dict[str, Collection[str | None]] = {
    "server_no_context_takeover": (None,),
    "client_no_context_takeover": (None,),
    # Only says what the client could do with; whatever window it uses, ours holds it.
    "client_max_window_bits": (None, *map(str, range(8, 16))),
    # Less would be legal: it is declined, as another form of every shared frame.
    "server_max_window_bits": ("15",),
}
_LEVEL = 1
"""ISA-L's: 0 is half the price for 50 % more bytes, 3 three times the price for 2 % fewer."""
_MOST_BYTES = 1 << 20
"""Batches are smaller; whatever is not (parts of blobs) would hold up everybody else for several milliseconds."""


class Compression(Struct, frozen=True):
    """What to compress: messages of `min_bytes` and more."""

    min_bytes: int = 1_024


class Agreement(Struct, frozen=True):
    """`answer` is the value of the response's `Sec-WebSocket-Extensions`."""

    answer: str
    compression: Compression


def agree(offers: str, compression: Compression) -> Agreement | None:
    """Take the first acceptable one of the offers in a request's `Sec-WebSocket-Extensions`; None without one.

    An offer with a parameter that is unknown, repeated or out of range is declined (section 7.1).
    """
    for offer in offers.split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name == _NAME and (answer := _answer(parameters)) is not None:
            return Agreement(answer, compression)
    return None


def _answer(parameters: Iterable[str]) -> str | None:
    found: dict[str, str | None] = {}
    for parameter in parameters:
        name, equals, text = (part.strip() for part in parameter.partition("="))
        value = _unquoted(text) if equals else None
        if name in found or value not in _LEGAL.get(name, ()):
            return None
        found[name] = value
    return f"{_ANSWER}; server_max_window_bits=15" if "server_max_window_bits" in found else _ANSWER


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def deflate(payload: bytes) -> bytes | None:
    """The payload of a compressed frame; None where compression does not pay."""
    if len(payload) > _MOST_BYTES:
        return None
    deflater = isal_zlib.compressobj(_LEVEL, wbits=_RAW)
    data = (deflater.compress(payload) + deflater.flush(isal_zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]
    return data if len(data) < len(payload) else None


def inflate(data: bytes, most_bytes: int) -> bytes:
    """What was deflated, cut after `most_bytes` (at least 1); nothing beyond is worked out. Raises zlib.error."""
    inflater = zlib.decompressobj(_RAW)
    payload = inflater.decompress(data + _TAIL, most_bytes)
    if inflater.eof and inflater.unused_data not in _PADDED_ENDS:
        # Any number of streams in one message is any number of inflaters: none of the known clients does that.
        raise zlib.error("there is something behind the final block")
    return payload
