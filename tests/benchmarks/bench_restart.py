"""What a restart over socket activation is like for many devices: when they go, knock, and are back.

`python -m tests.benchmarks.bench_restart [DEVICES]`: by default 500 that listen, and 5 writes a second among them. They
share this process, so its core is busy, too. Everything that tests/fault/test_restart.py asks for is asked for here.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import trio

from tests.support.fleet import Fleet
from tests.support.process import Daemon
from tests.support.service_manager import listening

WRITES_PER_S = 5
CONFIG = "[limits]\nmax_unauthenticated_per_address = 0\n"


async def main(size: int) -> None:
    """Restart a daemon under a fleet, and print what that was like."""
    with tempfile.TemporaryDirectory() as folder, listening() as opened:
        with Daemon(Path(folder), CONFIG, sockets=[opened]) as daemon:
            fleet = Fleet(size)
            async with fleet.living(daemon.url):
                await fleet.comes(times=1)
                async with fleet.writing(WRITES_PER_S):
                    await trio.sleep(2)
                    began = trio.current_time()
                    daemon.signal(signal.SIGTERM)
                    await trio.to_thread.run_sync(daemon.process.wait)
                    gone = trio.current_time()
                    await trio.to_thread.run_sync(daemon.start)
                    ready = trio.current_time()
                    await fleet.comes(times=2)
                log = await fleet.settles()
    report(fleet, log, began)
    print(f"the old daemon is gone after {gone - began:.2f} s, the new one ready after {ready - began:.2f} s")


def report(fleet: Fleet, log: Sequence[str], began: float) -> None:
    """Print figures, times in s from the signal on."""
    devices = fleet.devices
    intact = sorted(fleet.acknowledged()) == sorted(log) and all(
        one.heard == [operation for operation in log if not one.has_written(operation)] for one in devices
    )
    print(
        f"{len(devices)} devices, {len(log)} operations, refused: {sum(one.refused for one in devices)}, all there "
        f"once and in order: {intact}, closed: {dict(Counter(end.code for one in devices for end in one.closed))}"
    )
    print(row("told to go", (at for one in devices for at in one.closed_at), began))
    print(row("knock", (at for one in devices for at in one.dialled_at if at > began), began))
    print(row("are in", (at for one in devices for at in one.welcomed_at if at > began), began))
    gaps = sorted(one.welcomed_at[1] - one.closed_at[0] for one in devices)
    print(
        f"away: median {gaps[len(gaps) // 2]:.2f}, 99th percentile {gaps[len(gaps) * 99 // 100]:.2f}, "
        f"longest {gaps[-1]:.2f}"
    )


def row(what: str, times: Iterable[float], began: float) -> str:
    """From when to when, and the most within 0.1 s and 1 s."""
    found = [at - began for at in times]
    busiest = {width: max(Counter(int(at / width) for at in found).values()) for width in (0.1, 1.0)}
    return (
        f"{what:10}: {min(found):5.2f} to {max(found):5.2f}, at most {busiest[0.1]} in 0.1 s and {busiest[1.0]} in 1 s"
    )


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 500)
