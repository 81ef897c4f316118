"""A service manager follows the daemon's life (sd_notify(3)): a real socket, a real process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from secrets import token_hex

import pytest
import trio

from kora_daemon import supervision
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.http.listener import Listener, ListenerOptions
from kora_daemon.http.surface import surface
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.service_manager import ServiceManager
from kora_daemon.store.memory import MemoryStore
from kora_daemon.supervision import Supervision
from tests.support.devices import insert
from tests.support.network import connected, eventually, streaming
from tests.support.postgres import PostgresServer
from tests.support.process import Daemon
from tests.support.service_manager import Manager, managed

CONFIG = '[server]\nhost = "127.0.0.1"\nport = 0\n'
WATCHED = {"WATCHDOG_USEC": "600000"}
HOOK = """
import time, trio

def authenticate(token):
    trio.from_thread.run_sync(stand_still)

def stand_still():
    time.sleep(3600)
"""


@pytest.mark.parametrize("is_abstract", [False, True], ids=["path", "abstract"])
async def test_it_hears_that_the_daemon_is_ready_once_devices_can_connect(tmp_path: Path, is_abstract: bool) -> None:
    with managed(tmp_path, f"@kora-{token_hex(8)}" if is_abstract else "") as manager:
        with Daemon(tmp_path, environment=manager.environment) as daemon:
            opening = await manager.hear()
            assert opening["STATUS"] == "Opening the store"
            assert int(opening["EXTEND_TIMEOUT_USEC"]) > 1_000_000
            ready = await manager.hear_until("READY=1")
            assert ready["STATUS"] == "Running: 0 devices, 0 operations"
            async with streaming(daemon.url):
                pass


def supervised(manager: Manager) -> tuple[SyncServer, Supervision]:
    server = SyncServer(MemoryStore(), NoAuthProvider())
    listener = Listener(server, surface(server, "/"), ListenerOptions())
    return server, Supervision(ServiceManager.of(dict(manager.environment)), server, listener)


async def test_a_start_asks_for_time_until_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "STEP_S", 0.03)
    with managed(tmp_path) as manager:
        _, watched = supervised(manager)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched.starting)
            for _ in range(3):
                assert "EXTEND_TIMEOUT_USEC" in await manager.hear()
            nursery.cancel_scope.cancel()


async def test_a_daemon_that_can_not_start_is_never_ready(tmp_path: Path) -> None:
    (tmp_path / "kora.db").write_bytes(b"this is not a database" * 100)
    with managed(tmp_path) as manager:
        daemon = Daemon(tmp_path, environment=manager.environment)
        daemon.begin()
        assert await trio.to_thread.run_sync(daemon.process.wait) == 1
        assert all("READY" not in told for told in manager.all_heard())


async def test_it_hears_how_things_go_when_that_has_changed(tmp_path: Path) -> None:
    with managed(tmp_path) as manager, Daemon(tmp_path, environment=manager.environment) as daemon:
        async with streaming(daemon.url, "a") as a:
            await a.upload(insert("a", 1))
            await manager.hear_until("STATUS=Running: 1 device, 1 operation")
        await manager.hear_until("STATUS=Running: 0 devices, 1 operation")


async def test_a_server_that_is_over_is_not_asked_how_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "REPORT_INTERVAL_S", 0.01)
    with managed(tmp_path) as manager:
        server, watched = supervised(manager)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                await server.start(nursery)
                nursery.start_soon(watched.running)
                await manager.hear_until("READY=1")
                await server.stop()


async def test_it_hears_of_a_reload_and_what_came_of_it(tmp_path: Path) -> None:
    with managed(tmp_path) as manager, Daemon(tmp_path, environment=manager.environment) as daemon:
        await manager.hear_until("READY=1")
        before_us = time.monotonic_ns() // 1000
        daemon.signal(signal.SIGHUP)
        begun = await manager.hear_until("RELOADING=1")
        assert before_us <= int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert await manager.hear_until("READY=1") == {"READY": "1"}

        daemon.config.write_text("[server]\nprot = 's3cret'\n")
        daemon.signal(signal.SIGHUP)
        await manager.hear_until("RELOADING=1")
        refused = await manager.hear_until("READY=1")
        assert "the log says which" in refused["STATUS"]
        assert "s3cret" not in str(manager.heard)


async def test_it_hears_that_the_daemon_stops_and_how_long_that_may_take(tmp_path: Path) -> None:
    with managed(tmp_path) as manager:
        with Daemon(tmp_path, CONFIG + "shutdown_grace = 60.0\n", manager.environment) as daemon:
            await manager.hear_until("READY=1")
            daemon.signal(signal.SIGTERM)
            stopping = await manager.hear_until("STOPPING=1")
            assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 120_000_000
            assert await trio.to_thread.run_sync(daemon.process.wait) == 0


def test_a_daemon_does_not_mind_when_nobody_listens(tmp_path: Path) -> None:
    with Daemon(tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "nobody"), **WATCHED}) as daemon:
        assert daemon.stop() == 0
    assert daemon.logged().count("service_manager.unreachable") == 1


# The watchdog


async def test_the_watchdog_is_fed_while_all_is_well_and_until_the_end(tmp_path: Path) -> None:
    with managed(tmp_path) as manager:
        with Daemon(tmp_path, environment=manager.environment | WATCHED) as daemon:
            async with streaming(daemon.url):
                for _ in range(4):
                    await manager.hear_until("WATCHDOG=1")
            assert await trio.to_thread.run_sync(daemon.stop) == 0
    assert "watchdog" not in daemon.logged()


async def test_an_event_loop_that_hangs_is_not_fed_and_the_log_says_what_and_where(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HOOK)
    config = CONFIG + '[auth]\nkind = "token"\nsource = "python"\npython = "hanging:authenticate"\n'
    with managed(tmp_path) as manager:
        with Daemon(tmp_path, config, manager.environment | WATCHED) as daemon:
            await manager.hear_until("WATCHDOG=1")
            async with connected(daemon.url) as client:
                await client.say(
                    {"type": "handshake", "nodeId": "a", "versionVector": {}, "schemaVersion": 1, "authToken": "t"}
                )
                await eventually(lambda: "watchdog.stands_still" in daemon.logged())
                assert '"event loop"' in daemon.logged()
                manager.all_heard()
                await trio.sleep(1)
                assert not [told for told in manager.all_heard() if "WATCHDOG" in told]
                daemon.signal(signal.SIGABRT)  # as systemd does
                assert await trio.to_thread.run_sync(daemon.process.wait) == -signal.SIGABRT
    assert "in stand_still" in daemon.logged()


async def test_a_database_that_is_away_is_no_reason_to_end_the_daemon(tmp_path: Path) -> None:
    database = PostgresServer()
    try:
        config = f'{CONFIG}[store]\nkind = "postgres"\nurl = "{database.url()}"\noutage_patience = 0\n'
        with managed(tmp_path) as manager, Daemon(tmp_path, config, manager.environment | WATCHED) as daemon:
            async with streaming(daemon.url, "a") as a:
                database.kill()
                await a.upload(insert("a", 1))
                await a.closed()
            await manager.hear_until(
                "STATUS=Running: 0 devices, 0 operations; the store does not take writes, the log says why"
            )
            for _ in range(4):
                await manager.hear_until("WATCHDOG=1")
    finally:
        database.remove()
    assert "watchdog" not in daemon.logged()


def test_what_is_said_to_one_process_is_for_no_other() -> None:
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    assert ServiceManager.of(environ).watchdog_s == 3
    assert environ == {}


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": ""}]
)
def test_nobody_watches_unless_it_is_said_so(environ: dict[str, str]) -> None:
    assert ServiceManager.of(environ).watchdog_s is None
