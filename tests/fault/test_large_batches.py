"""Large batches, faster than the store takes them, and devices that hear of them and do not read: within a budget.

`KORA_LARGE_BATCHES` says how many each of the writers uploads.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from tests.support.devices import inserts
from tests.support.lean_device import LeanDevice
from tests.support.memory_limit import limited, resident_bytes
from tests.support.process import UNLIMITED, Daemon

BATCHES = int(os.environ.get("KORA_LARGE_BATCHES", "2"))
WRITERS, STALLED = 6, 20
OPERATIONS, OPERATION_BYTES = 500, 4_000
"""Some 2 MiB a batch."""
RECEIVE_BYTES = 4_096
MIB = 1 << 20
BUDGET_BYTES = 2 * 64 * MIB + 40 * MIB + WRITERS * 12 * MIB + STALLED * MIB
"""Beyond what the daemon has when idle: uploads of all that wait, taken apart, the tail of the log and a commit, for
each writer a message and what it is taken apart into, for who does not read a window of 256 KiB or one batch."""
PAGE_CACHE_BYTES = 64 * MIB
"""The limit counts what the system has not written to the disk yet, too."""
CONFIG = f"""{UNLIMITED}
[store]
durability = "normal"
"""


class Flood(LeanDevice):
    """Uploads all it has at once, and listens meanwhile."""

    def __init__(self, number: int) -> None:
        super().__init__(f"writer-{number}")
        self.acknowledged = 0

    async def flood(self, port: int) -> None:
        await self.connect(port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upload)
            async for message in self.messages():
                assert message["type"] not in ("error", "operation-rejected"), message
                self.acknowledged += message["type"] == "acknowledgment"
                if self.acknowledged == BATCHES:
                    break
                await self.take(message)
            nursery.cancel_scope.cancel()
        self.vanish()

    async def _upload(self) -> None:
        for number in range(BATCHES):
            first = number * OPERATIONS + 1
            batch = [
                {**one, "data": {"title": "x" * OPERATION_BYTES}}
                for one in inserts(self.node_id, first, first + OPERATIONS - 1)
            ]
            await self.say(type="operation-batch", operations=batch, isFinal=True, batchIndex=0)


async def everything(port: int, count: int) -> list[str]:
    reader = LeanDevice("reader")
    await reader.connect(port)
    async for message in reader.messages():
        await reader.take(message)
        if len(reader.taken) >= count:
            break
    reader.vanish()
    return reader.taken


@pytest.mark.slow
async def test_the_daemon_takes_no_more_memory_than_its_limits_say(tmp_path: Path) -> None:
    writers = [Flood(number) for number in range(WRITERS)]
    stalled = [LeanDevice(f"stalled-{number}") for number in range(STALLED)]
    with Daemon(tmp_path, CONFIG) as daemon:
        pid = daemon.process.pid
        before_bytes = resident_bytes(pid)
        with limited(pid, BUDGET_BYTES + PAGE_CACHE_BYTES) as is_limited:
            for one in stalled:
                await one.connect(daemon.port, RECEIVE_BYTES)
            async with trio.open_nursery() as nursery:
                for writer in writers:
                    nursery.start_soon(writer.flood, daemon.port)
            log = await everything(daemon.port, WRITERS * BATCHES * OPERATIONS)
        most_bytes = resident_bytes(pid, most=True)
        assert "crashed" not in daemon.logged()
    for one in stalled:
        one.vanish()
    sizes = [f"{size / MIB:.0f}" for size in (before_bytes, most_bytes, BUDGET_BYTES)]
    print(f"MiB when idle, at most, budget for the difference (limited: {is_limited}): {sizes}")
    written = {f"writer-{one}/{number}" for one in range(WRITERS) for number in range(1, BATCHES * OPERATIONS + 1)}
    assert sorted(log) == sorted(written)
    assert most_bytes <= before_bytes + BUDGET_BYTES
