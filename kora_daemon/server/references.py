"""Which records refer to a blob, and are within scopes: found by the index, judged by what they are now."""

from __future__ import annotations

from collections.abc import Iterable

from kora_daemon.materialization.blobs import refers
from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import ScopeMap
from kora_daemon.model.sight import sees
from kora_daemon.server.blobs import Reference
from kora_daemon.server.selectors import scope_selectors
from kora_daemon.server.visible import ScopedFields
from kora_daemon.store.contract import Store

MAX_CANDIDATES = 1_000
"""Looked at for one hash. Among them is one of one's own unless the scope has a field that is not indexed."""
_LOOKED_UP_AT_ONCE = 100


def references(store: Store, hashes: Iterable[str], scopes: ScopeMap | None, scoped: ScopedFields) -> list[Reference]:
    """Records within the scopes that refer to one of the hashes, at least one if there is any. Raises StoreError."""
    wanted = frozenset(hashes)
    selectors = [Selector("")] if scopes is None else scope_selectors(scopes, scoped)
    keys: dict[RecordKey, None] = {}
    for one in sorted(wanted):
        if selectors:
            keys |= dict.fromkeys(store.blob_references(one, selectors, MAX_CANDIDATES))
    candidates = list(keys)[:MAX_CANDIDATES]
    for first in range(0, len(candidates), _LOOKED_UP_AT_ONCE):
        found = [
            Reference(key, fields)
            for key, fields in store.current_fields(candidates[first : first + _LOOKED_UP_AT_ONCE]).items()
            if refers(fields, wanted) and sees(scopes, key.collection, fields)
        ]
        if found:
            return found
    return []
