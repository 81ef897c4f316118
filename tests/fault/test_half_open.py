"""Devices vanish without a word, as in a tunnel: the daemon notices in time and frees what they held, they come back
and go on, and nobody else notices anything.

`KORA_TUNNELS` says how often.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.support.http import http_client
from tests.support.namespaces import ALSO_HERE, HERE, THERE, Wire, wired
from tests.support.network import eventually
from tests.support.process import Daemon
from tests.support.witnesses import Witness, Witnesses

TUNNELS = int(os.environ.get("KORA_TUNNELS", "1"))
PING_INTERVAL_S = 1
PATIENCE_S = 60
CONFIG = f"""
[server]
host = "{THERE}"
port = 0
[limits]
max_operations_per_minute = 0
ping_interval = {PING_INTERVAL_S}.0
[log]
format = "json"
"""


@pytest.fixture
def wire() -> Iterator[Wire]:
    with wired() as made:
        yield made


async def connected_clients(daemon: Daemon) -> int:
    async with http_client(daemon.port, THERE) as client:
        return int((await client.ask("/health")).json["connectedClients"])


def were_let_go(daemon: Daemon, times: int) -> bool:
    return daemon.logged().count('"code": 1001') == times


def have_gone(daemon: Daemon, left: int) -> bool:
    return descriptors(daemon) <= left


def have_come(devices: Sequence[Witness], times: int) -> bool:
    return all(one.connections >= times and one.at_work for one in devices)


def descriptors(daemon: Daemon) -> int:
    """How many sockets the daemon has open."""
    folder = Path(f"/proc/{daemon.process.pid}/fd")
    return sum(os.readlink(one).startswith("socket:") for one in folder.iterdir() if one.is_symlink())


@pytest.mark.slow
async def test_who_vanishes_is_let_go_and_comes_back(tmp_path: Path, wire: Wire) -> None:
    with Daemon(tmp_path, CONFIG, program=wire.program) as daemon:
        witnesses = Witnesses(lambda: daemon.url, writers=6, listeners=6, pause_s=0.25)
        everybody = [*witnesses.writers, *witnesses.listeners]
        travellers, others = everybody[::2], everybody[1::2]
        for one in travellers:
            one.source = ALSO_HERE
        for one in others:
            one.source = HERE
        async with witnesses.living():
            await witnesses.at_work()
            for number in range(1, TUNNELS + 1):
                before = descriptors(daemon)
                wire.cut(ALSO_HERE)
                await eventually(partial(were_let_go, daemon, number * len(travellers)), PATIENCE_S)
                await eventually(partial(have_gone, daemon, before - len(travellers)), PATIENCE_S)
                assert await connected_clients(daemon) == len(others)
                await witnesses.make_progress(50)
                wire.mend()
                await eventually(partial(have_come, travellers, 1 + number), PATIENCE_S)
        assert {one.connections for one in others} == {1}
        log = await witnesses.agree()
    print(f"{TUNNELS} times {len(travellers)} of {len(everybody)} devices, {len(log)} operations")
