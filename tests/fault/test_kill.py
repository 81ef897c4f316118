"""SIGKILL at random moments, devices writing and listening: nothing acknowledged is ever lost, doubled or unsent.

`KORA_KILL_ROUNDS` says how often a daemon with SQLite is killed; a fifth of that with `durability = "normal"`, half of
it with PostgreSQL.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.support.postgres import server
from tests.support.process import UNLIMITED, Daemon
from tests.support.witnesses import Witnesses

ROUNDS = int(os.environ.get("KORA_KILL_ROUNDS", "50"))
CONFIG = f"{UNLIMITED}[store]\n"


def sqlite_full() -> str:
    return 'durability = "full"'


def sqlite_normal() -> str:
    return 'durability = "normal"'


def postgres() -> str:
    return f'kind = "postgres"\nurl = "{server().schema()}"'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "rounds"), [(sqlite_full, ROUNDS), (sqlite_normal, ROUNDS // 5), (postgres, ROUNDS // 2)]
)
async def test_what_was_acknowledged_survives_every_kill(tmp_path: Path, store: Callable[[], str], rounds: int) -> None:
    with Daemon(tmp_path, CONFIG + store()) as daemon:
        witnesses = Witnesses(lambda: daemon.url)
        async with witnesses.living():
            for _ in range(max(1, rounds)):
                await trio.sleep(random.uniform(0.02, 0.5))
                await trio.to_thread.run_sync(daemon.kill)
                await trio.to_thread.run_sync(daemon.start)
                await witnesses.at_work()
        log = await witnesses.agree()
    print(f"killed {max(1, rounds)} times, {len(log)} operations")
