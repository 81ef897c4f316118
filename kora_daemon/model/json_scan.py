"""JSON as JavaScript writes it, half surrogate pairs included: values, and where their exact text stands.

By the standard library, which is slow: for what a typed decoder has refused, or can't answer for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from msgspec import Raw

from kora_daemon.model.jsvalue import JsonValue

MAX_NESTING = 500
"""Of lists and objects in a member of an operation: what is in the log is read again where the stack is deeper."""
_LONG_NUMBER = b"0" * 4_300
"""Longer integers are refused by Python's parser; JavaScript writes 22 digits at most."""
_DIGITS_AS_ZEROS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_MARK = re.compile(r"[ \t\n\r]*[\[{,:]?[ \t\n\r]*")
"""What stands before a name or a value: one mark at most, and the white space around it."""


def no_constant(name: str) -> NoReturn:
    """For `NaN` and its like, which Python takes for JSON. Raises ValueError."""
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=no_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Part(NamedTuple):
    """A JSON value and where its text stands."""

    value: Any
    start: int
    end: int


def read_value(text: str) -> Any:  # noqa: ANN401  a JsonValue, to be looked into
    """The value of a JSON text. Raises ValueError or RecursionError when it is none."""
    return _DECODER.decode(text)


def compact(text: Raw) -> Raw:
    """The same value without white space and needless escapes; unchanged where there is more to it than that."""
    try:
        return Raw(_ENCODER.encode(read_value(str(text, "utf-8"))).encode())
    except (ValueError, RecursionError):
        return text


def member_start(text: str, name: str) -> int:
    """Where the value of a member of the object in `text` begins. Raises KeyError when there is none."""
    return {found: start for found, start, _ in _members(text, 0)}[name]


def raw_members(text: str, position: int = 0) -> dict[str, Raw]:
    """The exact text of each member of the object at `position` in `text`, which is known to be JSON.

    Of those with the same name it is the last one.
    """
    return {name: Raw(text[start:end].encode()) for name, start, end in _members(text, position)}


def object_members(text: str) -> dict[str, Raw]:
    """The exact text of each member of a JSON object. Raises ValueError or RecursionError when it is none."""
    if not isinstance(read_value(text), dict):
        raise ValueError("it is of another type")
    return raw_members(text)


def scan_elements(text: str, position: int) -> Iterator[Part]:
    """The elements of the list at `position` in `text`, which is known to be JSON."""
    position = _behind_mark(text, position)
    while text[position] != "]":
        value, end = _DECODER.raw_decode(text, position)
        yield Part(value, position, end)
        position = _behind_mark(text, end)


def _members(text: str, position: int) -> Iterator[tuple[str, int, int]]:
    """Name, begin and end of each."""
    position = _behind_mark(text, position)
    while text[position] != "}":
        name, position = _DECODER.raw_decode(text, position)
        start = _behind_mark(text, position)
        _, end = _DECODER.raw_decode(text, start)
        yield name, start, end
        position = _behind_mark(text, end)


def _behind_mark(text: str, position: int) -> int:
    found = _MARK.match(text, position)
    return found.end() if found else position


def needs_closer_look(text: bytes) -> bool:
    """Whether a JSON text may be hard to read: nested deeply, or with an enormous number. In linear time."""
    if len(text) <= MAX_NESTING:
        return False
    if text.count(b"{") + text.count(b"[") > MAX_NESTING:
        return True
    return len(text) > len(_LONG_NUMBER) and _LONG_NUMBER in text.translate(_DIGITS_AS_ZEROS)


def is_deeper(value: JsonValue, levels: int) -> bool:
    """Whether lists and objects are nested more than so many levels deep. Without recursion."""
    layer: list[Any] = [value]
    for _ in range(levels + 1):
        layer = [part for part in layer if isinstance(part, dict | list)]
        if not layer:
            return False
        layer = [child for part in layer for child in (part.values() if isinstance(part, dict) else part)]
    return True
