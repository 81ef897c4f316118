"""PostgreSQL goes away under load, in every way it can: for the devices that is a pause.

`KORA_DATABASE_FAILURES` says how often, in turns.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from tests.support.postgres import PostgresServer
from tests.support.process import UNLIMITED, Daemon
from tests.support.witnesses import PATIENCE_S, Witnesses

FAILURES = int(os.environ.get("KORA_DATABASE_FAILURES", "4"))
CONFIG = """
[store]
kind = "postgres"
url = "{url}"
application_name = "kora-under-test"
outage_patience = 25.0
"""
OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'kora-under-test'"


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    server = PostgresServer(fsync="on", full_page_writes="on")
    yield server
    server.remove()


def connected(database: PostgresServer) -> psycopg.Connection[Any]:
    """A connection of our own, as soon as there is one to be had: it may be recovering from what was done before."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return database.connect()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def restart(database: PostgresServer) -> None:
    """As for an update: sessions are ended."""
    database.stop()
    database.start()


def crash(database: PostgresServer) -> None:
    """All its processes at once; it recovers from its log."""
    database.kill()
    database.start()


def kill_a_process(database: PostgresServer) -> None:
    """One that serves the daemon, by SIGKILL: the database ends all others, and recovers."""
    with connected(database) as connection:
        serving = [pid for (pid,) in connection.execute(OURS.encode())]
    os.kill(random.choice(serving), signal.SIGKILL)


def end_the_sessions(database: PostgresServer) -> None:
    """As an administrator may."""
    with connected(database) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({OURS}) AS ours".encode())


WAYS: tuple[Callable[[PostgresServer], None], ...] = (restart, crash, kill_a_process, end_the_sessions)


@pytest.mark.slow
async def test_nothing_is_lost_and_nobody_is_sent_away(tmp_path: Path, database: PostgresServer) -> None:
    url = database.url(database.database())
    with Daemon(tmp_path, UNLIMITED + CONFIG.format(url=url)) as daemon:
        witnesses = Witnesses(lambda: daemon.url)
        async with witnesses.living():
            await witnesses.at_work()
            for way in islice(cycle(WAYS), FAILURES):
                await trio.sleep(random.uniform(0.02, 0.5))
                await trio.to_thread.run_sync(way, database)
                await witnesses.make_progress(100)
        assert {one.connections for one in (*witnesses.writers, *witnesses.listeners)} == {1}
        log = await witnesses.agree()
    print(f"{FAILURES} failures, {len(log)} operations")
