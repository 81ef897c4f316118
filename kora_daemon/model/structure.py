"""Is this JSON value an operation? (store.md section 1).

The slow path: it explains why the typed decoder refused an operation, and lets through what only JavaScript takes for
well-formed (`1.0` where an integer is wanted, lone surrogates in the data).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import UNSET, Raw

from kora_daemon.model.jsvalue import as_double, as_integer, has_lone_surrogate, is_number, number_text
from kora_daemon.model.operation import MAX_NAME_LENGTH, MAX_SAFE_INTEGER, NULL, Operation, Timestamp

_SHOWN_CHARACTERS = 40
_NUMERIC_ATOMICS = ("increment", "max", "min")


class _Kind(NamedTuple):
    """A kind of value: the test for it and its name."""

    fits: Callable[[Any], bool]
    name: str


class _Claim(NamedTuple):
    """What stands at a path, and the kind it should have."""

    path: str
    found: Any
    kind: _Kind


def _optional(kind: _Kind) -> _Kind:
    return _Kind(lambda found: found is UNSET or found is None or kind.fits(found), f"{kind.name} or null")


def _integer_from(lowest: int) -> _Kind:
    def fits(found: object) -> bool:
        integer = as_integer(found)
        return integer is not None and lowest <= integer <= MAX_SAFE_INTEGER

    return _Kind(fits, f"an integer from {lowest} to {MAX_SAFE_INTEGER}")


def _one_of(names: tuple[str, ...]) -> _Kind:
    return _Kind(lambda found: isinstance(found, str) and found in names, "one of " + ", ".join(names))


def is_name(text: str) -> bool:
    """Whether a text can be an id or a name."""
    return 0 < len(text) <= MAX_NAME_LENGTH and not has_lone_surrogate(text)


_OBJECT = _Kind(lambda found: isinstance(found, dict), "an object")
_LIST = _Kind(lambda found: isinstance(found, list), "a list")
_TEXT = _Kind(lambda found: isinstance(found, str) and not has_lone_surrogate(found), "a text of whole characters")
_KEY = _Kind(
    lambda found: isinstance(found, str) and is_name(found),
    f"a non-empty text of whole characters, at most {MAX_NAME_LENGTH}",
)
_INTEGER = _Kind(lambda found: as_integer(found) is not None, "an integer")
_FINITE = _Kind(lambda found: is_number(found) and math.isfinite(as_double(found)), "a number")
_ATOMIC_TYPE = _one_of((*_NUMERIC_ATOMICS, "append", "remove"))

_MEMBERS = {
    "id": _KEY,
    "nodeId": _KEY,
    "type": _one_of(("insert", "update", "delete")),
    "collection": _KEY,
    "recordId": _KEY,
    "timestamp": _OBJECT,
    "sequenceNumber": _integer_from(0),
    "causalDeps": _LIST,
    "schemaVersion": _integer_from(1),
    "data": _optional(_OBJECT),
    "previousData": _optional(_OBJECT),
    "atomicOps": _optional(_OBJECT),
    "transactionId": _optional(_TEXT),
    "mutationName": _optional(_TEXT),
}
_TIMESTAMP_MEMBERS = {"wallTime": _INTEGER, "logical": _INTEGER, "nodeId": _KEY}


def structure_problem(operation: object) -> str | None:
    """None for a well-formed operation, else a sentence: the first field that is wrong, what was found and expected.

    `operation` is a value from `json.loads`. Integers may be in any spelling; `jsvalue.as_integer` reads them.
    The range of the clock's numbers is no matter of structure: `clock.judge_arrival` looks at it.
    """
    if not isinstance(operation, dict):
        return _first_misfit([_Claim("the operation", operation, _OBJECT)])
    return _first_misfit(_operation_claims(operation))


def atomic_ops_problem(atomic_ops: object) -> str | None:
    """The same for the value of `atomicOps` alone: an object, field -> {type, value}; null and absent are fine."""
    return _first_misfit(_atomic_claims(atomic_ops))


def has_fractional_clock(operation: object) -> bool:
    """Whether the timestamp has a number that is no integer: refused as `INVALID_TIMESTAMP` (wire.md section 7)."""
    timestamp = operation.get("timestamp") if isinstance(operation, dict) else None
    if not isinstance(timestamp, dict):
        return False
    numbers = (timestamp.get("wallTime"), timestamp.get("logical"))
    return all(map(is_number, numbers)) and None in map(as_integer, numbers)


def _first_misfit(claims: Iterable[_Claim]) -> str | None:
    for path, found, kind in claims:
        if not kind.fits(found):
            return f"{path} is {_described(found)}, expected {kind.name}"
    return None


def _operation_claims(operation: dict[str, Any]) -> Iterator[_Claim]:
    """Claims from the outside in: one that is yielded after another may rely on it."""
    yield from _member_claims("", operation, _MEMBERS)
    yield from _member_claims("timestamp.", operation["timestamp"], _TIMESTAMP_MEMBERS)
    for index, cause in enumerate(operation["causalDeps"]):
        yield _Claim(f"causalDeps[{index}]", cause, _KEY)
    yield from _atomic_claims(operation.get("atomicOps"))


def _member_claims(prefix: str, members: dict[str, Any], kinds: dict[str, _Kind]) -> Iterator[_Claim]:
    for name, kind in kinds.items():
        yield _Claim(prefix + name, members.get(name, UNSET), kind)


def _atomic_claims(atomic_ops: object) -> Iterator[_Claim]:
    yield _Claim("atomicOps", atomic_ops, _MEMBERS["atomicOps"])
    if not isinstance(atomic_ops, dict):
        return
    for field, atomic in atomic_ops.items():
        path = f"atomicOps[{_shown(field)}]"
        yield _Claim(path, atomic, _OBJECT)
        yield from _member_claims(f"{path}.", atomic, {"type": _ATOMIC_TYPE})
        if atomic["type"] in _NUMERIC_ATOMICS:
            yield from _member_claims(f"{path}.", atomic, {"value": _FINITE})


def _described(found: object) -> str:
    if found is UNSET:
        return "missing"
    if found is None or isinstance(found, bool):
        return json.dumps(found)
    if is_number(found):
        return number_text(found) if math.isfinite(as_double(found)) else "a number too large"
    if isinstance(found, str):
        return f"the text {_shown(found)}"
    return "a list" if isinstance(found, list) else "an object"


def _shown(text: str) -> str:
    """A text in plain ASCII, cut short: it comes from a peer and goes into messages."""
    ellipsis = "…" if len(text) > _SHOWN_CHARACTERS else ""
    return json.dumps(text[:_SHOWN_CHARACTERS]) + ellipsis


def operation_of(value: Mapping[str, Any], raw: Mapping[str, Raw]) -> Operation:
    """The operation that a JSON value without a `structure_problem` is; `raw` has the exact text of its members."""
    timestamp = value["timestamp"]
    return Operation(
        value["id"],
        value["nodeId"],
        value["type"],
        value["collection"],
        value["recordId"],
        Timestamp(_integer(timestamp["wallTime"]), _integer(timestamp["logical"]), timestamp["nodeId"]),
        _integer(value["sequenceNumber"]),
        value["causalDeps"],
        _integer(value["schemaVersion"]),
        data=raw.get("data", NULL),
        previous_data=raw.get("previousData", NULL),
        atomic_ops=raw["atomicOps"] if value.get("atomicOps") else UNSET,
        transaction_id=UNSET if value.get("transactionId") is None else value["transactionId"],
        mutation_name=UNSET if value.get("mutationName") is None else value["mutationName"],
    )


def _integer(value: object) -> int:
    integer = as_integer(value)
    if integer is None:
        raise ValueError(f"found {value!r}, expected an integer")
    return integer
