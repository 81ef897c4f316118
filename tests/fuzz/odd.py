"""Values that programs stumble over: numbers at their edges, texts that are none, depth, length."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

_MARK = "\0verbatim:"
_MARKED = re.compile(r'"\\u0000verbatim:([^"\\]*(?:\\.[^"\\]*)*)"')


def verbatim(text: str) -> str:
    """A text that stands for JSON which is written as it is, see `spelled`."""
    return _MARK + text


def spelled(value: Any, *, escaped: bool = True, space: str = "") -> str:
    """JSON text of a value, with what stands verbatim in it."""
    text = json.dumps(value, ensure_ascii=escaped, separators=("," + space, ":" + space))
    return _MARKED.sub(lambda found: json.loads(f'"{found[1]}"'), text)


_SPELLINGS = """
0 -0 -0.0 1 -1 1.0 1.5 1e0 1E+2 1e-400 1e400 -1e400 0.1 5e-324 1e21 1.7976931348623157e308
9007199254740991 9007199254740992 9007199254740993 -9007199254740993 2147483647 2147483648 4294967295 4294967296
9223372036854775807 9223372036854775808 18446744073709551616 123456789012345678901234567890
253402300800000 1700000000000 8640000000000001 NaN Infinity -Infinity 01 1. .5 +1 0x10 1e
"""
_LONG = ("9" * 400, "9" * 4_301, "1" + "0" * 5_000, "1e" + "9" * 400)
LITERALS = [*_SPELLINGS.split(), *_LONG]
NUMBERS = [verbatim(text) for text in LITERALS]
TEXTS = [
    "",
    "\0",
    "\ud800",
    "\udfff\ud800",
    "\U0010ffff",
    "\ufeff",
    "\u2028",
    "\u202e",
    " ",
    "x" * 256,
    "x" * 257,
    "é" * 300,
    "../../etc/passwd",
    "'; DROP TABLE kora_operations; --",
    '"',
    "\\",
    "%00%s%n{0}",
    "__proto__",
    "constructor",
    "type",
    "id",
    "0",
    "-1",
    "null",
    "true",
    "\r\nX-Injected: 1",
    "A" * 64,
    "0" * 64,
    "AA==",
    "AA=",
    "A",
    "2025-01-01T00:00:00Z",
    "node-a",
    "todos",
]
_DEPTHS = (2, 100, 499, 500, 501, 900, 1_000, 5_000, 100_000)


def odd_text(random: Random) -> str:
    """A text."""
    return random.choice(TEXTS)


def deep(random: Random) -> str:
    """A JSON value that is nested deeply, now and then without an end."""
    depth = random.choice(_DEPTHS)
    opening, closing = random.choice([("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
    return verbatim(opening * depth + "1" + closing * (depth if random.random() < 0.9 else depth - 1))


def odd_value(random: Random) -> Any:
    """Any JSON value that is not often seen."""
    kind = random.random()
    if kind < 0.35:
        return random.choice(NUMBERS)
    if kind < 0.6:
        return odd_text(random)
    if kind < 0.64:
        return deep(random)
    if kind < 0.67:
        return [random.choice([0, "", None, {}])] * random.choice([1, 10, 1_001, 3_000])
    if kind < 0.7:
        return {f"{odd_text(random)}{n}": n for n in range(random.choice([1, 51, 201]))}
    if kind < 0.75:
        return {"$type": "bytes", "base64": odd_text(random)}
    if kind < 0.8:
        return {random.choice(["type", "op", "$in", "$ne", "kind", "0"]): random.choice([None, 1, "max", "append", []])}
    return random.choice([None, True, False, [], {}, [[]], {"": None}, [None], 0, 1, -1, 2**53, 0.5])
