from __future__ import annotations

from pathlib import Path

import pytest
import trio

from kora_daemon.server import follower, log_size
from kora_daemon.server.follower import LogFollower
from kora_daemon.server.hub import Hub
from kora_daemon.server.readers import Readers
from kora_daemon.store.sqlite import SqliteStore
from tests.support.log import append, operation
from tests.support.network import eventually, running_server


async def test_what_somebody_else_writes_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_size, "PAUSE_S", 0.0)
    another = SqliteStore(tmp_path / "kora.db")
    async with running_server(SqliteStore(tmp_path / "kora.db")) as host:
        another.open()
        for number in range(1, 6):
            append(another, operation(number))
            await eventually(lambda number=number: host.server.get_status().total_operations == number)  # type: ignore[misc]
        another.close()


async def test_what_somebody_else_writes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "WATCH_INTERVAL_S", 0.01)
    store, another = SqliteStore(tmp_path / "kora.db"), SqliteStore(tmp_path / "kora.db")
    store.open()
    another.open()
    hub = Hub(0)
    async with trio.open_nursery() as nursery:
        following = LogFollower(hub, Readers(store), store.floor(), lambda: None)
        nursery.start_soon(following.watch)
        nursery.start_soon(following.follow)
        for number in range(1, 30):
            append(another, operation(number))
            another.checkpoint()
            if number % 3 == 0:
                await eventually(lambda: hub.frontier == another.frontier())
        nursery.cancel_scope.cancel()
    another.close()
    store.close()
