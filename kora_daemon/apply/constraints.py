"""Constraints on inserts and updates (store.md section 6.2)."""

from __future__ import annotations

from typing import Any

from kora_daemon.apply.work import Work
from kora_daemon.materialization.columns import column_value
from kora_daemon.materialization.conditions import Condition, Special, constraint_operand, holds, operand
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.model.schema import Collection, Constraint, Kind

Candidate = dict[str, Any]


def constraint_problem(work: Work, collection: Collection, operation: Operation, data: JsonValue) -> str | None:
    """Which constraint the operation would violate were it the newest of its record, in words; None for none.

    Constraints are tried in the schema's order.
    """
    if not collection.constraints or not isinstance(data, dict):
        return None
    candidate = dict(data)
    if operation.type == "update":
        # Also what a deleted record has left: the update brings it back.
        state = work.state(RecordKey(collection.name, operation.record_id))
        candidate = {**(state.fields if state is not None else {}), **data}
    candidate["id"] = operation.record_id
    for constraint in collection.constraints:
        problem = _CHECKS[constraint.type](work, collection, constraint, candidate)
        if problem is not None:
            return problem
    return None


def _unique(work: Work, collection: Collection, constraint: Constraint, candidate: Candidate) -> str | None:
    same = [_same(work, collection, name, candidate.get(name)) for name in constraint.fields]
    if any(one.operand is Special.NULL for one in same) or not _applies(work, collection, constraint, candidate):
        return None
    if all(found == candidate["id"] for found in work.live_ids(collection.name, same, limit=2)):
        return None
    return f"another record of {collection.name} has the same {' and '.join(constraint.fields)}"


def _capacity(work: Work, collection: Collection, constraint: Constraint, candidate: Candidate) -> str | None:
    if not _applies(work, collection, constraint, candidate):
        return None
    group = [_same(work, collection, name, candidate.get(name)) for name in constraint.fields]
    group += [_asked(work, collection, name, value) for name, value in constraint.where.items()]
    if len(work.live_ids(collection.name, group, limit=2)) <= 1:
        return None
    return f"two records of {collection.name} have the same {' and '.join(constraint.fields)} already"


def _referential(work: Work, collection: Collection, constraint: Constraint, candidate: Candidate) -> str | None:
    target = constraint.refers_to
    wanted = candidate.get(constraint.fields[0])
    if target is None or wanted is None:
        return None
    condition = Condition("id", "string", operand("string", wanted, work.dialect))
    if condition.operand is not Special.NOTHING and work.live_ids(target, [condition], limit=1):
        return None
    return f"{collection.name}.{constraint.fields[0]} must be the id of a record of {target}"


_CHECKS = {"unique": _unique, "capacity": _capacity, "referential": _referential}


def _applies(work: Work, collection: Collection, constraint: Constraint, candidate: Candidate) -> bool:
    """Whether the candidate equals all of the constraint's `where`."""
    for name, value in constraint.where.items():
        column = column_value(_kind(collection, name), candidate.get(name), work.dialect)
        if not holds(_asked(work, collection, name, value).operand, column):
            return False
    return True


def _same(work: Work, collection: Collection, name: str, value: JsonValue) -> Condition:
    kind = _kind(collection, name)
    return Condition(name, kind, constraint_operand(kind, value, work.dialect))


def _asked(work: Work, collection: Collection, name: str, value: JsonValue) -> Condition:
    kind = _kind(collection, name)
    return Condition(name, kind, operand(kind, value, work.dialect))


def _kind(collection: Collection, name: str) -> Kind:
    field = collection.fields.get(name)
    return "string" if field is None else field.kind
