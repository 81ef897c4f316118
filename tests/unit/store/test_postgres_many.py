"""Several stores that write to one PostgreSQL database at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, Event
from typing import Any

import pytest

from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.apply.refill import refill
from kora_daemon.model.operation import Operation
from kora_daemon.model.schema import Constraint, Relation, Schema
from kora_daemon.store.postgres import PostgresStore
from tests.support.log import RECEIVED_AT_MS, append, log_ids, operation, operations
from tests.support.postgres import server
from tests.support.records import Node, bring_to, live, schema_of

ROUNDS = 200


@pytest.fixture
def opened() -> Iterator[Callable[[], PostgresStore]]:
    url = server().schema()
    stores: list[PostgresStore] = []

    def open_one() -> PostgresStore:
        stores.append(PostgresStore(url))
        stores[-1].open()
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """The results of jobs that run in a thread each."""
    start = Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        start.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as threads:
        return [made.result(timeout=60) for made in [threads.submit(run, job) for job in jobs]]


def test_a_reader_never_sees_a_sequence_before_a_smaller_one(opened: Callable[[], PostgresStore]) -> None:
    groups, size = 60, 5
    looking, done = Event(), Event()
    reading, *writing = opened(), opened(), opened()

    def write(store: PostgresStore, node: str) -> list[int]:
        given: list[int] = []
        for first in range(1, groups * size, size):
            given += append(store, *operations(range(first, first + size), node))
        return given

    def read() -> int:
        seen = looks = 0
        while not done.is_set() or seen < 2 * groups * size:
            frontier = reading.frontier()
            found = [entry.sequence for entry in reading.entries_after(seen, 10_000)]
            assert found == list(range(seen + 1, seen + 1 + len(found)))
            assert len(found) % size == 0
            seen += len(found)
            assert seen >= frontier
            looks += 1
            looking.set()
        return looks

    with ThreadPoolExecutor(1) as thread:
        reader = thread.submit(read)
        assert looking.wait(60)
        given = at_once(*(lambda s=store, n=n: write(s, f"node-{n}") for n, store in enumerate(writing)))
        done.set()
        assert reader.result(timeout=60) > 1
    assert sorted(given[0] + given[1]) == list(range(1, 2 * groups * size + 1))
    assert reading.version_vector() == {"node-0": groups * size, "node-1": groups * size}


def test_what_several_devices_send_to_several_servers_is_stored_once(opened: Callable[[], PostgresStore]) -> None:
    stores = [opened(), opened()]
    sent = operations(range(1, ROUNDS + 1))

    def upload(store: PostgresStore) -> int:
        applied = 0
        for one in sent:
            with store.transaction() as tx:
                (outcome,) = Pipeline(store.node_id).apply_batches(tx, [[one]], RECEIVED_AT_MS)
            applied += len(outcome.applied)
            assert outcome.rejections == []
        return applied

    assert sum(at_once(*(lambda s=store: upload(s) for store in stores))) == ROUNDS
    assert log_ids(stores[0]) == [one.id for one in sent]
    assert stores[0].frontier() == ROUNDS


def constrained(schema: Schema, *constraints: Constraint, relations: dict[str, Relation] | None = None) -> Schema:
    todos = replace(schema.collections["todos"], constraints=constraints)
    return replace(schema, collections={**schema.collections, "todos": todos}, relations=relations or {})


def test_no_two_records_get_through_a_unique_constraint(opened: Callable[[], PostgresStore]) -> None:
    stores = [opened(), opened()]
    schema = constrained(schema_of(1, todos={"title": "string"}), Constraint(type="unique", fields=("title",)))
    bring_to(stores[0], schema)
    stores[1].use_schema(schema)
    start = Barrier(2)

    def upload(store: PostgresStore, node: Node) -> int:
        pipeline, refused = Pipeline(store.node_id, ApplyRules(schema)), 0
        for number in range(ROUNDS):
            start.wait(timeout=60)
            with store.transaction() as tx:
                sent = node.insert(f"{node.name} {number}", {"title": str(number)})
                (outcome,) = pipeline.apply_batches(tx, [[sent]], RECEIVED_AT_MS)
            refused += len(outcome.rejections)
        return refused

    refused = at_once(*(lambda s=store, n=n: upload(s, Node(n)) for store, n in zip(stores, "ab", strict=True)))
    assert sum(refused) == ROUNDS
    assert sorted(record["title"] for record in live(stores[0])) == sorted(map(str, range(ROUNDS)))


def test_cascades_of_two_servers_share_one_row_of_sequence_numbers(opened: Callable[[], PostgresStore]) -> None:
    stores = [opened(), opened()]
    schema = constrained(
        schema_of(1, todos={"list": "string"}, lists={"name": "string"}),
        relations={
            "of": Relation(name="of", from_collection="todos", to_collection="lists", field="list", on_delete="cascade")
        },
    )
    bring_to(stores[0], schema)
    stores[1].use_schema(schema)
    node = Node("device")
    made = [node.insert(str(n), {"name": "x"}, collection="lists") for n in range(40)]
    made += [node.insert(f"{n} {m}", {"list": str(n)}) for n in range(40) for m in range(3)]
    run(stores[0], schema, made)

    def delete(store: PostgresStore, which: range) -> None:
        author = Node(f"device {which.start}")
        for number in which:
            run(store, schema, [author.delete(str(number), collection="lists", at=1_000 + number)])

    at_once(lambda: delete(stores[0], range(0, 40, 2)), lambda: delete(stores[1], range(1, 40, 2)))
    assert stores[0].node_id == stores[1].node_id
    effects = stores[1].operation_range(stores[1].node_id, 1, 1_000)
    assert [one.sequence_number for one in effects] == list(range(1, 121))
    assert len({one.id for one in effects}) == 120
    assert live(stores[0]) == live(stores[1], "lists") == []


def run(store: PostgresStore, schema: Schema, sent: list[Operation]) -> None:
    with store.transaction() as tx:
        (outcome,) = Pipeline(store.node_id, ApplyRules(schema)).apply_batches(tx, [sent], RECEIVED_AT_MS)
    assert outcome.rejections == []


def test_rows_are_made_again_while_others_write(opened: Callable[[], PostgresStore]) -> None:
    stores = [opened(), opened()]
    node, schema = Node(), schema_of(1, todos={"title": "string"})
    append(stores[0], *(node.insert(f"{n:03}", {"title": "old"}) for n in range(700)))
    stores[0].upgrade(schema)
    stores[1].use_schema(schema)
    late = Node("late")

    def update() -> None:
        for number in range(0, 700, 7):
            run(stores[1], schema, [late.update(f"{number:03}", {"title": "new"}, at=10_000 + number)])

    at_once(lambda: list(refill(stores[0])), update)
    list(refill(stores[1]))
    assert [record["title"] for record in live(stores[0])] == ["new" if n % 7 == 0 else "old" for n in range(700)]


def test_the_log_is_replaced_under_the_eyes_of_the_others(opened: Callable[[], PostgresStore]) -> None:
    stores = [opened(), opened()]
    append(stores[0], *operations(range(1, 6)))
    with stores[1].snapshot() as before:
        with stores[0].transaction() as tx:
            tx.replace_log({"node-b": 3})
            tx.append(operations(range(1, 3), "node-b"), RECEIVED_AT_MS)
        assert len(list(before.operations())) == 5
    assert (stores[1].frontier(), stores[1].floor(), log_ids(stores[1])) == (6, 6, ["node-b:1", "node-b:2"])
    assert append(stores[1], operation(1)) == [7]
    assert append(stores[0], operation(2)) == [8]
