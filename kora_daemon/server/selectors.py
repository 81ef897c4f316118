"""From a view to the parts of the log that can be in it, as the scope index finds them (scopes.md section 12)."""

from __future__ import annotations

from kora_daemon.materialization.scope_keys import MAX_SELECTORS, Selector, scope_key
from kora_daemon.model.scope import ScopeMap, Where, plain_where
from kora_daemon.model.view import View
from kora_daemon.server.visible import NO_FIELDS, ScopedFields


def page_selectors(view: View, scoped: ScopedFields) -> list[Selector] | None:
    """Selectors that find at least what the view shows; None where the index is of no help.

    A view that is not limited to some collections is one: whatever else there is would have to be looked for.
    """
    if view.scopes is None:
        return None
    chosen: list[Selector] = []
    for collection in view.scopes:
        rule = view.rule(collection)
        if rule is not None:
            for where in rule.alternatives or ({},):
                chosen.append(_selector(collection, where, scoped))
    return None if len(chosen) > MAX_SELECTORS else _fewest(chosen)


def author_selectors(view: View, scoped: ScopedFields) -> list[Selector] | None:
    """Selectors that find at least what lies in the view's scopes, and little more; None where the index can't tell."""
    scopes = view.scopes or {}
    known = all(where.keys() <= scoped.get(name, NO_FIELDS) for name, where in scopes.items())
    if not known or len(scopes) > MAX_SELECTORS:
        return None
    return [_selector(collection, where, scoped) for collection, where in scopes.items()]


def scope_selectors(scopes: ScopeMap, scoped: ScopedFields) -> list[Selector]:
    """Selectors that find at least what lies in the scopes; what they find has to be judged.

    With keys of other things put to them, those that have none of their own are all the same.
    """
    chosen = [_selector(name, plain_where(where), scoped) for name, where in scopes.items()]
    if len(chosen) > MAX_SELECTORS:
        return [Selector("")]
    return [one for one in chosen if one.keys] + ([Selector("")] if any(not one.keys for one in chosen) else [])


def _selector(collection: str, where: Where, scoped: ScopedFields) -> Selector:
    indexed = scoped.get(collection, NO_FIELDS)
    keys = (scope_key(collection, field, value) for field, value in where.items() if field in indexed)
    return Selector(collection, tuple(key for key in keys if key is not None))


def _fewest(selectors: list[Selector]) -> list[Selector]:
    """A selector of a whole collection makes all others of it needless."""
    whole = {one.collection for one in selectors if not one.keys}
    return [one for one in dict.fromkeys(selectors) if not one.keys or one.collection not in whole]
