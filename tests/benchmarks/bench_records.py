"""What records cost: ingest with a schema beside ingest without, and the long jobs on a large log.

`python -m tests.benchmarks.bench_records [OPERATIONS] [RECORDS] [FOLDER]`: by default 1,000,000 operations on 100,000
records, in a temporary folder. SQLite, durability full, one process; CPU is this process's, memory its resident set.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path

from msgspec import Raw

from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.apply.refill import refill
from kora_daemon.maintenance import begin_backfill
from kora_daemon.model.identity import uuid7
from kora_daemon.model.operation import Operation, OperationType, Timestamp
from kora_daemon.model.schema import Collection, Field, Schema
from kora_daemon.store.sqlite import SqliteStore

START_MS = 1_700_000_000_000
GROUP = 400
"""Operations in a write: what four uploads of 100 come to."""
LONG_HISTORY = 10_000
CHECKPOINT_EVERY = 25

FIELDS = [
    Field(name="title", kind="string"),
    Field(name="notes", kind="string"),
    Field(name="priority", kind="number"),
    Field(name="completed", kind="boolean"),
    Field(name="userId", kind="string"),
]


def schema(version: int = 1, *more: Field) -> Schema:
    """The collection `todos`, with two indexes of its own."""
    fields = {field.name: field for field in (*FIELDS, *more)}
    return Schema(
        version=version,
        collections={"todos": Collection(name="todos", fields=fields, indexes=("userId", "completed"))},
    )


def record_id(number: int) -> str:
    """Of the `number`-th record, a UUIDv7."""
    return uuid7(START_MS + number, sha256(b"%d" % number).digest()[:16])


def history(count: int, records: int, first: int = 0) -> Iterator[Operation]:
    """An insert for each record, then updates to all of them in turn."""
    nodes = [uuid7(START_MS, sha256(b"node %d" % n).digest()[:16]) for n in range(8)]
    for n in range(first, first + count):
        kind: OperationType = "insert" if n < records else "update"
        data = b'{"title":"Task %d","completed":%s}' % (n, b"true" if n % 3 else b"false")
        if kind == "insert":
            text = b"x" * 120
            data = b'{"title":"Task %d","notes":"%s","priority":%d,"completed":false,"userId":"user-%d"}' % (
                n,
                text,
                n % 5,
                n % 997,
            )
        yield operation(n, kind, nodes[n % 8], record_id(n % records), data)


def operation(n: int, kind: OperationType, node: str, record: str, data: bytes) -> Operation:
    """The `n`-th operation."""
    previous = Raw(b"null") if kind == "insert" else Raw(b'{"title":"before","completed":null}')
    return Operation(
        sha256(b"op %d" % n).hexdigest(),
        node,
        kind,
        "todos",
        record,
        Timestamp(START_MS + n, 0, node),
        n // 8 + 1,
        [],
        1,
        data=Raw(data),
        previous_data=previous,
    )


def ingest(store: SqliteStore, rules: ApplyRules, operations: Iterator[Operation]) -> int:
    """Apply all of them; how many there were."""
    pipeline = Pipeline(store.node_id, rules)
    applied = groups = 0
    while group := list(islice(operations, GROUP)):
        with store.transaction() as tx:
            pipeline.apply_batches(tx, [group], START_MS)
        applied += len(group)
        groups += 1
        if groups % CHECKPOINT_EVERY == 0:
            store.checkpoint()
    return applied


@contextmanager
def measured(what: str, count: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Print how long the block took, its rate, its CPU, and the largest resident set so far."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done = count()
    rate = f"{done / wall:>9,.0f}/s  {cpu / done * 1e6:6.1f} us CPU each" if done else " " * 30
    print(f"{what:<58} {wall:8.3f} s  {rate}  peak {peak_mib():5.0f} MiB", flush=True)


def peak_mib() -> float:
    """The largest resident set so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(folder: Path, count: int, records: int) -> None:
    """All measurements, in order."""
    compare_ingest(folder, min(count, 100_000), min(records, 10_000))
    store = SqliteStore(folder / "large.db")
    store.open()
    store.upgrade(schema())
    list(refill(store))
    with measured(f"ingest of {count:,} operations on {records:,} records", lambda: count):
        ingest(store, ApplyRules(schema()), history(count, records))
    store.close()
    start(store, schema(), "start with nothing to do")
    more = schema(2, Field(name="dueAt", kind="timestamp"))
    with measured("migrate: one new field", lambda: records):
        store.upgrade(more)
        list(refill(store))
    with measured("backfill", lambda: count):
        begin_backfill(store, ["todos"])
        list(refill(store))
    update_one(store, more, count)
    store.close()


def compare_ingest(folder: Path, count: int, records: int) -> None:
    """The same operations without and with a schema, in turns."""
    for turn in range(3):
        for name, rules in (("without schema", ApplyRules()), ("with schema", ApplyRules(schema()))):
            store = SqliteStore(folder / f"{name}-{turn}.db".replace(" ", "-"))
            store.open()
            if rules.schema is not None:
                store.upgrade(rules.schema)
                list(refill(store))
            with measured(f"ingest {name}", lambda: count):
                ingest(store, rules, history(count, records))
            store.close()


def start(store: SqliteStore, wanted: Schema, what: str) -> None:
    """Everything a daemon asks of the store before it serves."""
    with measured(what):
        store.open()
        store.upgrade(wanted)
        list(refill(store))
        store.count_operations()
        store.frontier()


def update_one(store: SqliteStore, wanted: Schema, first: int) -> None:
    """One update each to a record with a long history and to one with a short one; then a late one."""
    rules = ApplyRules(wanted)
    node = record_id(1)
    made = [
        operation(first + n, "update", node, record_id(7), b'{"title":"again %d"}' % n) for n in range(LONG_HISTORY)
    ]
    ingest(store, rules, iter(made))
    for name, number in (("10 earlier operations", 8), (f"{LONG_HISTORY:,} earlier updates", 7)):
        singles = [
            operation(first + 20_000 + 1_000 * number + n, "update", node, record_id(number), b'{"title":"one"}')
            for n in range(300)
        ]
        pipeline = Pipeline(store.node_id, rules)
        with measured(f"one update in a write, record with {name}", lambda: 300):
            for one in singles:
                with store.transaction() as tx:
                    pipeline.apply_batches(tx, [[one]], START_MS)
    late = operation(first + 90_000, "update", node, record_id(7), b'{"title":"late"}')
    late.timestamp = Timestamp(START_MS, 0, node)
    with measured(f"a late update to the record with {LONG_HISTORY:,}", lambda: 1):
        ingest(store, rules, iter([late]))


if __name__ == "__main__":
    operations_wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    records_wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    if len(sys.argv) > 3:
        run(Path(sys.argv[3]), operations_wanted, records_wanted)
    else:
        with tempfile.TemporaryDirectory() as made:
            run(Path(made), operations_wanted, records_wanted)
