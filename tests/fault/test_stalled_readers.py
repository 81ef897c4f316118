"""Many devices that do not read, beside many that do, under a limit on memory: the daemon stays within it, the others
are served as if there was nobody else, and who stalled is let go and goes on later from where it was.

`KORA_STALLED_READERS` says how many there are, `KORA_LIVE_READERS` how many others, `KORA_STALLED_SECONDS` how long
there are writes.
"""

from __future__ import annotations

import os
import random
import statistics
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter

import pytest
import trio

from kora_daemon.store.sqlite import SqliteStore
from tests.support.devices import insert, inserts, seed
from tests.support.lean_device import PONG, LeanDevice
from tests.support.memory_limit import limited, resident_bytes
from tests.support.network import eventually
from tests.support.process import UNLIMITED, Daemon

STALLED = int(os.environ.get("KORA_STALLED_READERS", "24"))
LIVE = int(os.environ.get("KORA_LIVE_READERS", "20"))
WRITING_S = float(os.environ.get("KORA_STALLED_SECONDS", "2"))
WRITES_PER_S = 2
SEEDED = 1_000
OPERATION_BYTES = 2_000
RECEIVE_BYTES = 4_096
"""That the system holds for a device that does not read."""
PATIENCE_S = 120
MIB = 1 << 20
BUDGET_BYTES = 64 * MIB + STALLED * 320 * 1024 + (LIVE + STALLED) * 64 * 1024
"""What the daemon may take beyond what it has when idle: the tail of the log in both its forms, a page of 256 KiB and
its frame for who is behind, and a connection for each."""
CONFIG = f"""{UNLIMITED}
max_unauthenticated_per_address = 0
ping_interval = {max(1.0, STALLED / 50)}
"""


class Live(LeanDevice):
    """Notes how long it took until an operation reached it."""

    def __init__(self, node_id: str, watermark: int, sent_at: dict[str, float]) -> None:
        super().__init__(node_id, watermark)
        self.delays_ms: list[float] = []
        self.is_connected = False
        self._sent_at = sent_at

    async def live(self, port: int) -> None:
        await self.connect(port)
        async for message in self.messages():
            self.is_connected = True
            if message["type"] == "operation-batch":
                now = perf_counter()
                self.delays_ms += [(now - self._sent_at[one["id"]]) * 1000 for one in message["operations"]]
            await self.take(message)


class Stalled(LeanDevice):
    """Says hello and never reads. A talker gives signs of life all the same."""

    def __init__(self, node_id: str, watermark: int, *, talks: bool) -> None:
        super().__init__(node_id, watermark)
        self.talks = talks

    async def stall(self, port: int) -> None:
        await self.connect(port, RECEIVE_BYTES)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while self.talks:
                await self.send(PONG)
                await trio.sleep(0.5)

    async def catch_up(self, port: int, frontier: int) -> None:
        """Come back, read what was missed, and go."""
        await self.connect(port)
        async for message in self.messages():
            await self.take(message)
            if self.watermark >= frontier:
                break
        self.vanish()


class Source(LeanDevice):
    """Writes."""

    def __init__(self, sent_at: dict[str, float]) -> None:
        super().__init__("source")
        self._sent_at = sent_at
        self.written = 0

        self._acknowledged = 0

    async def write(self, port: int, seconds: float) -> None:
        """Write for a while, until all of it is acknowledged."""
        self.watermark = SEEDED + self.written
        await self.connect(port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            ends_at = trio.current_time() + seconds
            while trio.current_time() < ends_at:
                self.written += 1
                operation = insert("source", self.written)
                self._sent_at[operation["id"]] = perf_counter()
                await self.say(type="operation-batch", operations=[operation], isFinal=True, batchIndex=0)
                await trio.sleep(1 / WRITES_PER_S)
            await eventually(lambda: self._acknowledged == self.written, PATIENCE_S)
            nursery.cancel_scope.cancel()
        self.vanish()

    async def _listen(self) -> None:
        async for message in self.messages():
            self._acknowledged += message["type"] == "acknowledgment"
            await self.take(message)


def told(title: str, devices: list[Live]) -> None:
    delays = sorted(delay for one in devices for delay in one.delays_ms)
    at = statistics.quantiles(delays, n=100)
    figures = f"p50 {at[49]:.1f} p95 {at[94]:.1f} p99 {at[98]:.1f} max {delays[-1]:.1f} ms"
    print(f"{title}: {len(delays)} deliveries, {figures}")
    for one in devices:
        one.delays_ms.clear()


def seeded(path: Path) -> list[str]:
    """A log of some size; the ids in it."""
    operations = [{**one, "data": {"title": "x" * OPERATION_BYTES}} for one in inserts("seed", 1, SEEDED)]
    store = SqliteStore(path, durability="normal")
    seed(store, operations)
    store.close()
    return [one["id"] for one in operations]


async def alone_and_beside(daemon: Daemon, source: Source, live: list[Live], stalled: list[Stalled]) -> None:
    """Write to the live ones, first without the others and then with them."""
    async with trio.open_nursery() as living, trio.open_nursery() as stalling:
        for one in live:
            living.start_soon(one.live, daemon.port)
        await eventually(lambda: all(one.is_connected for one in live), PATIENCE_S)
        for each, title in (((), f"{LIVE} alone"), (stalled, f"{LIVE} beside {STALLED} that stall")):
            for other in each:
                stalling.start_soon(other.stall, daemon.port)
            await eventually(partial(have_joined, daemon, LIVE + len(each)), PATIENCE_S)
            await source.write(daemon.port, WRITING_S)
            await eventually(lambda: all(one.watermark == SEEDED + source.written for one in live), PATIENCE_S)
            told(title, live)
        silent = sum(not one.talks for one in stalled)
        await eventually(lambda: daemon.logged().count('"code": 1001') == silent, PATIENCE_S)
        stalling.cancel_scope.cancel()
        living.cancel_scope.cancel()
    for each in stalled:
        each.vanish()


def have_joined(daemon: Daemon, devices: int) -> bool:
    return daemon.logged().count("session.joined") >= devices


async def come_back(daemon: Daemon, stalled: list[Stalled], frontier: int) -> None:
    async with trio.open_nursery() as nursery:
        for each in stalled:
            nursery.start_soon(each.catch_up, daemon.port, frontier)


@pytest.mark.slow
async def test_who_does_not_read_costs_little_and_goes_on_later(tmp_path: Path) -> None:
    log = seeded(tmp_path / "kora.db")
    chance = random.Random(1)
    sent_at: dict[str, float] = {}
    source = Source(sent_at)
    live = [Live(f"live-{number}", SEEDED, sent_at) for number in range(LIVE)]
    begun_at = [chance.randrange(SEEDED // 2) for _ in range(STALLED)]
    stalled = [Stalled(f"stalled-{number}", at, talks=number % 2 == 0) for number, at in enumerate(begun_at)]
    with Daemon(tmp_path, CONFIG) as daemon:
        pid = daemon.process.pid
        before_bytes = resident_bytes(pid)
        with limited(pid, BUDGET_BYTES) as is_limited:
            await alone_and_beside(daemon, source, live, stalled)
            beside_bytes = resident_bytes(pid, most=True)
            await come_back(daemon, stalled, SEEDED + source.written)
        most_bytes = resident_bytes(pid, most=True)
        assert "crashed" not in daemon.logged()
        assert "failed" not in daemon.logged()
    sizes = [f"{size / MIB:.0f}" for size in (before_bytes, beside_bytes, most_bytes, BUDGET_BYTES)]
    print(f"MiB when idle, with all, at most, budget for the difference (limited: {is_limited}): {sizes}")
    log += [f"source/{number}" for number in range(1, source.written + 1)]
    assert all(one.taken == log[SEEDED:] for one in live)
    assert all(one.taken == log[at:] for one, at in zip(stalled, begun_at, strict=True))
    assert most_bytes <= before_bytes + BUDGET_BYTES
