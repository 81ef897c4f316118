"""What part of the log a session is sent: its effective scopes and its query subsets (scopes.md sections 2, 3 and 5).

Scopes protect; subsets are a client's own choice on top of them. An operation is judged by what it carries, over what
its record is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from kora_daemon.model.jsvalue import strictly_equal
from kora_daemon.model.scope import Fields, ScopeMap, Where, accepted_scope, matches

Subsets = tuple[tuple[str, Where], ...]
"""Live queries: collection and the values that its records must have, any of those of a collection."""


class Rule(NamedTuple):
    """When operations of a collection are shown: any of `alternatives` has to match, all are shown when there is none.

    `fields` are those that decide. What an operation says itself about those in `by_record` does not count, only what
    the record is.
    """

    alternatives: tuple[Where, ...]
    fields: frozenset[str]
    by_record: frozenset[str] = frozenset()
    checked: tuple[Where, ...] | None = None
    """What a stock client compares an operation with once more before it applies it; None = with nothing."""

    def shows(self, carried: Fields, record: Fields | None) -> bool:
        """Whether an operation with these fields (its data over its previous data) is shown.

        `record` has the fields of its record, None where there is no record.
        """
        return not self.alternatives or any(self._fits(where, carried, record) for where in self.alternatives)

    def stands_alone(self, carried: Fields) -> bool:
        """Whether a stock client applies an operation with these fields though it does not have its record.

        It drops one without any fields whatever it is compared with.
        """
        return self.checked is None or (bool(carried) and any(matches(where, carried) for where in self.checked))

    def _fits(self, where: Where, carried: Fields, record: Fields | None) -> bool:
        for name, value in where.items():
            if name in carried and (record is None or name not in self.by_record):
                found = carried[name]
            elif record is not None and name in record:
                found = record[name]
            else:
                return False
            if not strictly_equal(found, value):
                return False
        return True


class View:
    """A filter over operations. Equal views (same `key`) share pages, batches and frames.

    `by_record`: scopes go by what a record is now, whatever its operations said about it when they were written.
    """

    __slots__ = ("_alternatives", "_rules", "by_record", "key", "scopes", "unrestricted")

    def __init__(self, scopes: ScopeMap | None = None, subsets: Subsets = (), *, by_record: bool = False) -> None:
        self.scopes = None if scopes is None else accepted_scope(scopes)
        self.by_record = by_record
        self._alternatives: dict[str, list[Where]] = {}
        for collection, where in subsets:
            self._alternatives.setdefault(collection, []).append(where)
        self._rules: dict[str, Rule | None] = {}
        self.unrestricted = scopes is None and not subsets
        self.key = "" if self.unrestricted else _text([self.scopes, sorted(map(_text, subsets)), by_record])

    def rule(self, collection: str) -> Rule | None:
        """When operations of a collection are shown; None = never."""
        if collection not in self._rules:
            # The names may be anybody's.
            if len(self._rules) > 1_000:
                self._rules.clear()
            self._rules[collection] = self._compiled(collection)
        return self._rules[collection]

    def _compiled(self, collection: str) -> Rule | None:
        scope: Where = {}
        if self.scopes is not None:
            if collection not in self.scopes:
                return None
            scope = self.scopes[collection]
        wheres = self._alternatives.get(collection)
        if wheres is None:
            alternatives: tuple[Where, ...] = (scope,) if scope else ()
        else:
            alternatives = tuple({**where, **scope} for where in wheres if not _contradict(scope, where))
            if not alternatives:
                return None
            if {} in alternatives:
                alternatives = ()
        fields = frozenset(name for where in alternatives for name in where)
        if self.by_record:
            return Rule(alternatives, fields, frozenset(scope), None if wheres is None else tuple(wheres))
        checked = alternatives if wheres is None else alternatives or ({},)
        return Rule(alternatives, fields, checked=checked or None)


def _contradict(scope: Where, where: Where) -> bool:
    return any(name in where and not strictly_equal(where[name], value) for name, value in scope.items())


def _text(value: Any) -> str:  # noqa: ANN401  any JSON value
    return json.dumps(value, sort_keys=True)


def scope_fingerprint(scopes: Mapping[str, Where] | None) -> str:
    """A text that is equal for equal scopes, whatever the order of their parts; "" for none."""
    return "" if scopes is None else _text(accepted_scope(scopes))
