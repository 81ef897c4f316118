"""The statement that finds the operations of selectors, in either dialect. Parameters are `?`."""

from __future__ import annotations

from collections.abc import Sequence

from kora_daemon.materialization.blobs import blob_key
from kora_daemon.materialization.scope_keys import Selector

ENDLESS = 2**62
"""Above all delivery sequences."""


def with_blob(selectors: Sequence[Selector], hexadecimal: str) -> list[Selector]:
    """Selectors of those among the operations that refer to a hash."""
    return [Selector(collection, (blob_key(hexadecimal), *keys)) for collection, keys in selectors]


def selection(selectors: Sequence[Selector], after: int, upto: int, limit: int | None) -> tuple[str, list[int | str]]:
    """The statement for the delivery sequences in (after, upto] that selectors select, ascending, and its bindings."""
    parts: list[str] = []
    bindings: list[int | str] = []
    for collection, keys in selectors:
        source = "kora_scopes" if keys else "operations"
        column = "key" if keys else "collection"
        also = "".join(
            " AND EXISTS (SELECT 1 FROM kora_scopes AS o WHERE o.key = ? AND o.delivery_seq = kora_scopes.delivery_seq)"
            for _ in keys[1:]
        )
        part = f"SELECT delivery_seq FROM {source} WHERE {column} = ? AND delivery_seq > ? AND delivery_seq <= ?{also}"
        bindings += [keys[0] if keys else collection, after, upto, *keys[1:]]
        parts.append(part if limit is None else f"SELECT * FROM ({part} ORDER BY delivery_seq LIMIT {limit}) AS part")
    text = " UNION ".join(parts)
    return (text if limit is None else f"{text} ORDER BY delivery_seq LIMIT {limit}"), bindings
