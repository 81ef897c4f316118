"""What part of the log a session asked for: its own scope and its query subsets (scopes.md sections 2 and 5).

Both come from the client and limit its own downloads; neither protects anybody. An operation is judged by what it
carries and by its stamp (`materialization.stamp`). One without a stamp, from a log without a schema, is left out only
when it says itself that it lies outside.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from kora_daemon.model.jsvalue import strictly_equal

Where = Mapping[str, Any]
Alternatives = tuple[Where, ...]


class View:
    """A filter over operations. Equal views (same `key`) share pages, batches and frames."""

    __slots__ = ("_alternatives", "_compiled", "_scope", "key", "unrestricted")

    def __init__(self, scope: Mapping[str, Where] | None = None, subsets: tuple[tuple[str, Where], ...] = ()) -> None:
        self._scope = scope
        self._alternatives: dict[str, list[Where]] = {}
        for collection, where in subsets:
            self._alternatives.setdefault(collection, []).append(where)
        self._compiled: dict[str, Alternatives | None] = {}
        self.unrestricted = scope is None and not subsets
        self.key = "" if self.unrestricted else json.dumps([scope, sorted(subsets, key=repr)], sort_keys=True)

    def conditions(self, collection: str) -> Alternatives | None:
        """None: the collection is hidden. Otherwise any of the alternatives has to match; none = all visible."""
        scope: Where = {}
        if self._scope is not None:
            if collection not in self._scope:
                return None
            scope = self._scope[collection]
        wheres = self._alternatives.get(collection)
        if wheres is None:
            return (scope,) if scope else ()
        if collection not in self._compiled:
            fitting = tuple({**where, **scope} for where in wheres if not contradicts(scope, where))
            self._compiled[collection] = fitting or None
        return self._compiled[collection]

    def admits(self, collection: str, fields: Mapping[str, Any]) -> bool:
        """Whether an operation with these fields (previous data under data) may lie inside the client's own scope."""
        if self._scope is None:
            return True
        return collection in self._scope and not contradicts(self._scope[collection], fields)


def contradicts(where: Where, fields: Mapping[str, Any], unknown: Collection[str] | None = None) -> bool:
    """Whether a record with these fields does not have the values of `where`.

    Fields that are missing are null, but for those named in `unknown`, which contradict nothing; None names them all.
    """
    for name, value in where.items():
        if name in fields:
            if not strictly_equal(fields[name], value):
                return True
        elif unknown is not None and value is not None and name not in unknown:
            return True
    return False
