"""JSON texts as the log and the record tables hold them: read and written whole, whatever JavaScript put there."""

from __future__ import annotations

import json
import re
from base64 import b64encode

import msgspec
from msgspec import Raw

from kora_daemon.model.binary import BYTES_TAG
from kora_daemon.model.json_scan import no_constant
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.operation import MAX_SAFE_INTEGER

OVERFLOW = 10**400
"""JavaScript's Infinity in a form that JSON has: an integer that no double can hold."""
_LONGEST_NUMBER = 400
"""Digits; any integer with more is infinite in JavaScript."""

_HALF = re.compile("[\ud800-\udfff]")

_read_fast = msgspec.json.Decoder().decode
_write_fast = msgspec.json.Encoder().encode
_write_escaped = json.JSONEncoder(separators=(",", ":")).encode


def read_json(text: Raw | str | bytes) -> JsonValue:
    """The value of a JSON text. Numbers beyond the doubles are `OVERFLOW` or its negative, never a float.

    Raises ValueError for a text that is no JSON, RecursionError for one that is nested too deeply to be read.
    """
    try:
        value: JsonValue = _read_fast(text)
    except msgspec.DecodeError:
        # Halves of surrogate pairs and numbers beyond the doubles: JSON to JavaScript and to the standard library.
        value = _read_leniently(text if isinstance(text, str) else str(text, "utf-8"))
    return value


def plain_number(double: float) -> float:
    """A finite double as JavaScript writes it: an integer where it is one exactly."""
    return int(double) if double.is_integer() and abs(double) <= MAX_SAFE_INTEGER else double


def write_json(value: JsonValue) -> str:
    """The compact text of a value from `read_json`: keys in their order, halves of surrogate pairs escaped."""
    try:
        return _write_fast(value).decode()
    except UnicodeEncodeError:
        return _write_escaped(value)


def shown_json(value: object, indent: int | None = None) -> str:
    """The text of what queries show, in whole characters; bytes are in the form that Kora's clients write.

    Raises TypeError and ValueError for what JSON can't hold.
    """
    text = json.dumps(value, default=_tagged, ensure_ascii=False, allow_nan=False, indent=indent)
    return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _tagged(value: object) -> dict[str, str]:
    """What stands for bytes, which JSON does not know. As deep as records may be nested nothing of ours may recurse."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} is not JSON serializable")
    return {BYTES_TAG: b64encode(value).decode()}


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else _overflow(digits)


def _float(digits: str) -> float:
    number = float(digits)
    return _overflow(digits) if number in (float("inf"), float("-inf")) else number


def _overflow(digits: str) -> int:
    return -OVERFLOW if digits.startswith("-") else OVERFLOW


_read_leniently = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=no_constant).decode
