"""Who shares presence with whom (scopes.md section 9)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from kora_daemon.model.jsvalue import JsonValue, canonical_json
from kora_daemon.model.scope import ScopeMap, accepted_scope

UNRESTRICTED = ""
"""The audience of sessions without any restriction."""
_NAME_LENGTH = 32
"""Hex digits: 128 bits."""


def audience(granted: ScopeMap | None, scopes: ScopeMap | None, group_by: Sequence[str] = ()) -> str:
    """Names the audience that a session belongs to; nothing of its scopes can be read out of the name.

    By default sessions that see the same records are one. With `group_by` those are whose *grants* have the same
    values for all these fields, wherever they stand. Where a grant lacks a field, or has two values for it, the
    session falls back to those that see the same.

    `scopes` are the effective ones. They are no evidence for a group unless there is no grant: whoever was granted
    something without the field could ask for any value of it, and listen in on another tenant. A session that was
    granted everything may name the group it wants to be in, by a `syncScope`; if it does not, it is in none.
    """
    if scopes is None:
        return UNRESTRICTED
    group = _group(scopes if granted is None else granted, group_by) if group_by else None
    if group is not None:
        return _name({"group": group})
    # Without flags: who may only read sees the same, and is seen.
    return _name({"scopes": accepted_scope(scopes)})


def _group(scopes: ScopeMap, group_by: Sequence[str]) -> dict[str, JsonValue] | None:
    group: dict[str, JsonValue] = {}
    for field in group_by:
        # As text: `1` and `1.0` are one value, `1` and `true` are two.
        values = {canonical_json(where[field]): where[field] for where in scopes.values() if field in where}
        if len(values) != 1:
            return None
        group[field] = next(iter(values.values()))
    return group


def _name(what: JsonValue) -> str:
    return hashlib.sha256(canonical_json(what).encode()).hexdigest()[:_NAME_LENGTH]
