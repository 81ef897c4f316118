"""How fast the stores take and give operations, beside a bare insert into the same table.

`python -m tests.benchmarks.bench_store [FOLDER]`: FOLDER is on the disk to be measured. CPU is this process's.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread

import apsw
from msgspec import Raw

from kora_daemon.model.identity import uuid7
from kora_daemon.model.operation import Operation, Timestamp
from kora_daemon.store import tables
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.queries import ENTRIES_AFTER
from kora_daemon.store.sqlite import SqliteStore
from kora_daemon.store.sqlite.connections import WRITER_CACHE_KIB

SIZES = {1: 3_000, 10: 15_000, 100: 60_000, 1_000: 100_000}
"""Operations in a transaction -> operations in the run."""
READ_LOG = 100_000
PAGE = 1_000
PAGE_BYTES = 1 << 20
CHECKPOINT_INTERVAL_S = 0.25
START_MS = 1_700_000_000_000

Write = Callable[[list[Operation]], object]


def sample(count: int) -> list[Operation]:
    """Operations as eight devices send them: 300 bytes or so, each with a cause."""
    nodes = [uuid7(START_MS, sha256(b"%d" % n).digest()[:16]) for n in range(8)]
    ids = [sha256(b"%d" % n).hexdigest() for n in range(count)]
    return [
        Operation(
            ids[n],
            nodes[n % 8],
            "insert",
            "todos",
            uuid7(START_MS + n, sha256(b"r%d" % n).digest()[:16]),
            Timestamp(START_MS + n, 0, nodes[n % 8]),
            n // 8 + 1,
            [ids[n - 8]] if n >= 8 else [],
            1,
            data=Raw(b'{"title":"Task number %d","completed":false,"position":%d,"notes":"%s"}' % (n, n, b"x" * 60)),
        )
        for n in range(count)
    ]


def groups(operations: list[Operation], size: int) -> Iterator[list[Operation]]:
    """Slices of `size`."""
    for first in range(0, len(operations), size):
        yield operations[first : first + size]


def into(store: Store) -> Write:
    """A write as the server makes it: look for known ids, append, commit."""

    def write(group: list[Operation]) -> None:
        with store.transaction() as tx:
            known = tx.known_ids([one.id for one in group])
            tx.append([one for one in group if one.id not in known], START_MS)

    return write


def into_bare_table(path: Path, synchronous: str) -> Write:
    """The least that a log on SQLite can do: ready-made rows into the same table and indexes."""
    connection = apsw.Connection(str(path))
    for pragma, value in (("journal_mode", "wal"), ("synchronous", synchronous), ("cache_size", -WRITER_CACHE_KIB)):
        connection.pragma(pragma, value)
    connection.wal_autocheckpoint(10_000)
    for statement in (tables.OPERATIONS.creation, *tables.OPERATIONS.index_creations):
        connection.execute(statement)
    sequence = 0

    def write(group: list[Operation]) -> None:
        nonlocal sequence
        with connection:
            rows = [tables.operation_row(one, START_MS, sequence + n) for n, one in enumerate(group, start=1)]
            connection.executemany(tables.INSERT_OPERATION, rows)
        sequence += len(group)

    return write


def measure_writes(name: str, write: Write, size: int, operations: list[Operation]) -> None:
    """Print rate, CPU and the spread of the times of the transactions."""
    times: list[float] = []
    cpu = time.process_time()
    for group in groups(operations, size):
        start = time.perf_counter()
        write(group)
        times.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    total = sum(times)
    times.sort()
    print(
        f"{name:22} {size:5} {len(operations) / total:9,.0f}/s  cpu {cpu / len(operations) * 1e6:6.1f} us/op"
        f"  p50 {times[len(times) // 2] * 1e3:7.2f}  p99 {times[len(times) * 99 // 100] * 1e3:7.2f}"
        f"  max {times[-1] * 1e3:7.2f} ms",
        flush=True,
    )


def bench_sqlite(path: Path, durability: str, size: int, operations: list[Operation]) -> None:
    """Writes with checkpoints beside them, as in the server."""
    store = SqliteStore(path, durability="full" if durability == "full" else "normal")
    store.open()
    done = Event()

    def keep_house() -> None:
        while not done.wait(CHECKPOINT_INTERVAL_S):
            store.checkpoint()

    house = Thread(target=keep_house)
    house.start()
    measure_writes(f"sqlite {durability}", into(store), size, operations)
    done.set()
    house.join()
    store.close()


def measure_reads(name: str, read: Callable[[int], int], count: int) -> None:
    """Print the rate of `read`, which takes the page after a position and returns its last position; best of five."""
    best = best_cpu = float("inf")
    for _ in range(5):
        start, cpu, after = time.perf_counter(), time.process_time(), 0
        while after < count:
            after = read(after)
        best = min(best, time.perf_counter() - start)
        best_cpu = min(best_cpu, time.process_time() - cpu)
    print(f"{name:22} {PAGE:5} {count / best:9,.0f}/s  cpu {best_cpu / count * 1e6:6.2f} us/op", flush=True)


def last_sequence(connection: apsw.Connection, after: int) -> int:
    """Fetch the rows of a page and make nothing of them."""
    sequence = connection.execute(ENTRIES_AFTER, (after, PAGE)).fetchall()[-1][0]
    assert isinstance(sequence, int)
    return sequence


def bench_reads(path: Path, operations: list[Operation]) -> None:
    """Bare rows of the same page, the SQLite store, the memory store."""
    sqlite, memory = SqliteStore(path, durability="normal"), MemoryStore()
    for store in (sqlite, memory):
        store.open()
        for group in groups(operations, 1_000):
            into(store)(group)
    sqlite.checkpoint()
    connection = apsw.Connection(str(path))
    count = len(operations)
    measure_reads("bare rows", lambda after: last_sequence(connection, after), count)
    measure_reads("sqlite", lambda after: sqlite.entries_after(after, PAGE, PAGE_BYTES)[-1].sequence, count)
    measure_reads("memory", lambda after: memory.entries_after(after, PAGE, PAGE_BYTES)[-1].sequence, count)
    for store in (sqlite, memory):
        name = f"{type(store).__name__}, to be sent"
        measure_reads(
            name, lambda after, store=store: store.deliveries_after(after, PAGE, PAGE_BYTES)[-1].sequence, count
        )
    connection.close()
    sqlite.close()


def main(folder: Path) -> None:
    """Run everything."""
    operations = sample(max(READ_LOG, *SIZES.values()))
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    print("append, by operations in a transaction")
    for size, count in SIZES.items():
        for durability in ("full", "normal"):
            bare, own = folder / f"bare-{durability}-{size}.db", folder / f"own-{durability}-{size}.db"
            measure_writes(f"bare insert {durability}", into_bare_table(bare, durability), size, operations[:count])
            bench_sqlite(own, durability, size, operations[:count])
        memory = MemoryStore()
        memory.open()
        measure_writes("memory", into(memory), size, operations[:count])
    print("pages of the log, by entries in them")
    bench_reads(folder / "read.db", operations[:READ_LOG])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else ".") as scratch:
        main(Path(scratch))
