"""What a configuration may say about scopes and hardly can mean: no reason not to start, but worth a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kora_daemon.auth.access import HOOKS, Party, parties
from kora_daemon.config.auth import AuthSettings
from kora_daemon.config.toml_text import toml_text
from kora_daemon.model.schema import Collection, Kind, Schema
from kora_daemon.model.scope import READ_ONLY, plain_where

_NEVER_EQUAL: dict[Kind, str] = {"array": "an array", "object": "an object", "blob": "a blob"}
_MEAN_WELL = "devices that mean well keep to it, others need not"
_PLACEHOLDER = re.compile(r"\{[^{}]+\}")


def doubts(settings: AuthSettings, schema: Schema | None) -> list[str]:
    """One sentence for each thing, with its path first."""
    everybody = list(parties(settings, schema))
    found = [*_unused(settings), *_unscoped(settings, everybody)]
    for party in everybody:
        for collection, scope in (party.scopes or {}).items():
            path = f"{party.source}.{collection}"
            if scope.get(READ_ONLY) is False:
                found.append(f"{path}.{READ_ONLY}: false says nothing; leave it out")
            known = None if schema is None else schema.collections.get(collection)
            found += _field_doubts(path, party, plain_where(scope), known)
    if schema is not None:
        found += _schema_doubts(everybody, schema)
    return list(dict.fromkeys(found))


def _unused(settings: AuthSettings) -> Iterator[str]:
    names = [name for name in ("scopes", "grants") if getattr(settings, name)]
    if settings.tokens:
        names += [] if settings.python_scopes is None else ["python_scopes"]
        place = "each of auth.tokens says for itself"
    elif settings.python_scopes is not None:
        place = "auth.python_scopes takes its place"
    else:
        return
    for name in names:
        yield f"auth.{name}: is not used, {place}"


def _unscoped(settings: AuthSettings, everybody: Iterable[Party]) -> Iterator[str]:
    codes = {*HOOKS.values(), "auth.python_scopes"}
    for one in everybody:
        if one.scopes is None and one.decides != "code" and one.source in codes:
            yield (
                f"{one.source}: whoever it names no scopes for may read and write everything; require_scopes = true "
                "refuses them, shared_data = true says that it is meant"
            )
    for index, grant in enumerate(settings.grants):
        if not grant.when:
            yield f"auth.grants[{index}].when: is empty, so it matches everybody, and nothing below it counts"


def _field_doubts(path: str, party: Party, where: Mapping[str, Any], known: Collection | None) -> Iterator[str]:
    for name, value in where.items():
        if name == "id":
            yield f"{path}.id: no insert carries it, so nobody can add records by it"
        if party.decides == "file" and isinstance(value, str) and _PLACEHOLDER.search(value):
            yield f"{path}.{name}: {toml_text(value)} is taken as it is, there are no claims to fill in"
        field = None if known is None else known.fields.get(name)
        if field is None:
            continue
        if field.kind in _NEVER_EQUAL:
            yield f"{path}.{name}: {_NEVER_EQUAL[field.kind]} equals nothing, so it hides everything"
        elif not (isinstance(value, str) and _PLACEHOLDER.search(value)) and not field.admits(value):
            yield f"{path}.{name}: no record has {toml_text(value)}, the field is {field.expects}"


def _schema_doubts(everybody: list[Party], schema: Schema) -> Iterator[str]:
    if any(one.decides == "code" for one in everybody):
        return
    scoped = [one for one in everybody if one.scopes is not None]
    declared = [name for name, one in schema.collections.items() if one.scope]
    if not scoped and declared:
        yield f"auth: nobody is held to the scope of the schema ({', '.join(declared)}); {_MEAN_WELL}"
    if scoped:
        for collection in schema.collections.values():
            yield from _collection_doubts(scoped, collection)


def _collection_doubts(scoped: list[Party], collection: Collection) -> Iterator[str]:
    name = collection.name
    scopes = {one.source: one.scopes[name] for one in scoped if one.scopes is not None and name in one.scopes}
    if not scopes:
        yield f"auth: {name} is hidden from everybody who has scopes, since no table of theirs names it"
    if all(source.startswith("auth.grants") for source in scopes):
        return  # for some few, who may be meant to see all of it
    for field in collection.scope:
        if not any(field in one for one in scopes.values()):
            yield f"auth: {name} has the scope {field} in the schema, and nobody is held to it; {_MEAN_WELL}"
