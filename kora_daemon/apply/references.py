"""What a delete does to the records that point at the deleted one (store.md section 6.3)."""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from kora_daemon.apply.work import Work
from kora_daemon.materialization.conditions import Condition, operand
from kora_daemon.model.record import RecordKey
from kora_daemon.model.schema import Relation, Schema


class Effect(NamedTuple):
    """An operation that a delete brings about: a delete, or the update that empties `field`.

    `cause` is the place in the plan of the delete that it follows from, None for the one that started all.
    """

    type: Literal["delete", "update"]
    key: RecordKey
    field: str
    cause: int | None


class Restricted(Exception):
    """A record that may not lose what it points at; `relation` says so."""

    def __init__(self, relation: Relation, record_id: str) -> None:
        super().__init__(relation.name)
        self.relation = relation
        self.record_id = record_id


def plan_effects(work: Work, schema: Schema, deleted: RecordKey, levels: int) -> list[Effect]:
    """The effects of deleting a record, in order; those of deletes that are effects themselves up to `levels` deep.

    Raises `Restricted`, and then nothing may happen at all. A record is deleted only once on the way down, so rings
    come to an end; one that is reached through two relations of the same record gets an operation for each.
    """
    effects: list[Effect] = []
    visited = {deleted}
    pending: deque[tuple[RecordKey, int | None, int]] = deque([(deleted, None, 1)])
    while pending:
        target, cause, level = pending.popleft()
        for relation in schema.relations_to.get(target.collection, ()):
            for effect in _effects_of(work, schema, relation, target, cause):
                if effect.type == "update" and effect.key in visited:
                    continue  # an update would bring it back to life
                if effect.type == "delete":
                    if level > 1 and effect.key in visited:
                        continue
                    if level < levels and effect.key not in visited:
                        pending.append((effect.key, len(effects), level + 1))
                    visited.add(effect.key)
                effects.append(effect)
    return effects


def _effects_of(work: Work, schema: Schema, relation: Relation, target: RecordKey, cause: int | None) -> list[Effect]:
    if relation.on_delete == "no-action":
        return []
    source = schema.collections[relation.from_collection]
    kind = source.fields[relation.field].kind
    pointing = [Condition(relation.field, kind, operand(kind, target.record_id, work.dialect))]
    found = work.live_ids(source.name, pointing, limit=1 if relation.on_delete == "restrict" else None)
    if found and relation.on_delete == "restrict":
        raise Restricted(relation, found[0])
    action: Literal["delete", "update"] = "delete" if relation.on_delete == "cascade" else "update"
    return [Effect(action, RecordKey(source.name, record_id), relation.field, cause) for record_id in found]
