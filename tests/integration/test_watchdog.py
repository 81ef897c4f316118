"""A watchdog is fed only while everything that matters goes on, and says what does not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from structlog.testing import capture_logs

from kora_daemon.http import door
from kora_daemon.http.door import Door
from kora_daemon.server import writer
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.pulse import Pulse
from kora_daemon.server.watchdog import EVENT_LOOP, Watchdog
from kora_daemon.store.sqlite import SqliteStore
from tests.support.devices import insert
from tests.support.network import eventually, running_server, streaming

INTERVAL_S = 0.02
MOMENTS = 5


class Bowl:
    """Counts what the watchdog was fed."""

    def __init__(self) -> None:
        self.fed = 0

    def feed(self) -> None:
        self.fed += 1

    async def fills(self) -> None:
        """Return once it was fed again, and again."""
        upto = self.fed + MOMENTS
        await eventually(lambda: self.fed >= upto)

    async def stays_empty(self) -> bool:
        """Whether it was not fed in a time in which it should have been, many times."""
        before = self.fed
        await trio.sleep(MOMENTS * INTERVAL_S)
        return self.fed == before


@asynccontextmanager
async def watching(pulses: Callable[[], Any]) -> AsyncIterator[Bowl]:
    bowl = Bowl()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Watchdog(bowl.feed, INTERVAL_S, pulses).run)
        yield bowl
        nursery.cancel_scope.cancel()


def stood_still(lines: list[Any]) -> list[str]:
    """What the log names, first of all; a machine that is busy may hold the event loop up as well."""
    named = [part for line in lines if line["event"] == "watchdog.stands_still" for part in line["parts"]]
    return list(dict.fromkeys(part for part in named if part != EVENT_LOOP))


async def test_a_task_that_stands_still_is_named_and_so_is_that_it_goes_on() -> None:
    alive, still = Pulse("alive"), Pulse("presence", patience_s=0.01)
    with capture_logs() as lines:
        async with watching(lambda: [alive, still]) as bowl:
            await eventually(lambda: stood_still(lines) == ["presence"])
            assert await bowl.stays_empty()
            still.patience_s = 60
            await bowl.fills()
    assert stood_still(lines) == ["presence"]
    assert lines[-1]["event"] == "watchdog.goes_on"


async def test_an_event_loop_that_hangs_for_a_while_is_noticed() -> None:
    with capture_logs() as lines:
        async with watching(list) as bowl:
            await bowl.fills()
            before = bowl.fed
            time.sleep(6 * INTERVAL_S)
            assert bowl.fed <= before + 1
            await bowl.fills()
    assert [EVENT_LOOP] in [line["parts"] for line in lines if line["event"] == "watchdog.stands_still"]
    assert lines[-1]["event"] == "watchdog.goes_on"


async def test_a_writer_that_is_stuck_in_its_store_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "kora.db"
    store = SqliteStore(path, busy_timeout_ms=60_000)
    options = ServerOptions(store_patience=0.1)
    with capture_logs() as lines:
        async with running_server(store, options=options) as host, watching(lambda: host.server.pulses) as bowl:
            async with streaming(host.url, "a") as a:
                await a.upload(insert("a", 1))
                assert (await a.hear())["type"] == "acknowledgment"
                lock = apsw.Connection(str(path))
                lock.execute("BEGIN IMMEDIATE")
                await a.upload(insert("a", 2))
                await eventually(lambda: stood_still(lines) == ["store writer"])
                assert await bowl.stays_empty()
                lock.execute("ROLLBACK")
                lock.close()
                assert (await a.hear())["type"] == "acknowledgment"
                await bowl.fills()
    assert stood_still(lines) == ["store writer"]


async def test_a_writer_without_work_and_one_without_a_store_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SIGN_OF_LIFE_S", 0.02)
    monkeypatch.setattr(writer, "PROBE_INTERVAL_S", 0.02)
    path = tmp_path / "kora.db"
    store = SqliteStore(path, busy_timeout_ms=10)
    options = ServerOptions(store_patience=1, outage_patience=20)
    with capture_logs() as lines:
        async with running_server(store, options=options) as host, watching(lambda: host.server.pulses) as bowl:
            async with streaming(host.url, "a") as a:
                await trio.sleep(1.1)
                await bowl.fills()
                lock = apsw.Connection(str(path))
                lock.execute("BEGIN IMMEDIATE")
                await a.upload(insert("a", 1))
                await eventually(lambda: host.server.store_failure is not None)
                await trio.sleep(1.1)
                await bowl.fills()
                lock.close()
                assert (await a.hear())["type"] == "acknowledgment"
    assert stood_still(lines) == []


async def test_a_listener_shows_that_it_waits_for_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SIGN_OF_LIFE_S", 0.01)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    entrance = Door(listener)
    entrance.pulse.patience_s = 0.2
    async with entrance, trio.open_nursery() as nursery:
        await eventually(lambda: entrance.pulse.stands_still)
        nursery.start_soon(entrance.accept)
        await eventually(lambda: not entrance.pulse.stands_still)
        await trio.sleep(0.4)
        assert not entrance.pulse.stands_still
        nursery.cancel_scope.cancel()
