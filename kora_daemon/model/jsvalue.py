"""The JavaScript rules that reach a server: how JSON values print, sort, compare and count (store.md section 1.1)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias, TypeGuard

from kora_daemon.model.operation import MAX_SAFE_INTEGER

JsonValue: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
"""What `json.loads` returns."""

_print_text = json.JSONEncoder(ensure_ascii=False).encode
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Printed(str):
    """Finished text, told apart from the text values that are still to be printed."""

    __slots__ = ()


def canonical_json(value: JsonValue) -> str:
    """The one JSON text of a value: no white space, keys by UTF-16 unit, numbers as ECMAScript prints a double.

    The text holds no lone surrogate (they are escaped), so it always encodes to UTF-8. Any nesting depth will do.
    Raises TypeError for what is no JSON value.
    """
    printed: list[str] = []
    pending: list[object] = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, _Printed):
            printed.append(part)
        elif isinstance(part, dict):
            pending.extend(reversed(list(_members(part))))
        elif isinstance(part, list):
            pending.extend(reversed(list(_elements(part))))
        else:
            printed.append(_scalar_text(part))
    return "".join(printed)


def number_text(number: float) -> str:
    """A number as ECMAScript prints it, after rounding to a double; overflow is `null`, as in JSON.stringify."""
    double = as_double(number)
    if not math.isfinite(double):
        return "null"
    if double.is_integer() and abs(double) <= MAX_SAFE_INTEGER:
        return str(int(double))
    sign = "-" if double < 0 else ""
    return sign + _layout(*_shortest_digits(abs(double)))


def as_double(number: float) -> float:
    """The double that JavaScript makes of a number, infinite when it is too large."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def as_integer(value: object) -> int | None:
    """The integer that JavaScript sees in a value (`1.0` and `1e3` are integers), None when it sees none."""
    if not is_number(value):
        return None
    double = as_double(value)
    return int(double) if double.is_integer() else None


def is_number(value: object) -> TypeGuard[float]:
    """Whether JavaScript calls the value a number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def strictly_equal(left: JsonValue, right: JsonValue) -> bool:
    """`===` on JSON values (scopes.md section 3): lists and objects equal nothing, `1` equals `1.0` but not `true`."""
    if is_number(left) and is_number(right):
        return as_double(left) == as_double(right)
    if isinstance(left, list | dict):
        return False
    return type(left) is type(right) and left == right


def has_lone_surrogate(text: str) -> bool:
    """Whether the text holds half a character: legal in JavaScript, not in UTF-8."""
    return _SURROGATE.search(text) is not None and _SURROGATE.search(_join_pairs(text)) is not None


def utf16_key(text: str) -> bytes:
    """Sort key: the order of JavaScript strings, in which U+1F600 comes before U+E000."""
    return text.encode("utf-16-be", "surrogatepass")


def _members(members: dict[str, Any]) -> Iterator[object]:
    before = "{"
    for key in sorted(members, key=utf16_key):
        yield _Printed(f"{before}{_quoted(key)}:")
        yield members[key]
        before = ","
    yield _Printed("}" if members else "{}")


def _elements(elements: list[Any]) -> Iterator[object]:
    before = "["
    for element in elements:
        yield _Printed(before)
        yield element
        before = ","
    yield _Printed("]" if elements else "[]")


def _scalar_text(value: object) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return number_text(value)
    raise TypeError(f"found {type(value).__name__}, expected a JSON value")


def _quoted(text: str) -> str:
    if _SURROGATE.search(text):
        return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", _print_text(_join_pairs(text)))
    return _print_text(text)


def _join_pairs(text: str) -> str:
    """Surrogate halves that stand side by side become their character, as they are one in JavaScript."""
    return utf16_key(text).decode("utf-16-be", "surrogatepass")


def _shortest_digits(number: float) -> tuple[str, int]:
    """The fewest digits that give back a positive double, and where the point stands: 0.012 -> ("12", -1)."""
    mantissa, _, exponent = repr(number).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    return digits.rstrip("0"), point


def _layout(digits: str, point: int) -> str:
    """Plain notation from 1e-6 up to below 1e21, else with an exponent (ECMAScript Number::toString)."""
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
