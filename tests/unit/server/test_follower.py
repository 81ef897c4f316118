from __future__ import annotations

from pathlib import Path

import pytest
import trio

from kora_daemon.server import follower
from kora_daemon.server.follower import LogFollower
from kora_daemon.server.hub import Hub
from kora_daemon.server.readers import Readers
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore
from tests.support.log import append, operation
from tests.support.network import eventually


class CountingStore(SqliteStore):
    asked = 0

    def frontier(self) -> int:
        self.asked += 1
        return super().frontier()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "WATCH_INTERVAL_S", 0.01)


async def test_a_log_that_nobody_writes_to_is_not_read(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "kora.db")
    store.open()
    append(store, operation(1))
    hub = Hub(store.frontier())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(LogFollower(hub, Readers(store), store.floor()).watch)
        await eventually(lambda: store.trace() is not None)
        await trio.sleep(0.05)  # for a look that was under way
        asked = store.asked
        await trio.sleep(0.1)
        assert store.asked == asked
        nursery.cancel_scope.cancel()
    store.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_somebody_else_writes_is_noticed_whenever_it_is_written(kind: str, tmp_path: Path) -> None:
    store: Store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "kora.db")
    store.open()
    another = store if isinstance(store, MemoryStore) else SqliteStore(tmp_path / "kora.db")
    another.open()
    hub = Hub(0)
    async with trio.open_nursery() as nursery:
        following = LogFollower(hub, Readers(store), store.floor())
        nursery.start_soon(following.watch)
        nursery.start_soon(following.follow)
        for number in range(1, 30):
            append(another, operation(number))
            if number % 3 == 0:
                await eventually(lambda: hub.frontier == another.frontier())
        await eventually(lambda: hub.frontier == another.frontier())
        nursery.cancel_scope.cancel()
    another.close()
    store.close()
