"""The server's clock jumps: what waits goes by another clock, honest devices go on, and its own never goes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.model.clock import INGEST_TOLERANCE_MS
from tests.support.app import Device, device
from tests.support.http import http_client
from tests.support.network import connected
from tests.support.polling import polling
from tests.support.process import Daemon
from tests.support.shifted_clock import ShiftedClock
from tests.support.witnesses import Witnesses

DAY_S = 86_400
JUMPS_S = (365 * DAY_S, -DAY_S, 0, 3_600, -30)
"""A year ahead, back to yesterday, right, and two that somebody who sets it by hand might make."""
TOKEN = "a-token-of-some-length-for-the-data-api"
HEADERS = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
CONFIG = f"""
schema = "schema.toml"
[server]
host = "127.0.0.1"
port = 0
[limits]
max_operations_per_minute = 0
handshake_timeout = 300.0
[admin]
data_token = "{TOKEN}"
"""
SCHEMA = """
version = 1
[collections.todos.fields]
title = "string"
"""


async def apply(daemon: Daemon, kind: str, name: str, title: str) -> None:
    """Let the server write something in its own name."""
    write = {"type": kind, "collection": "todos", "recordId": name, "data": {"title": title}}
    async with http_client(daemon.port) as client:
        answer = await client.ask("/__kora/data/apply", "POST", json.dumps(write).encode(), HEADERS)
    assert answer.status == 200, answer


async def server_writes(daemon: Daemon, listener: Device, name: str) -> dict[str, Any]:
    """The same; what a device hears of it."""
    await apply(daemon, "insert", name, "x")
    return await listener.hears_of(name)


def reading(operation: dict[str, Any]) -> tuple[int, int]:
    timestamp = operation["timestamp"]
    return timestamp["wallTime"], timestamp["logical"]


@pytest.mark.slow
async def test_nothing_waits_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text(SCHEMA)
    clock = ShiftedClock(tmp_path / "clock")
    with Daemon(tmp_path, CONFIG, program=clock.program) as daemon:
        witnesses = Witnesses(lambda: daemon.url, writers=2, listeners=2, pause_s=0.1)
        async with connected(daemon.url) as silent, polling(daemon.url) as poller, device(daemon.url, "app") as app:
            await poller.shake_hands("poller")
            async with witnesses.living():
                written = [await server_writes(daemon, app, "before")]
                for number, seconds in enumerate(JUMPS_S):
                    clock.shift(seconds)
                    written.append(await server_writes(daemon, app, f"jump-{number}"))
                    if seconds * 1000 >= -INGEST_TOLERANCE_MS:
                        await witnesses.make_progress(20)
                    else:
                        # To such a server they are ahead: it asks them to look at their clocks, and come again.
                        await witnesses.come_again()
            assert (await silent.shake_hands("silent"))["accepted"] is True
            heard: list[str] = []
            while written[-1]["id"] not in heard:
                heard += [one["id"] for batch in await poller.download() for one in batch["operations"]]
        assert [one.connections for one in witnesses.listeners] == [1, 1]
        readings = [reading(one) for one in written]
        assert readings == sorted(set(readings))
        assert readings[1][0] - readings[0][0] >= 364 * DAY_S * 1000
        assert "crashed" not in daemon.logged()


async def test_who_was_restarted_with_a_clock_that_went_back_still_has_the_last_word(tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text(SCHEMA)
    clock = ShiftedClock(tmp_path / "clock")
    with Daemon(tmp_path, CONFIG, program=clock.program) as daemon:
        clock.shift(365 * DAY_S)
        await apply(daemon, "insert", "one", "next year")
        daemon.kill()
        clock.shift(-DAY_S)
        daemon.start()
        await apply(daemon, "update", "one", "yesterday")
        async with http_client(daemon.port) as client:
            answer = await client.ask("/__kora/data/todos/one", headers=HEADERS)
    assert answer.json["title"] == "yesterday", answer
