"""What a server refuses to start with (auth.md section 6): nothing scoped, misspelt collections and fields."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from kora_daemon.auth.schema_rules import schema_rules
from kora_daemon.auth.scope_maps import EVERY_OTHER, spelled_out
from kora_daemon.auth.users import UserDirectory
from kora_daemon.config.auth import AuthSettings
from kora_daemon.errors import StoreError, StoreUnavailable
from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import READ_ONLY, ScopeMap, plain_where

log = structlog.get_logger("kora.auth")

_ALWAYS_THERE = ("id", READ_ONLY)


def scope_problems(settings: AuthSettings, schema: Schema | None) -> list[str]:
    """One sentence for each thing that is wrong with the scopes."""
    problems = [] if _is_scoped(settings) else [_NOTHING_SCOPED.format(path="auth.scopes")]
    if settings.scopes_from_schema and (schema is None or not any(schema_rules(schema).values())):
        problems.append(_NOTHING_IN_SCHEMA)
    for path, table in scope_tables(settings):
        problems += _table_problems(path, table, schema)
    return problems


def user_table_problems(users: UserDirectory) -> list[str]:
    """One sentence for what the user tables lack. A database that does not answer now may do so later."""
    try:
        missing = users.missing()
    except StoreUnavailable as error:
        log.warning("auth.users_unavailable", problem=str(error))
        return []
    except StoreError as error:
        return [f"auth.kora.database: {error}"]
    if not missing:
        return []
    return [f"auth.kora.database: has no {', '.join(missing)}, expected the tables of @korajs/auth"]


_NOTHING_SCOPED = (
    "{path}: is missing, so everybody who is signed in may read and write everything; "
    "set [auth.scopes], [[auth.grants]], scopes_from_schema or python_scopes, or say shared_data = true"
)

_NOTHING_IN_SCHEMA = (
    "auth.scopes_from_schema: the schema has no scope lists and no sync rules, so everybody who is signed in may read "
    "and write everything; give it some, or set [auth.scopes]"
)


def _is_scoped(settings: AuthSettings) -> bool:
    if settings.kind == "none" or settings.shared_data:
        return True
    users = settings.primary if settings.kind == "mixed" else settings.kind
    if users == "token" and settings.source != "jwt":
        # Each row of the table says it for itself, and so does each answer of a hook.
        return True
    if settings.scopes_from_schema or settings.grants:
        return True
    return settings.scopes is not None or settings.python_scopes is not None


def scope_tables(settings: AuthSettings) -> Iterator[tuple[str, ScopeMap]]:
    """Every scope table of the file, with its path."""
    if settings.scopes is not None:
        yield "auth.scopes", settings.scopes
    if settings.anonymous is not None:
        yield "auth.anonymous.scopes", settings.anonymous.scopes
    for index, grant in enumerate(settings.grants):
        yield f"auth.grants[{index}].scopes", grant.scopes
    for index, token in enumerate(settings.tokens):
        if token.scopes is not None:
            yield f"auth.tokens[{index}].scopes", token.scopes


def scoped_fields(settings: AuthSettings, schema: Schema) -> dict[str, list[str]]:
    """Collection -> the fields that the file's scopes are decided by."""
    found: dict[str, list[str]] = {}
    for _, table in scope_tables(settings):
        for collection, where in spelled_out(table, schema.collections).items():
            found.setdefault(collection, []).extend(plain_where(where))
    return found


def _table_problems(path: str, table: ScopeMap, schema: Schema | None) -> Iterator[str]:
    for collection, fields in table.items():
        if READ_ONLY in fields and not isinstance(fields[READ_ONLY], bool):
            yield f"{path}.{collection}.{READ_ONLY}: found no flag, expected true or false"
        if schema is None:
            if collection == EVERY_OTHER:
                yield f"{path}: has {EVERY_OTHER!r}, which stands for the collections of a schema; set schema"
        elif collection == EVERY_OTHER:
            if unknown := [name for name in fields if name not in _ALWAYS_THERE]:
                others = [one for name, one in schema.collections.items() if name not in table]
                lacking = [one for one in unknown if not all(one in other.fields for other in others)]
                if lacking:
                    yield f"{path}.{EVERY_OTHER}: not every collection it stands for has {_listed(lacking)}"
        elif collection not in schema.collections:
            known = ", ".join(sorted(schema.collections))
            yield f"{path}: has {collection!r}, expected collections of the schema: {known}"
        else:
            known_fields = schema.collections[collection].fields
            if unknown := [name for name in fields if name not in known_fields and name not in _ALWAYS_THERE]:
                yield f"{path}.{collection}: has {_listed(unknown)}, expected fields of the collection"


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
