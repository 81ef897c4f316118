"""Scopes: which records a session may see and change (scopes.md sections 1 to 4).

A scope map says for each collection which values its records must have: {collection: {field: value}}. A collection that
is not in the map is hidden, `{}` opens it, several fields must all fit. No map at all restricts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kora_daemon.model.jsvalue import strictly_equal

Where = Mapping[str, Any]
ScopeMap = Mapping[str, Where]
Fields = Mapping[str, Any]

READ_ONLY = "__readonly"
"""A flag beside the fields of a collection: it can't be written. Only authentication sets it."""


def effective_scopes(granted: ScopeMap | None, asked: ScopeMap | None) -> ScopeMap | None:
    """What a session lives with: what authentication has `granted`, narrowed by what the client has `asked` for.

    A client can add fields to collections that it was granted, and nothing else; without a grant it restricts itself.
    """
    if granted is None:
        return asked
    if asked is None:
        return granted
    return {name: {**asked.get(name, {}), **where} for name, where in granted.items()}


def accepted_scope(scopes: ScopeMap) -> dict[str, dict[str, Any]]:
    """The scopes as a client is told: without flags."""
    return {name: plain_where(where) for name, where in scopes.items()}


def plain_where(where: Where) -> dict[str, Any]:
    """The fields of a scope, without its flag."""
    return {field: value for field, value in where.items() if field != READ_ONLY}


def matches(where: Where, fields: Fields) -> bool:
    """Whether a record with these fields has all the values; a field that is missing has none, not even null."""
    return all(name in fields and strictly_equal(fields[name], value) for name, value in where.items())


def may_read(scopes: ScopeMap | None, collection: str, carried: Fields, record: Fields | None) -> bool:
    """Whether an operation may be sent (section 3).

    `carried` is its data over its previous data; `record` the record's fields as they are now, deleted or not, None
    where there is no record. What the operation carries outranks the record.
    """
    if scopes is None:
        return True
    if collection not in scopes:
        return False
    return matches(plain_where(scopes[collection]), {**(record or {}), **carried})


def may_write(
    scopes: ScopeMap | None,
    collection: str,
    *,
    record: Fields | None,
    data: Fields,
    previous: Fields,
    replaces: bool = False,
) -> bool:
    """Whether a session may upload an operation (section 4).

    A record that is there, deleted or not, has to lie in the scope before and after; what the client says it was is no
    evidence. `replaces` says that nothing of the record stays but `data`.
    """
    if scopes is None:
        return True
    scope = scopes.get(collection)
    if scope is None or scope.get(READ_ONLY):
        return False
    where = plain_where(scope)
    if not where:
        return True
    if record is None:
        return matches(where, {**previous, **data})
    if not matches(where, record) or not matches(where, {**record, **data}):
        return False
    return not replaces or matches(where, data)
