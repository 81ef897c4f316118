from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from kora_daemon.model.delivery import DeliveryEntry
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


async def test_what_was_read_beyond_what_was_announced_is_counted_as_well(tmp_path: Path) -> None:
    store, another = SqliteStore(tmp_path / "kora.db"), SqliteStore(tmp_path / "kora.db")
    store.open()
    another.open()

    class LateReaders(Readers):
        async def entries_after(self, sequence: int) -> list[DeliveryEntry]:
            append(another, operation(2))  # comes in between, and its announcement too late to matter
            return await super().entries_after(sequence)

    hub = Hub(0)
    counted: list[int] = []
    async with trio.open_nursery() as nursery:
        following = LogFollower(hub, LateReaders(store), 0, lambda: counted.append(store.count_operations()))
        append(another, operation(1))
        hub.reaches(1)
        nursery.start_soon(following.follow)
        await eventually(lambda: hub.frontier == 2)
        hub.reaches(2)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert counted == [2]
    another.close()
    store.close()


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
