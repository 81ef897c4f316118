"""Scope maps as a provider hands them over (scopes.md section 1): checked, compared, `*` spelled out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from kora_daemon.errors import AuthUnavailable
from kora_daemon.model.jsvalue import has_lone_surrogate
from kora_daemon.model.scope import READ_ONLY, ScopeMap

EVERY_OTHER = "*"
"""Stands for the collections of the schema that a table does not list itself."""


def checked_scopes(value: object) -> ScopeMap | None:
    """The scopes that somebody's code has answered, copied. Raises AuthUnavailable for what is no scope map.

    Anything that is read more loosely may be read as less than was meant.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise AuthUnavailable(f"The scopes are a {type(value).__name__}, expected a map of collections or nothing")
    return {_name(collection): _fields(collection, fields) for collection, fields in value.items()}


def _fields(collection: str, fields: object) -> dict[str, Any]:
    if not isinstance(fields, Mapping):
        raise AuthUnavailable(f"The scope of {collection!r} is a {type(fields).__name__}, expected a map of fields")
    for name, value in fields.items():
        field = _name(name)
        if not _is_plain(value):
            raise AuthUnavailable(
                f"The scope of {collection}.{field} is a {type(value).__name__}, "
                "expected a text of whole characters, a number, true, false or null"
            )
    if READ_ONLY in fields and not isinstance(fields[READ_ONLY], bool):
        raise AuthUnavailable(f"The scope of {collection}.{READ_ONLY} is not true or false")
    return dict(fields)


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise AuthUnavailable(f"The scopes have a {type(value).__name__} where a name belongs")
    if has_lone_surrogate(value):
        raise AuthUnavailable(f"The scopes have the name {value[:40]!a}, expected whole characters")
    return value


def _is_plain(value: object) -> bool:
    """Clients are told of it: there is no UTF-8 for half a surrogate pair, which JSON can spell."""
    if isinstance(value, str):
        return not has_lone_surrogate(value)
    return value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def same_scopes(one: ScopeMap | None, other: ScopeMap | None) -> bool:
    """Whether two scope maps say the same; other than for Python, true is not 1 (scopes.md section 3)."""
    if one is None or other is None:
        return one is other
    return one.keys() == other.keys() and all(_same_fields(one[name], other[name]) for name in one)


def _same_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[name] == other[name] and isinstance(one[name], bool) == isinstance(other[name], bool) for name in one
    )


def spelled_out(table: ScopeMap, collections: Iterable[str]) -> ScopeMap:
    """The table with a fields' table of its own for each collection that `*` stands for."""
    if EVERY_OTHER not in table:
        return table
    others = {name: table[EVERY_OTHER] for name in collections if name not in table}
    return {name: fields for name, fields in table.items() if name != EVERY_OTHER} | others


def read_only(table: ScopeMap) -> ScopeMap:
    """The table with none of its collections to be written."""
    return {name: {**fields, READ_ONLY: True} for name, fields in table.items()}
