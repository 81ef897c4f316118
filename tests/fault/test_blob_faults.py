"""Files that are kept, and a process that is killed, a disk that takes no more: nothing half is ever given away."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from kora_daemon.store.blobs.directory import DirectoryBlobs
from tests.support.blobs import asked, gets, hashed, kept, pushed
from tests.support.cli import ROOT, Kora
from tests.support.devices import insert
from tests.support.network import streaming
from tests.support.process import Daemon
from tests.support.tenants import has_uploaded, hears
from tests.support.witnesses import LOST

CONFIG = """
[server]
host = "127.0.0.1"
port = 0
[blobs]
kind = "directory"
keep_free_bytes = 0
"""
PUTS = """
import random, sys, threading
from pathlib import Path
from kora_daemon.store.blobs.contract import ANYBODY, sha256_of
from kora_daemon.store.blobs.directory import DirectoryBlobs
blobs = DirectoryBlobs(Path(sys.argv[1]))
blobs.open()
def work(seed):
    made = random.Random(seed)
    while True:
        content = made.randbytes(made.randint(0, 300_000))
        blobs.put(sha256_of(content), content, [ANYBODY], 5)
        sys.stdout.write(sha256_of(content) + "\\n")
        sys.stdout.flush()
for number in range(4):
    threading.Thread(target=work, args=(f"{sys.argv[2]} {number}",), daemon=True).start()
threading.Event().wait()
"""
"""Keeps contents as fast as it can, and says which are kept."""


@pytest.mark.parametrize("seed", range(5))
def test_a_process_that_is_killed_leaves_whole_contents_only(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "blobs"
    process = subprocess.Popen(
        [sys.executable, "-c", PUTS, str(folder), str(seed)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    chance = random.Random(seed)
    said = [process.stdout.readline().strip() for _ in range(chance.randint(1, 30))]
    process.kill()
    said += [line.strip() for line in process.stdout if len(line) == 65]
    process.wait()
    process.stdout.close()
    blobs = DirectoryBlobs(folder)
    blobs.open()
    there = kept(blobs)
    assert {one for one in said if one} <= there.keys()
    for name in there:
        assert blobs.get(name) is not None  # raises for one that is damaged
    assert list((folder / "incoming").iterdir()) == []
    blobs.close()


async def test_a_daemon_that_is_killed_gives_whole_contents_only(tmp_path: Path) -> None:
    contents = [random.Random(number).randbytes(100_000) for number in range(60)]
    with Daemon(tmp_path, CONFIG) as daemon:
        for round_ in range(3):
            with suppress(*LOST):
                async with streaming(daemon.url, f"phone {round_}") as phone:
                    for content in contents[20 * round_ : 20 * (round_ + 1)]:
                        await phone.say(pushed(content))
                    await trio.to_thread.run_sync(daemon.kill)
            await trio.to_thread.run_sync(daemon.start)
        blobs = DirectoryBlobs(tmp_path / "blobs", writable=False)
        blobs.open()
        there = [content for content in contents if hashed(content) in kept(blobs)]
        assert list((tmp_path / "blobs" / "incoming").iterdir()) == []
        async with streaming(daemon.url, "laptop") as laptop:
            for content in there:
                assert await gets(laptop, content) == content
        blobs.close()
        assert daemon.stop() == 0
    checked = Kora(tmp_path, config=CONFIG)("blobs", "verify", "--json").json
    assert (checked["checked"], checked["damaged"]) == (len(there), [])


async def test_a_disk_that_takes_no_more_costs_operations_nothing(tmp_path: Path) -> None:
    """Files of more than 2 MB fail, as on a full disk: the system says so in the middle of a write."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))

    kora = Kora(tmp_path, config=CONFIG)
    with kora.begun("serve", prepare=limit) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        async with streaming(url, "phone") as phone, streaming(url, "laptop") as laptop:
            await phone.say(pushed(b"x" * 3_000_000))
            await phone.say(pushed(b"x" * 1_000_000))
            for number in range(1, 20):
                await has_uploaded(phone, insert("phone", number))
            assert await gets(laptop, b"x" * 1_000_000) == b"x" * 1_000_000
            await laptop.say(asked(b"x" * 3_000_000))
            assert (await hears(phone, "blob-chunk-request"))["hash"] == hashed(b"x" * 3_000_000)
        process.terminate()
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    dropped = [json.loads(line) for line in log.splitlines() if "blobs." in line]
    assert {one["event"] for one in dropped} == {"blobs.failed", "blobs.dropped"}
    assert "File too large" in str(dropped)
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []
