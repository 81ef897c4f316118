"""A daemon on a socket of its service manager's is restarted while devices write and listen: nobody notices much."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
import trio

from tests.support.fleet import Fleet
from tests.support.process import Daemon
from tests.support.service_manager import listening

DEVICES = int(os.environ.get("KORA_RESTART_DEVICES", "60"))
RESTARTS = 1
WRITES_PER_S = 10
PATIENCE_S = 120
"""A machine may be busy; the devices don't give up either."""
CONFIG = "[limits]\nmax_unauthenticated_per_address = 0\n"


@pytest.mark.slow
async def test_restarts_refuse_nobody_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    with listening() as opened, Daemon(tmp_path, CONFIG, sockets=[opened]) as daemon:
        fleet = Fleet(DEVICES)
        async with fleet.living(daemon.url):
            with trio.fail_after(PATIENCE_S):
                await fleet.comes(times=1)
                async with fleet.writing(WRITES_PER_S):
                    for restart in range(1, RESTARTS + 1):
                        daemon.signal(signal.SIGTERM)
                        assert await trio.to_thread.run_sync(daemon.process.wait) == 0
                        await trio.to_thread.run_sync(daemon.start)
                        await fleet.comes(times=restart + 1)
                log = await fleet.settles()

    assert sum(one.refused for one in fleet.devices) == 0
    assert Counter(closed.code for one in fleet.devices for closed in one.closed) == {1001: DEVICES * RESTARTS}
    assert max(Counter(log).values()) == 1
    assert sorted(fleet.acknowledged()) == sorted(log), "what was acknowledged, and what is there"
    assert len(log) > RESTARTS
    for device in fleet.devices:
        assert device.heard == [one for one in log if not device.has_written(one)]
