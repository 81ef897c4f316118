"""What scopes cost: the first sync of a small scope out of a large log, live fan-out into many scopes, and uploads.

`python -m tests.benchmarks.bench_scopes [OPERATIONS] [STORE]`: by default 100,000 operations of 250 tenants on SQLite,
of which one tenant sees 400; STORE is "sqlite" (durability full) or "postgres" (one of its own, in a temporary folder).
Everything in one process: times and CPU are those of server and clients together.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Any

import apsw
import psycopg
import trio
from msgspec import Raw

from kora_daemon.apply.authority import Authority
from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.apply.refill import refill
from kora_daemon.auth.contract import AuthContext
from kora_daemon.model.operation import Operation, Timestamp
from kora_daemon.model.schema import Collection, Field, Schema
from kora_daemon.server.sync_server import ServerOptions
from kora_daemon.store.contract import Store
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.sqlite import SqliteStore
from tests.support.devices import insert
from tests.support.network import Client, connected, running_server
from tests.support.postgres import server

START_MS = 1_700_000_000_000
TENANTS = 250
VISIBLE = 400
SESSIONS = 500
GROUP = 400

FIELDS = {name: Field(name=name, kind="string") for name in ("title", "notes", "userId")}
statements: Counter[str] = Counter()
"""By the first word of each, while somebody counts."""


def schema(*scope: str) -> Schema:
    return Schema(version=1, collections={"todos": Collection(name="todos", fields=FIELDS, scope=scope)})


def history(operations: int) -> Iterator[Operation]:
    """Inserts and partial updates of records of all tenants; each `operations / VISIBLE`-th is of the first one."""
    every = max(operations // VISIBLE, 1)
    for number in range(operations):
        tenant = 0 if number % every == 0 else 1 + number % (TENANTS - 1)
        record = f"record-{tenant}-{number // (2 * every)}" if tenant == 0 else f"record-{number // 2}"
        first = (number // every) % 2 == 0 if tenant == 0 else number % 2 == 0
        data = f'{{"title":"todo {number}","notes":"{"n" * 60}"}}'
        if first:
            data = f'{{"title":"todo {number}","notes":"{"n" * 60}","userId":"user-{tenant}"}}'
        yield Operation(
            sha256(str(number).encode()).hexdigest(),
            f"node-{tenant}",
            "insert" if first else "update",
            "todos",
            record,
            Timestamp(START_MS + number, 0, f"node-{tenant}"),
            number + 1,
            [],
            1,
            data=Raw(data.encode()),
        )


def begin(store: Store, wanted: Schema) -> None:
    store.open()
    store.upgrade(wanted)
    for _ in refill(store):  # nothing is there yet
        pass


def fill(store: Store, wanted: Schema, operations: int) -> None:
    begin(store, wanted)
    pipeline = Pipeline(store.node_id, ApplyRules(wanted))
    rest = history(operations)
    while batch := list(islice(rest, GROUP)):
        with store.transaction() as tx:
            pipeline.apply_batches(tx, [batch], START_MS)


class Tenants:
    """A token is the name of a tenant, who sees its own todos; "all" sees all of them."""

    async def authenticate(self, token: str) -> AuthContext:
        return AuthContext(token, None if token == "all" else {"todos": {"userId": token}})


async def first_sync(url: str, token: str) -> tuple[int, float, float]:
    """How many operations were visible, seconds to the final batch, CPU seconds."""
    async with connected(url) as client:
        started, cpu = time.perf_counter(), time.process_time()
        await client.shake_hands(f"device-{token}-{time.monotonic_ns()}", 0, authToken=token)
        batches = await client.download()
        return sum(len(one["operations"]) for one in batches), time.perf_counter() - started, time.process_time() - cpu


async def fan_out(url: str, writes: int) -> None:
    """Sessions of all tenants, two of each, and a writer: each write is for two of them."""
    heard: list[float] = []

    async def listen(client: Client, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async for message in client.messages():
            if message["type"] == "operation-batch":
                await client.acknowledge(message)
                for one in message["operations"]:
                    if "sent" in one["data"]:
                        heard.append(time.perf_counter() - one["data"]["sent"])

    async with trio.open_nursery() as nursery:
        for number in range(SESSIONS):
            client = await nursery.start(keep, url)
            await client.shake_hands(f"listener-{number}", 1 << 40, authToken=f"user-{number % TENANTS}")
            await client.download()
            await nursery.start(listen, client)
        writer = await nursery.start(keep, url)
        await writer.shake_hands("writer", 1 << 40, authToken="all")
        cpu = time.process_time()
        for number in range(writes):
            sent = insert("writer", number + 1, userId=f"user-{number % TENANTS}", sent=time.perf_counter())
            await writer.upload(sent)
            await trio.sleep(0.02)
        with trio.move_on_after(10):
            while len(heard) < 2 * writes:
                await trio.sleep(0.01)
        used = time.process_time() - cpu
        nursery.cancel_scope.cancel()
    cuts = quantiles(heard, n=100)
    print(
        f"fan-out, {SESSIONS} sessions in {TENANTS} scopes: {len(heard)} of {2 * writes} heard, "
        f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, CPU {used / writes * 1000:.2f} ms a write"
    )


async def keep(url: str, task_status: trio.TaskStatus[Client]) -> None:
    async with connected(url) as client:
        task_status.started(client)
        await trio.sleep_forever()


def uploads(make: Callable[[], Store]) -> None:
    """Writes of a scoped session beside those of one that may write anything; and what the index adds to these."""
    for name, wanted, authority in (
        ("no scope field, no authority", schema(), None),
        ("one scope field, no authority", schema("userId"), None),
        ("one scope field, judged", schema("userId"), Authority("node-0", {"todos": {"userId": "user-0"}})),
    ):
        store = make()
        begin(store, wanted)
        pipeline = Pipeline(store.node_id, ApplyRules(wanted))
        mine = [one for one in history(40_000) if authority is None or one.node_id == "node-0"]
        batches = [mine[first : first + GROUP] for first in range(0, len(mine), GROUP)]
        started, cpu = time.perf_counter(), time.process_time()
        for batch in batches:
            with store.transaction() as tx:
                pipeline.apply_batches(tx, [batch], START_MS, [authority])
        count = len(mine)
        print(
            f"uploads, {name}: {count / (time.perf_counter() - started):,.0f} operations/s, "
            f"CPU {(time.process_time() - cpu) / count * 1e6:.0f} us"
        )
        store.close()


def count(statement: str) -> None:
    statements[statement.split(maxsplit=1)[0].upper()] += 1


async def main(operations: int, kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(100))
        count_statements()

        def make() -> Store:
            if kind == "postgres":
                return PostgresStore(server().schema())
            return SqliteStore(Path(folder) / f"{next(numbers)}.db")

        uploads(make)
        for name, wanted in (("indexed", schema("userId")), ("not indexed", schema())):
            store = make()
            started = time.perf_counter()
            fill(store, wanted, operations)
            print(f"{operations:,} operations, scope {name}: filled in {time.perf_counter() - started:.0f} s")
            async with running_server(store, Tenants(), ServerOptions(apply=ApplyRules(wanted))) as host:
                for attempt in ("cold", "warm", "again"):
                    statements.clear()
                    visible, seconds, cpu = await first_sync(host.url, "user-0")
                    print(
                        f"  first sync of {visible} visible, {attempt}: {seconds * 1000:.1f} ms, "
                        f"CPU {cpu * 1000:.1f} ms, statements {sum(statements.values())}"
                    )
                if name == "indexed":
                    await fan_out(host.url, 500)


def count_statements() -> None:
    """Count the statements of all connections that are opened from now on."""

    def traced(connection: apsw.Connection) -> None:
        connection.exec_trace = lambda _cursor, text, _bindings: (count(text), True)[1]

    apsw.connection_hooks.append(traced)
    execute = psycopg.Connection.execute

    def counted(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        count(query.decode() if isinstance(query, bytes) else str(query))
        return execute(self, query, *arguments, **options)

    psycopg.Connection.execute = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, sys.argv[2] if len(sys.argv) > 2 else "sqlite")
