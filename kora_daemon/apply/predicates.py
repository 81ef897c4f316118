"""Predicates of conditional writes: what the target must be for the write to happen (store.md section 8)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from kora_daemon.errors import KoraError
from kora_daemon.model.jsvalue import JsonValue, as_double, is_number, strictly_equal

Predicate = Mapping[str, Mapping[str, Any]]
"""Field -> operators, each with its operand; all of them must hold."""

_MISSING: Any = object()


class MalformedPredicate(KoraError):
    """A predicate that asks for something that there is not."""


def satisfies(predicate: Predicate, record: Mapping[str, Any] | None) -> bool:
    """Whether a record meets all operators of all fields. No record meets only the empty predicate.

    `$eq`, `$ne`, `$in` compare by identity: no coercion, lists and objects equal nothing, a missing field is not null.
    `$lt`, `$lte`, `$gt`, `$gte` need numbers on both sides. Raises `MalformedPredicate`.
    """
    checked_predicate(predicate)
    if record is None:
        return not predicate
    return all(
        _OPERATORS[name](record.get(field, _MISSING), wanted)
        for field, operators in predicate.items()
        for name, wanted in operators.items()
    )


def checked_predicate(predicate: Predicate) -> Predicate:
    """The predicate, once all of its operators are known. Raises `MalformedPredicate`."""
    for field, operators in predicate.items():
        if not isinstance(operators, Mapping):
            raise MalformedPredicate(f"the predicate on {field!r} must be an object of operators")
        for name, wanted in operators.items():
            if name not in _OPERATORS:
                raise MalformedPredicate(f"{field!r} has no operator {name!r}; there are {', '.join(_OPERATORS)}")
            if name == "$in" and not isinstance(wanted, list):
                raise MalformedPredicate(f"$in on {field!r} takes a list")
    return predicate


def _equal(found: JsonValue, wanted: JsonValue) -> bool:
    return found is not _MISSING and strictly_equal(found, wanted)


def _compared(compare: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    return lambda found, wanted: is_number(found) and is_number(wanted) and compare(as_double(found), as_double(wanted))


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda found, wanted: not _equal(found, wanted),
    "$in": lambda found, wanted: any(_equal(found, one) for one in wanted),
    "$lt": _compared(operator.lt),
    "$lte": _compared(operator.le),
    "$gt": _compared(operator.gt),
    "$gte": _compared(operator.ge),
}
