"""The disk is full: writes are refused whole, `/ready` says so, and everything goes on when there is room again.

`KORA_FULL_DISKS` says how often, with a daemon that is killed and starts on the full disk every second time.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.support.http import http_client
from tests.support.process import UNLIMITED, Daemon
from tests.support.witnesses import PATIENCE_S, Witnesses

ROUNDS = int(os.environ.get("KORA_FULL_DISKS", "2"))
DISK_BYTES = 48 << 20
CONFIG = """
[store]
path = "{disk}/kora.db"
outage_patience = 0.5
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one of its own."""
    made = tmp_path / "disk"
    made.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", made], check=True)
    yield made
    subprocess.run(["umount", "--lazy", made], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return filler


async def becomes(daemon: Daemon, status: int) -> str:
    """Wait until `/ready` answers so; its reason."""
    with trio.fail_after(PATIENCE_S):
        while True:
            async with http_client(daemon.port) as client:
                answer = await client.ask("/ready")
            if answer.status == status:
                return str(answer.json.get("reason"))
            await trio.sleep(0.05)


@pytest.mark.slow
async def test_nothing_is_lost_and_it_goes_on_when_there_is_room(tmp_path: Path, disk: Path) -> None:
    with Daemon(tmp_path, UNLIMITED + CONFIG.format(disk=disk)) as daemon:
        witnesses = Witnesses(lambda: daemon.url)
        async with witnesses.living():
            for number in range(ROUNDS):
                await witnesses.make_progress(200)
                filler = fill(disk)
                assert await becomes(daemon, 503) == "the store does not take writes"
                if number % 2:
                    await trio.to_thread.run_sync(daemon.kill)
                    await trio.to_thread.run_sync(daemon.start)
                    assert await becomes(daemon, 503) == "the store does not take writes"
                filler.unlink()
                await becomes(daemon, 200)
                await witnesses.make_progress(200)
        log = await witnesses.agree()
    print(f"{ROUNDS} times full, {len(log)} operations")
