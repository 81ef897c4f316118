"""Another program writes to the SQLite file for long, as a daemon or a command starts: it waits, and says for what."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
import trio

from kora_daemon import maintenance
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.errors import StoreLocked
from kora_daemon.server import housekeeping
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.store.sqlite import SqliteStore
from tests.support.cli import Kora, schema_text
from tests.support.log import append, operation
from tests.support.network import eventually
from tests.support.process import Daemon

SCHEMA = schema_text(1, todos={"title": "string"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = SqliteStore(tmp_path / "kora.db")
    made.open()
    append(made, operation(1))
    made.close()
    return tmp_path / "kora.db"


@contextmanager
def locked(path: Path) -> Iterator[apsw.Connection]:
    """Another program in the middle of a write."""
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        other.close()


async def test_a_server_waits_with_its_start_for_another_process_to_end_its_write(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = SyncServer(SqliteStore(path, busy_timeout_ms=20), NoAuthProvider())
    with locked(path) as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.start, nursery)
            said = ""

            def says() -> bool:
                nonlocal said
                said += capsys.readouterr().out
                return "store.locked" in said

            await eventually(says)
            assert f"{path}: another process holds its lock; stop that process" in said
            assert server.is_over
            other.execute("ROLLBACK")
            await eventually(lambda: not server.is_over)
            assert server.get_status().total_operations == 1
            await server.stop()
            said += capsys.readouterr().out
    assert said.count("store.locked") == 1


async def test_a_start_gives_up_in_the_end_and_says_what_is_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "LOCK_PATIENCE_S", 0.2)
    server = SyncServer(SqliteStore(path, busy_timeout_ms=20), NoAuthProvider())
    with locked(path):
        with pytest.RaisesGroup(pytest.RaisesExc(StoreLocked, match=f"{path}: another process holds its lock; stop")):
            async with trio.open_nursery() as nursery:
                await server.start(nursery)
    assert server.is_over


async def test_a_daemon_that_waits_for_a_lock_stops_when_it_is_told_to(path: Path) -> None:
    daemon = Daemon(path.parent)
    with locked(path):
        daemon.begin()
        try:
            await eventually(lambda: "store.locked" in daemon.logged(), patience_s=30)
            assert await trio.to_thread.run_sync(daemon.stop) == 0
        finally:
            daemon.__exit__(None, None, None)
    assert "daemon.stopped" in daemon.logged()
    assert "Traceback" not in daemon.logged()


@pytest.mark.parametrize("command", ["migrate", "backfill"])
def test_a_command_waits_too_and_says_so(path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kora = Kora(path.parent, SCHEMA)
    assert kora("migrate").code == 0
    let_go = threading.Event()
    monkeypatch.setattr(maintenance, "build_store", lambda _settings: SqliteStore(path, busy_timeout_ms=20))
    monkeypatch.setattr(maintenance.time, "sleep", lambda _seconds: let_go.set())
    with locked(path) as other:
        ending = threading.Thread(target=lambda: (let_go.wait(), other.execute("ROLLBACK")))
        ending.start()
        ended = kora(command)
        ending.join()
    assert ended.code == 0
    assert ended.err.startswith(f"kora: waits up to 60 s: {path}: another process holds its lock; stop that process")
