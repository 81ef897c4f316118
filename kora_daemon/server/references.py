"""Which records refer to a blob, and are within scopes: found by the index, judged by what they are now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kora_daemon.materialization.blobs import refers
from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import Fields, ScopeMap
from kora_daemon.model.sight import sees
from kora_daemon.server.selectors import scope_selectors
from kora_daemon.server.visible import ScopedFields
from kora_daemon.store.contract import Store

MAX_CANDIDATES = 1_000
"""Looked at for one hash. Among them is one of one's own unless the scope has a field that is not indexed."""
_LOOKED_UP_AT_ONCE = 100


class Reference(NamedTuple):
    """A record that refers to a hash, with its fields, and the nodes that have written the reference."""

    key: RecordKey
    fields: Fields
    authors: frozenset[str] = frozenset()


def references(store: Store, hashes: Iterable[str], scopes: ScopeMap | None, scoped: ScopedFields) -> list[Reference]:
    """Records within the scopes that refer to one of the hashes, at least one if there is any. Raises StoreError."""
    wanted = frozenset(hashes)
    return visible(store, candidates(store, wanted, scopes, scoped), wanted, scopes)


def candidates(
    store: Store, hashes: frozenset[str], scopes: ScopeMap | None, scoped: ScopedFields
) -> dict[RecordKey, set[str]]:
    """Records that may be such, each with the nodes that have written the reference into it. Raises StoreError."""
    selectors = [Selector("")] if scopes is None else scope_selectors(scopes, scoped)
    found: dict[RecordKey, set[str]] = {}
    for one in sorted(hashes):
        if selectors:
            for key, node_id in store.blob_references(one, selectors, MAX_CANDIDATES):
                found.setdefault(key, set()).add(node_id)
    return found


def visible(
    store: Store, found: Mapping[RecordKey, set[str]], hashes: frozenset[str], scopes: ScopeMap | None
) -> list[Reference]:
    """Those of the candidates that are, at least one if there is any. Raises StoreError."""
    keys = list(found)[:MAX_CANDIDATES]
    for first in range(0, len(keys), _LOOKED_UP_AT_ONCE):
        seen = [
            Reference(key, fields, frozenset(found[key]))
            for key, fields in store.current_fields(keys[first : first + _LOOKED_UP_AT_ONCE]).items()
            if refers(fields, hashes) and sees(scopes, key.collection, fields)
        ]
        if seen:
            return seen
    return []
