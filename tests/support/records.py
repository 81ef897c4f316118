"""Schemas, operations and short ways through a store, for tests of records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import pytest
from msgspec import UNSET, Raw

from kora_daemon.apply.pipeline import Pipeline
from kora_daemon.apply.refill import Progress, refill
from kora_daemon.materialization.conditions import conditions
from kora_daemon.materialization.fold import RecordState, fold
from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.operation import NULL, Operation, OperationType, Timestamp
from kora_daemon.model.record import Record, RecordKey, RecordQuery
from kora_daemon.model.schema import Collection, Field, Kind, Schema
from kora_daemon.store.contract import Store, WriteTransaction
from tests.support.log import RECEIVED_AT_MS

Fields = Mapping[str, Any]
T = TypeVar("T")


def schema_of(
    version: int = 1, /, *, scope: Sequence[str] = (), indexes: Sequence[str] = (), **collections: Mapping[str, Kind]
) -> Schema:
    """A schema with these collections: name -> field -> kind. `scope` and `indexes` are those of all of them."""
    return Schema(
        version=version,
        collections={
            name: Collection(
                name=name,
                fields={field: Field(name=field, kind=kind) for field, kind in kinds.items()},
                scope=tuple(scope),
                indexes=tuple(indexes),
            )
            for name, kinds in collections.items()
        },
    )


TODOS = schema_of(todos={"title": "string", "n": "number"})


class Node:
    """Writes operations, each later than the one before unless `at` gives its wall time."""

    def __init__(self, name: str = "node-a") -> None:
        self.name = name
        self.count = 0

    def insert(self, record_id: str, data: Fields | None, **more: Any) -> Operation:
        return self.write("insert", record_id, data, **more)

    def update(self, record_id: str, data: Fields | None, **more: Any) -> Operation:
        return self.write("update", record_id, data, **more)

    def delete(self, record_id: str, **more: Any) -> Operation:
        return self.write("delete", record_id, None, **more)

    def write(
        self,
        kind: OperationType,
        record_id: str,
        data: Fields | None,
        *,
        at: int | tuple[int, int, str] | None = None,
        collection: str = "todos",
        atomic: Fields | None = None,
    ) -> Operation:
        """`at` is a wall time, or a whole timestamp; lone surrogates in the data are written as escapes."""
        self.count += 1
        wall_time = self.count if at is None else at
        place = wall_time if isinstance(wall_time, tuple) else (wall_time, 0, self.name)
        return Operation(
            f"{self.name}:{self.count}",
            self.name,
            kind,
            collection,
            record_id,
            Timestamp(*place),
            self.count,
            [],
            1,
            data=_raw(data),
            previous_data=NULL,
            atomic_ops=UNSET if atomic is None else _raw(atomic),
        )


def _raw(members: Fields | None) -> Raw:
    return NULL if members is None else Raw(json.dumps(members).encode())


def key_of(operation: Operation) -> RecordKey:
    return RecordKey(operation.collection, operation.record_id)


def key(record_id: str, collection: str = "todos") -> RecordKey:
    return RecordKey(collection, record_id)


def append(tx: WriteTransaction, *operations: Operation) -> list[int]:
    """Append as another server would, that knows nothing of records."""
    return tx.append(operations, RECEIVED_AT_MS)


def put(tx: WriteTransaction, *operations: Operation) -> None:
    """Append, and save what becomes of the records that have a table."""
    append(tx, *operations)
    keys = {key_of(one) for one in operations if one.collection in tx.shapes}
    tx.save({one: fold(tx.history(one)) for one in keys})


def commit(store: Store, *operations: Operation) -> None:
    """`put` in a transaction of its own."""
    with store.transaction() as tx:
        put(tx, *operations)


def apply(store: Store, *operations: Operation) -> list[LogEntry]:
    """Through the pipeline, unjudged, as one batch; the entries made of them."""
    with store.transaction() as tx:
        (outcome,) = Pipeline(store.node_id).apply_batches(tx, [operations], RECEIVED_AT_MS)
    assert outcome.rejections == []
    return outcome.applied


def bring_to(store: Store, schema: Schema, *, allow_destructive: bool = False) -> None:
    """Upgrade, and make all rows again that need it."""
    store.upgrade(schema, allow_destructive=allow_destructive)
    refill_all(store)


def refill_all(store: Store) -> list[Progress]:
    """All the steps of making rows again; there is an end to them."""
    steps = list(islice(refill(store), 1_000))
    assert len(steps) < 1_000
    return steps


def live(store: Store, collection: str = "todos") -> list[Record]:
    """The live records, by id."""
    return store.query_collection(collection)


def tombstones(store: Store, collection: str = "todos") -> list[Record]:
    """The records that are not live, by id."""
    return store.query_collection(collection, RecordQuery({"_deleted": 1}, include_deleted=True))


def titles(store: Store) -> dict[str, Any]:
    """Record id -> title of the live todos."""
    return {record["id"]: record["title"] for record in live(store)}


def states(store: Store, keys: Iterable[RecordKey]) -> dict[RecordKey, RecordState]:
    """The states of records, as a transaction of their own reads them."""
    with store.transaction() as tx:
        return tx.states(keys)


def stamps(store: Store) -> dict[str, Any]:
    """Operation id -> its stamp, parsed, None for none; of the whole log."""
    return {
        entry.operation.id: None if entry.stamp is None else json.loads(entry.stamp)
        for entry in store.entries_after(0, 1_000_000)
    }


def live_ids(
    tx: WriteTransaction, schema: Schema, where: Fields, limit: int | None = None, collection: str = "todos"
) -> list[str]:
    """The ids of live records with these values."""
    return tx.live_ids(collection, conditions(schema.collections[collection], where, tx.dialect), limit)


def fail_after(
    store: Store, *changes: Callable[[WriteTransaction], object], failure: type[Exception] = RuntimeError
) -> None:
    """A transaction that makes these changes and then fails."""

    def write() -> None:
        with store.transaction() as tx:
            for change in changes:
                change(tx)
            raise failure

    with pytest.raises(failure):
        write()


def inside(store: Store, question: Callable[[WriteTransaction], T]) -> T:
    """The answer of a transaction of its own."""
    with store.transaction() as tx:
        return question(tx)
