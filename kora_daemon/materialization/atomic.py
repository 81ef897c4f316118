"""Atomic intents: what an update means by its new value, so that concurrent ones add up (store.md section 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from kora_daemon.materialization.json_text import OVERFLOW, plain_number
from kora_daemon.model.jsvalue import JsonValue, as_double, canonical_json, is_number

_Rule = Callable[[Any, Any], JsonValue]
"""From a field's value and the operand to the new value."""
_LAST_ARRAY_INDEX = 2**32 - 2


class Intent(NamedTuple):
    """An atomic intent for one field: its type, and its operand (a number for `increment`, `max` and `min`)."""

    type: str
    operand: Any


def read_intents(atomic_ops: JsonValue) -> dict[str, Intent]:
    """Field -> intent. What is no intent (other servers check nothing) is left out, so its field is written plainly."""
    if not isinstance(atomic_ops, dict):
        return {}
    return {field: Intent(one["type"], one.get("value")) for field, one in atomic_ops.items() if _is_intent(one)}


def compose(intent: Intent, current: JsonValue) -> JsonValue:
    """What a field's value becomes under an intent; None stands for a missing value too. `current` stays as it is."""
    return _COMPOSED[intent.type](current, intent.operand)


def same_text(left: JsonValue, right: JsonValue) -> bool:
    """Whether JavaScript writes both values as the same compact JSON text: the order of keys counts."""
    pending = [(left, right)]
    while pending:
        one, other = pending.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            keys = _keys_in_order(one)
            same = keys == _keys_in_order(other)
            pending.extend((one[key], other[key]) for key in keys if same)
        elif isinstance(one, list) and isinstance(other, list):
            same = len(one) == len(other)
            pending.extend(zip(one, other, strict=False))
        else:
            same = canonical_json(one) == canonical_json(other)
        if not same:
            return False
    return True


def _keys_in_order(members: dict[str, Any]) -> list[str]:
    """Keys as JavaScript keeps them: array indexes first, by number, then the others as they came."""
    indexes = sorted((key for key in members if _is_array_index(key)), key=int)
    return indexes + [key for key in members if not _is_array_index(key)] if indexes else list(members)


def _is_array_index(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) <= 10 and str(int(key)) == key and int(key) <= _LAST_ARRAY_INDEX


def _is_intent(claimed: object) -> bool:
    if not isinstance(claimed, dict):
        return False
    kind = claimed.get("type")
    return kind in ("append", "remove") or (kind in ("increment", "max", "min") and is_number(claimed.get("value")))


def _numeric(choose: Callable[[float, float], float], start: float) -> _Rule:
    """A rule on doubles; `start` takes the place of a value that is no number."""

    def composed(current: JsonValue, operand: float) -> JsonValue:
        return _number(choose(as_double(current) if is_number(current) else start, as_double(operand)))

    return composed


def _number(double: float) -> JsonValue:
    """A double as `read_json` would give it."""
    if math.isnan(double):
        return None
    if math.isinf(double):
        return OVERFLOW if double > 0 else -OVERFLOW
    return plain_number(double)


def _appended(current: JsonValue, operand: JsonValue) -> JsonValue:
    return [*current, operand] if isinstance(current, list) else [operand]


def _removed(current: JsonValue, operand: JsonValue) -> JsonValue:
    return [element for element in current if not same_text(element, operand)] if isinstance(current, list) else []


_COMPOSED: dict[str, _Rule] = {
    "increment": _numeric(lambda current, operand: current + operand, 0.0),
    "max": _numeric(max, -math.inf),
    "min": _numeric(min, math.inf),
    "append": _appended,
    "remove": _removed,
}
