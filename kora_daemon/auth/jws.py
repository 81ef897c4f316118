"""The text of a compact JWS: three segments of base64url, two of them JSON. Nothing in here knows a key."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any, NoReturn, TypeGuard

from msgspec import Struct

from kora_daemon.auth.contract import MAX_TOKEN_LENGTH

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_UTF8_MARK = b"\xef\xbb\xbf"


class Refused(Exception):
    """A bad token. The reason is a label for the log, never for the client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Segments(Struct, frozen=True):
    """The three parts of a token, still as they came."""

    header: str
    payload: str
    signature: str

    @property
    def signed(self) -> bytes:
        """What the signature is made over."""
        return f"{self.header}.{self.payload}".encode("utf-8", "surrogatepass")


def split_token(token: str) -> Segments:
    """The segments of a token. Raises Refused."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise Refused("malformed")
    segments = token.split(".")
    if len(segments) != 3:
        raise Refused("malformed")
    return Segments(*segments)


def decode_segment(segment: str) -> bytes:
    """The bytes of a segment: without padding, and written in the one way there is. Raises ValueError."""
    if not _BASE64URL.fullmatch(segment):
        raise ValueError("not base64url")
    try:
        content = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if encode_segment(content) != segment:
        raise ValueError("not the usual base64url of its bytes")
    return content


def encode_segment(content: bytes) -> str:
    """A segment, without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def decode_object(segment: str) -> dict[str, Any]:
    """The JSON object in a segment: strict, no byte order mark, the last of repeated keys counts. Raises ValueError."""
    content = decode_segment(segment)
    if content.startswith(_UTF8_MARK):
        raise ValueError("begins with a byte order mark")
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def encode_object(value: dict[str, Any]) -> str:
    """A segment as JSON.stringify and Buffer write it."""
    return encode_segment(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number that one can calculate with; Python's True is an int, JSON's is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
