"""Reads the sync rules of a schema file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kora_daemon.model.schema import Collection, SyncRule
from kora_daemon.schema_file.names import Names, field_names
from kora_daemon.schema_file.part import Part


def read_sync(part: Part, names: Names) -> dict[str, SyncRule]:
    """The sync rules, by collection."""
    if not part.is_given:
        return {}
    rules = part.table("collections, each with its rule")
    for name, one in rules.items():
        one.check_key(name, names, "collection")
    return {name: SyncRule(collection=name, where=_read_where(one, name, names)) for name, one in rules.items()}


def with_sync_scope(collections: Mapping[str, Collection], rules: Mapping[str, SyncRule]) -> dict[str, Collection]:
    """The collections, with the fields of their sync rules at the end of their scope."""
    return {
        name: replace(one, scope=tuple(dict.fromkeys((*one.scope, *rules[name].where)))) if name in rules else one
        for name, one in collections.items()
    }


def _read_where(part: Part, collection: str, names: Names) -> dict[str, str]:
    """Field -> key of the scope value, from `{where: {userId: true}}` or from `["userId"]`."""
    if isinstance(part.value, list) and part.value:
        return {field: field for field in field_names(part, collection, names)}
    if not isinstance(part.value, dict) or "where" not in part.value:
        part.unfit('a rule, such as ["userId"] or { where = { userId = "accountId" } }')
        return {}
    where = part.members("where", "where")["where"]
    bindings = where.table("fields, each with the key of its value")
    if where.value == {}:
        where.unfit("at least one field")
    known = names.get(collection)
    if known is not None:
        for field, key in bindings.items():
            key.check_key(field, known, "field")
    return {
        field: field if key.value is True else key.text("true or the key of a scope value")
        for field, key in bindings.items()
    }
