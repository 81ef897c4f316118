"""The rules of the schema itself, `scope` lists and `sync` rules, with values from claims (scopes.md section 6).

Stock clients turn the claims of their token, which they can't verify, into the scope that they ask for. A server may do
the same with claims that it has verified. Where a value is missing, clients leave the field out and ask for more than
was meant; a server hides the collection instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kora_daemon.auth.claims import Claims
from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import ScopeMap

SchemaRules = Mapping[str, Mapping[str, str]]
"""Collection -> field -> key of the value that it must have. A collection that is not in it is hidden, {} opens it."""
Values = Mapping[str, Any]
"""Key -> value."""


def schema_rules(schema: Schema) -> SchemaRules:
    """What the schema says of each collection: its sync rule, else its scope list.

    Without any sync rule, collections that it says nothing of are open; with one they are hidden.
    """
    rules = {name: {field: field for field in one.scope} for name, one in schema.collections.items()}
    if schema.sync:
        rules = {name: fields for name, fields in rules.items() if fields}
    return rules | {name: rule.where for name, rule in schema.sync.items()}


def value_keys(schema: Schema) -> tuple[str, ...]:
    """The keys that values are wanted for: all fields of scope lists, then those of sync rules."""
    fields = [field for one in schema.collections.values() for field in one.scope]
    return tuple(dict.fromkeys((*fields, *(key for rule in schema.sync.values() for key in rule.where.values()))))


def claimed_values(claims: Claims, keys: Iterable[str]) -> dict[str, Any]:
    """The claims of these names, else those inside the claim `scope`; the user id may also be `sub`, a text."""
    sub, inner = claims.get("sub"), claims.get("scope")
    user = {"userId": sub} if isinstance(sub, str) else {}
    known = {**user, **(inner if isinstance(inner, Mapping) else {}), **claims}
    return {key: known[key] for key in keys if key in known}


def asked_scopes(rules: SchemaRules, values: Values) -> dict[str, dict[str, Any]]:
    """What a stock client asks for; a field without a value is left out."""
    return {
        name: {field: values[key] for field, key in fields.items() if key in values} for name, fields in rules.items()
    }


def opened(rules: SchemaRules, values: Values) -> list[str]:
    """The collections of which a stock client asks for more than was meant, because a value is missing."""
    return [name for name, fields in rules.items() if any(key not in values for key in fields.values())]


def granted_scopes(rules: SchemaRules, values: Values) -> ScopeMap:
    """What a server grants: the same, without the collections that a missing value opens."""
    hidden = opened(rules, values)
    return {name: where for name, where in asked_scopes(rules, values).items() if name not in hidden}
