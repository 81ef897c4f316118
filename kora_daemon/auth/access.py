"""Who may read and write what, as far as a configuration says it: for people to read before they rely on it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from kora_daemon.auth.schema_rules import schema_rules
from kora_daemon.auth.scope_maps import read_only, spelled_out
from kora_daemon.config.auth import AuthSettings
from kora_daemon.config.toml_text import toml_text
from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import READ_ONLY, ScopeMap, plain_where

HOOKS = {"python": "auth.python", "http": "auth.url", "command": "auth.command"}
"""Source of tokens -> the key that names somebody's code."""


class Party(Struct, frozen=True):
    """Some of those who may connect: `who` in words, `source` the key that says what they may.

    `scopes` None = unrestricted; `decides` says who puts values in: "file" as they are, "claims" into templates, "code"
    all of it, so that nothing is known here.
    """

    who: str
    source: str
    scopes: ScopeMap | None = None
    decides: Literal["file", "claims", "code"] = "file"


class Access(Struct, frozen=True):
    """What some people may do with a collection: all of it without `where`. What nobody may has none."""

    who: str
    source: str
    may: Literal["read-write", "read", "code"]
    where: Mapping[str, Any] = {}


class Overview(Struct, frozen=True):
    """Who may do what: with each collection by name, and with `others`, those that are not named."""

    collections: Mapping[str, list[Access]]
    others: list[Access]


def overview(settings: AuthSettings, schema: Schema | None) -> Overview:
    """The collections are those of the schema; without one, those that the scopes name."""
    everybody = list(parties(settings, schema))
    named = [one.scopes for one in everybody if one.scopes is not None] if schema is None else [schema.collections]
    names = dict.fromkeys(name for one in named for name in one)
    return Overview(
        {name: [*_accesses(everybody, name)] for name in names},
        [*_accesses([one for one in everybody if one.scopes is None], "")],
    )


def _accesses(everybody: list[Party], collection: str) -> Iterator[Access]:
    for one in everybody:
        if one.decides == "code":
            yield Access(one.who, one.source, "code")
        elif one.scopes is None:
            yield Access(one.who, one.source, "read-write")
        elif (scope := one.scopes.get(collection)) is not None:
            yield Access(one.who, one.source, "read" if scope.get(READ_ONLY) else "read-write", plain_where(scope))


def parties(settings: AuthSettings, schema: Schema | None) -> Iterator[Party]:
    """Everybody who may connect; whoever is in two of them is in the first."""
    collections: Collection[str] = () if schema is None else schema.collections
    if settings.kind == "none":
        yield Party("everybody", "auth.kind")
        return
    users = settings.primary if settings.kind == "mixed" else settings.kind
    if users == "token" and settings.source == "static":
        for index, row in enumerate(settings.tokens):
            scopes = None if row.scopes is None else spelled_out(row.scopes, collections)
            yield Party(f"the token of {row.user}", f"auth.tokens[{index}]", scopes)
    else:
        hook = HOOKS.get(settings.source or "") if users == "token" else None
        yield from _users(settings, schema, hook)
    if settings.anonymous is not None:
        who = "visitors" if settings.on_invalid_token == "reject" else "visitors and whoever shows a bad token"  # noqa: S105  words
        yield Party(who, "auth.anonymous.scopes", spelled_out(settings.anonymous.scopes, collections))


_NAMELESS = "users for whom your code names no scopes"


def _users(settings: AuthSettings, schema: Schema | None, hook: str | None) -> Iterator[Party]:
    """Signed-in users who have claims."""
    whom = "users"
    codes = [hook] if hook is not None else []
    codes += [] if settings.python_scopes is None else ["auth.python_scopes"]
    for code in codes:
        yield Party(whom, code, decides="code")
        whom = "users for whom your code names no scopes"
    if settings.scopes_from_schema and schema is not None:
        yield Party(whom, "auth.scopes_from_schema", _as_templates(schema), "claims")
    elif _has_tables(settings) and settings.python_scopes is None:
        yield from _by_tables(settings, () if schema is None else schema.collections, whom)
    elif not settings.require_scopes:
        # A server starts like this only when it was told to, or has code that may have its reasons.
        yield Party(whom, "auth.shared_data" if settings.shared_data or not codes else codes[-1])


def _as_templates(schema: Schema) -> ScopeMap:
    rules = schema_rules(schema).items()
    return {name: {field: f"{{{key}?}}" for field, key in fields.items()} for name, fields in rules}


def _has_tables(settings: AuthSettings) -> bool:
    return settings.scopes is not None or bool(settings.grants)


def _by_tables(settings: AuthSettings, collections: Collection[str], whom: str) -> Iterator[Party]:
    for index, grant in enumerate(settings.grants):
        scopes = spelled_out(grant.scopes, collections)
        who = f"{whom} with {_conditions(grant.when)}" if grant.when else whom
        yield Party(who, f"auth.grants[{index}]", read_only(scopes) if grant.readonly else scopes, "claims")
    others = f"other {whom}" if settings.grants else whom
    if settings.scopes is not None:
        yield Party(others, "auth.scopes", spelled_out(settings.scopes, collections), "claims")
    elif settings.shared_data:
        yield Party(others, "auth.shared_data")


def _conditions(when: Mapping[str, Any]) -> str:
    return " and ".join(
        f"{path} = {' or '.join(map(toml_text, wanted if isinstance(wanted, list | tuple) else [wanted]))}"
        for path, wanted in when.items()
    )
