"""A store with its pipeline, and schemas with constraints and relations, for tests of the judgement on operations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Raw, UnsetType

from kora_daemon.apply.authority import Authority
from kora_daemon.apply.pipeline import ApplyRules, BatchOutcome, Pipeline
from kora_daemon.apply.trusted import TrustedOutcome, TrustedWrite, commit_trusted
from kora_daemon.model.operation import Operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.record import Record
from kora_daemon.model.schema import Constraint, ConstraintType, OnDelete, Relation, Schema
from kora_daemon.model.scope import ScopeMap
from kora_daemon.store.contract import Store
from tests.support.log import RECEIVED_AT_MS
from tests.support.records import bring_to
from tests.support.stores import RECORD_STORES

SERVER = "server-node"
JUDGED_ON = ("memory", "sqlite")
"""The stores that the judgement is tested on. Where it is up to their columns, it is tested on all of them."""


def relation(name: str, source: str, target: str, on_delete: OnDelete = "cascade") -> Relation:
    """`source` is "collection.field"; its records point at those of `target`."""
    collection, field = source.split(".")
    return Relation(name=name, from_collection=collection, field=field, to_collection=target, on_delete=on_delete)


def constraint(kind: ConstraintType, *fields: str, **where: Any) -> Constraint:
    """`where` is what the constraint asks of a candidate, or the `collection` that it refers to."""
    return Constraint(type=kind, fields=fields, where=where)


def with_relations(schema: Schema, *relations: Relation) -> Schema:
    """The schema with these relations and no others."""
    return replace(schema, relations={one.name: one for one in relations})


def with_constraints(schema: Schema, **constraints: Sequence[Constraint]) -> Schema:
    """The schema with these constraints: collection -> constraints."""
    changed = {name: replace(schema.collections[name], constraints=tuple(ones)) for name, ones in constraints.items()}
    return replace(schema, collections={**schema.collections, **changed})


class Judge:
    """A store, and the pipeline that everything passes through. Its clock stands still unless a test moves it."""

    def __init__(self, store: Store, schema: Schema | None = None, cascade_levels: int = 1) -> None:
        self.store = store
        self.now_ms = RECEIVED_AT_MS
        self.schema = schema
        if schema is not None:
            bring_to(store, schema)
        self.pipeline = Pipeline(store.node_id, ApplyRules(schema, cascade_levels))

    @classmethod
    def on(cls, kind: str, folder: Path, schema: Schema | None = None, cascade_levels: int = 1) -> Judge:
        """On a new store of this kind, whose node id is `SERVER`."""
        store = RECORD_STORES[kind](folder, SERVER)
        store.open()
        return cls(store, schema, cascade_levels)

    def batches(
        self, *batches: Sequence[Operation], authorities: Sequence[Authority | None] | None = None
    ) -> list[BatchOutcome]:
        """Batches of several sessions, as one write."""
        with self.store.transaction() as tx:
            return self.pipeline.apply_batches(tx, batches, self.now_ms, authorities)

    def batch(self, *operations: Operation) -> BatchOutcome:
        """One batch, as a write of its own."""
        (outcome,) = self.batches(operations)
        return outcome

    def takes(self, *operations: Operation) -> list[Operation]:
        """One batch, of which nothing is refused: what was applied, effects included."""
        outcome = self.batch(*operations)
        assert outcome.rejections == []
        return [entry.operation for entry in outcome.applied]

    def effects(self, operation: Operation) -> list[Operation]:
        """What an operation brings about."""
        applied, *effects = self.takes(operation)
        assert applied.id == operation.id
        return effects

    def refuses(self, operation: Operation) -> Rejection:
        """One operation, which is refused: how."""
        outcome = self.batch(operation)
        assert outcome.applied == []
        (rejection,) = outcome.rejections
        assert (rejection.operation_id, rejection.collection, rejection.record_id, rejection.retriable) == (
            operation.id,
            operation.collection,
            operation.record_id,
            False,
        )
        return rejection

    def write(self, wanted: TrustedWrite, scopes: ScopeMap | None = None) -> TrustedOutcome:
        """A write by the server's own side, within these scopes."""
        return commit_trusted(self.store, self.pipeline, wanted, self.now_ms, scopes)

    def written(self, wanted: TrustedWrite) -> list[Operation]:
        """The same, which is applied: the operations made of it."""
        outcome = self.write(wanted)
        assert (outcome.result, outcome.rejection) == ("applied", None)
        return [entry.operation for entry in outcome.applied]

    def live(self, collection: str) -> dict[str, Record]:
        """The live records of a collection by id, without their times and what is null."""
        hidden = ("id", "_created_at", "_updated_at")
        return {
            str(record["id"]): {n: value for n, value in record.items() if value is not None and n not in hidden}
            for record in self.store.query_collection(collection)
        }

    def record(self, collection: str, record_id: str) -> Record:
        """A live record."""
        found = self.store.find_record(collection, record_id)
        assert found is not None
        return found

    def everything(self) -> tuple[Any, ...]:
        """All that a write may leave behind: what fails must leave this as it was."""
        log = [(entry.sequence, entry.operation.id, entry.stamp) for entry in self.store.entries_after(0, 1_000_000)]
        names = () if self.schema is None else self.schema.collections
        with self.store.transaction() as tx:
            keys = {(name, one) for name in tx.shapes for one in tx.record_ids(name, None, 1_000_000, "states")}
        return log, self.store.version_vector(), {name: self.live(name) for name in names}, keys


MakeJudge = Callable[..., Judge]
"""Called with a schema, or none, and how many levels deletes go down."""


def value_of(text: Raw | UnsetType) -> Any:
    """What a member of an operation says, None for an absent one."""
    return None if isinstance(text, UnsetType) else json.loads(bytes(text))


def told(operation: Operation) -> tuple[str, Mapping[str, Any] | None]:
    """An operation in short: ("delete files/a", None), ("update files/a", {"folder": None})."""
    return f"{operation.type} {operation.collection}/{operation.record_id}", value_of(operation.data)


def places(operations: Sequence[Operation]) -> list[str]:
    """The operations in short, without their data."""
    return [told(one)[0] for one in operations]
