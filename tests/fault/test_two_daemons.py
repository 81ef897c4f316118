"""Two daemons on one PostgreSQL, devices that move between them, while all three are killed at random: what was
acknowledged is in the log once, and with every listener, in one order.

`KORA_CHAOS_SECONDS` says how long the chaos lasts.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from kora_daemon.store.postgres import PostgresStore
from tests.support.postgres import PostgresServer
from tests.support.process import Daemon
from tests.support.witnesses import Witnesses

CHAOS_S = float(os.environ.get("KORA_CHAOS_SECONDS", "12"))
CONFIG = """
[server]
host = "127.0.0.1"
port = {port}
[store]
kind = "postgres"
url = "{url}"
outage_patience = 8.0
connect_timeout = 3.0
[limits]
max_operations_per_minute = 0
[log]
level = "warning"
"""


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    server = PostgresServer(fsync="on", full_page_writes="on")
    yield server
    server.remove()


@pytest.fixture
def url(database: PostgresServer) -> str:
    return database.url(database.database())


@pytest.fixture
def daemons(tmp_path: Path, url: str) -> Iterator[list[Daemon]]:
    """Each comes back on the same port after it was killed."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        made.append(Daemon(tmp_path / name, CONFIG.format(port=port, url=url)).start())
    yield made
    for daemon in made:
        if daemon.process.poll() is None:
            daemon.kill()


async def chaos(daemons: list[Daemon], database: PostgresServer, chance: random.Random) -> None:
    """Kill and restart, at random, for a while; everything runs at the end."""
    ends_at = trio.current_time() + CHAOS_S
    while trio.current_time() < ends_at:
        await trio.sleep(chance.uniform(0.5, 2.0))
        killed = database if chance.random() < 0.5 else chance.choice(daemons)
        await trio.to_thread.run_sync(killed.kill)
        await trio.sleep(chance.uniform(0.0, 1.0))
        await trio.to_thread.run_sync(killed.start)


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_or_doubled_and_all_hear_it_in_one_order(
    daemons: list[Daemon], database: PostgresServer, url: str
) -> None:
    chance = random.Random(int(CHAOS_S))
    witnesses = Witnesses(lambda: chance.choice(daemons).url, pause_s=0.02)
    async with witnesses.living():
        await witnesses.at_work()
        await chaos(daemons, database, chance)
    log = await witnesses.agree()
    assert log_of(url) == log
    print(f"{CHAOS_S:g} s of chaos, {len(log)} operations")


def log_of(url: str) -> list[str]:
    """The ids of the log as a third party reads it."""
    store = PostgresStore(url)
    store.open()
    try:
        entries = store.entries_after(0, 1_000_000)
    finally:
        store.close()
    sequences = [entry.sequence for entry in entries]
    assert sequences == sorted(set(sequences))
    return [entry.operation.id for entry in entries]
