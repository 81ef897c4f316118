"""Who may see or edit a record: what a side channel asks, where no operation is at hand (scopes.md section 9).

Scopes often say so alone: `at once` is the answer that needs no look at the record, None where there is none.
"""

from __future__ import annotations

from kora_daemon.model.scope import READ_ONLY, Fields, ScopeMap, may_read, may_write


def sees_at_once(scopes: ScopeMap | None, collection: str) -> bool | None:
    """Whether records of a collection are seen, all of them or none; None: it depends on the record."""
    if scopes is None:
        return True
    where = scopes.get(collection)
    if where is None:
        return False
    return None if any(name != READ_ONLY for name in where) else True


def edits_at_once(scopes: ScopeMap | None, collection: str) -> bool | None:
    """Whether records of a collection may be edited, all of them or none; None: it depends on the record."""
    if scopes is not None and scopes.get(collection, {}).get(READ_ONLY):
        return False
    return sees_at_once(scopes, collection)


def edits_something(scopes: ScopeMap | None) -> bool:
    """Whether there are records that may be edited."""
    return scopes is None or any(not where.get(READ_ONLY) for where in scopes.values())


def sees(scopes: ScopeMap | None, collection: str, record: Fields | None) -> bool:
    """Whether a record is seen, which has these fields now (section 3, on the record alone)."""
    return may_read(scopes, collection, {}, record)


def edits(scopes: ScopeMap | None, collection: str, record: Fields | None) -> bool:
    """Whether a record may be edited without a change to its scope (section 4). One that is not there may not be."""
    return may_write(scopes, collection, record=record, data={}, previous={})
