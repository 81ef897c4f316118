"""What scopes.md (sections 2 to 5) allows and forbids, written down once more, as plainly as possible.

Knows nothing of the code that it is held against: operations are JSON values as they travel, records are folded here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

Sent = dict[str, Any]
Scopes = Mapping[str, Mapping[str, Any]] | None
Subsets = Sequence[tuple[str, Mapping[str, Any]]]
Verdict = Literal["yes", "no", "either"]

READ_ONLY = "__readonly"
NOTHING: Mapping[str, Any] = {}


def same(one: Any, other: Any) -> bool:
    """`===` of JavaScript, on JSON values."""
    if isinstance(one, list | dict) or isinstance(other, list | dict):
        return False
    if isinstance(one, bool) or isinstance(other, bool):
        return isinstance(one, bool) and isinstance(other, bool) and one == other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    return type(one) is type(other) and bool(one == other)


def fits(where: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Whether all the values are there; the flag is none of them."""
    for name, value in where.items():
        if name != READ_ONLY and (name not in fields or not same(fields[name], value)):
            return False
    return True


def effective(granted: Scopes, asked: Any) -> Scopes:
    """What a session lives with (section 2)."""
    wanted: dict[str, dict[str, Any]] | None = None
    if isinstance(asked, dict) and asked:
        wanted = {}
        for name, where in asked.items():
            fields = where if isinstance(where, dict) else {}
            wanted[name] = {field: value for field, value in fields.items() if field != READ_ONLY}
    if granted is None:
        return wanted
    if wanted is None:
        return granted
    result: dict[str, dict[str, Any]] = {}
    for name, where in granted.items():
        result[name] = {**wanted.get(name, {}), **where}
    return result


def told(scopes: Scopes) -> Any:
    """`acceptedScope`."""
    if scopes is None:
        return None
    return {name: {f: value for f, value in where.items() if f != READ_ONLY} for name, where in scopes.items()}


class Oracle:
    """A log, and everything that can be said about it.

    `fields` has the fields of the collections that have records; None where there is no schema.
    """

    def __init__(self, fields: Mapping[str, Collection[str]] | None) -> None:
        self._fields = fields
        self.log: list[Sent] = []
        """In the order of acceptance; a moment is the length of the log at that time."""
        self.ids: set[str] = set()

    @property
    def now(self) -> int:
        return len(self.log)

    def take(self, operation: Sent) -> None:
        """An operation is accepted."""
        self.log.append(operation)
        self.ids.add(operation["id"])

    def record(self, operation: Sent, moment: int | None = None, also: Sent | None = None) -> dict[str, Any] | None:
        """The record of an operation at a moment, deleted or not, with every field of the schema."""
        mine = [one for one in self.log[:moment] if _key(one) == _key(operation)]
        if also is not None:
            mine.append(also)
        if not mine:
            return None
        mine.sort(key=_clock)  # stable: equal ones in the order of acceptance
        state: dict[str, Any] = {}
        for one in mine:
            if one["data"] is not None and one["type"] != "delete":
                state = dict(one["data"]) if one["type"] == "insert" else {**state, **one["data"]}
        if self._fields is not None and operation["collection"] in self._fields:
            state = {name: state.get(name) for name in self._fields[operation["collection"]]}
        return {**state, "id": operation["recordId"]}

    # Section 3 and 5

    def may_read(
        self, scopes: Scopes, subsets: Subsets, operation: Sent, moment: int, *, by_record: bool = False
    ) -> bool:
        """Whether a session may be sent an operation, by the records of that moment."""
        collection = operation["collection"]
        record = self.record(operation, moment) or {}
        snapshot = {**record, **(operation["previousData"] or {}), **(operation["data"] or {})}
        scope = NOTHING
        if scopes is not None:
            if collection not in scopes:
                return False
            scope = scopes[collection]
            if by_record:
                snapshot |= {name: record[name] for name in scope if name in record}
                for name in scope:
                    if name not in record:
                        snapshot.pop(name, None)
            if not fits(scope, snapshot):
                return False
        wheres = [where for name, where in subsets if name == collection]
        return not wheres or any(fits(where, snapshot) for where in wheres)

    # Section 4

    def may_write(self, scopes: Scopes, operation: Sent) -> Verdict:
        """Whether a session may upload an operation now. "either" where the section leaves it open."""
        if operation["id"] in self.ids or scopes is None:
            return "yes"
        scope = scopes.get(operation["collection"])
        if scope is None or scope.get(READ_ONLY):
            return "no"
        if not scope:
            return "yes"
        data = operation["data"] or {}
        record = self.record(operation)
        if record is None:
            return "yes" if fits(scope, {**(operation["previousData"] or {}), **data}) else "no"
        if not fits(scope, record) or not fits(scope, {**record, **data}):
            return "no"
        result = self.record(operation, also=operation)
        assert result is not None
        if not fits(scope, result):
            return "no"  # so nobody moves a record out of a scope
        if operation["type"] == "insert" and not fits(scope, data):
            return "either"  # a late one: later writes have said again what it leaves out
        return "yes"


def _key(operation: Sent) -> tuple[str, str]:
    return operation["collection"], operation["recordId"]


def _clock(operation: Sent) -> tuple[int, int, str]:
    timestamp = operation["timestamp"]
    return timestamp["wallTime"], timestamp["logical"], timestamp["nodeId"]
