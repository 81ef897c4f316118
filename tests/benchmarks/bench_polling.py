"""What a device that polls costs beside one with a WebSocket: latency of a live operation, and CPU of the daemon.

`python -m tests.benchmarks.bench_polling [DEVICES]`: by default 50 devices, all of one kind, and one that writes 200
operations, 20 a second. A daemon of its own, store in memory, everything on this machine over loopback. Latency counts
from before the upload until the device has the operation; CPU is the daemon's alone, per operation and device.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

import trio

from tests.support.devices import insert
from tests.support.network import Client, connected, streaming
from tests.support.polling import polling
from tests.support.process import Daemon

OPERATIONS, EVERY_S = 200, 0.05
CONFIG = '[server]\nhost = "127.0.0.1"\nport = 0\n[store]\nkind = "memory"\n[limits]\nmax_operations_per_minute = 0\n'


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def websocket(url: str, name: str) -> AsyncIterator[Client]:
    del name
    async with connected(url) as client:
        yield client


KINDS: dict[str, Callable[[str, str], AbstractAsyncContextManager[Client]]] = {
    "WebSocket": websocket,
    "polling": polling,
}


async def listen(
    device: AbstractAsyncContextManager[Client], name: str, written_at: dict[str, float], took_s: list[float]
) -> None:
    async with device as client:
        assert (await client.shake_hands(name))["accepted"]
        await client.download()
        async for message in client.messages():
            if message["type"] == "operation-batch":
                took_s += [trio.current_time() - written_at[one["id"]] for one in message["operations"]]
                await client.acknowledge(message)


async def measure(kind: str, devices: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder), CONFIG) as daemon:
        written_at: dict[str, float] = {}
        took_s: list[float] = []
        async with trio.open_nursery() as nursery:
            for number in range(devices):
                nursery.start_soon(listen, KINDS[kind](daemon.url, f"d{number}"), f"d{number}", written_at, took_s)
            async with streaming(daemon.url, "writer") as writer:
                await trio.sleep(2)
                before = cpu_s(daemon.process.pid)
                for number in range(1, OPERATIONS + 1):
                    operation = insert("writer", number)
                    written_at[operation["id"]] = trio.current_time()
                    await writer.upload(operation)
                    await writer.hear()
                    await trio.sleep(EVERY_S)
                with trio.move_on_after(10):
                    while len(took_s) < devices * OPERATIONS:
                        await trio.sleep(0.05)
                spent = cpu_s(daemon.process.pid) - before
            nursery.cancel_scope.cancel()
        assert len(took_s) >= devices * OPERATIONS, len(took_s)
        figures = {
            "kind": kind,
            "devices": devices,
            "latency_ms_median": round(1000 * median(took_s), 1),
            "latency_ms_p99": round(1000 * quantiles(took_s, n=100)[98], 1),
            "cpu_us_per_delivery": round(1e6 * spent / (devices * OPERATIONS)),
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    for each in KINDS:
        trio.run(measure, each, int(sys.argv[1]) if len(sys.argv) > 1 else 50)
