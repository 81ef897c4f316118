"""Between sessions and the blob store: what waits, who waits, and what becomes of a store that is slow or gone."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from kora_daemon.errors import StoreUnavailable
from kora_daemon.protocol.messages import BlobPush
from kora_daemon.server import blob_keeper as module
from kora_daemon.server.blob_keeper import BlobKeeper, BlobRules
from kora_daemon.store.blobs.contract import Kept
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.memory import MemoryStore
from tests.support.blobs import hashed, kept, pushed
from tests.support.network import eventually
from tests.support.peers import FakePeer


class SlowBlobs(DirectoryBlobs):
    """Keeps nothing until it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go = threading.Event()
        self.fails = False

    def put(self, hexadecimal: str, content: bytes, holders: Collection[str], now_ms: int) -> Kept:
        self.go.wait(10)
        if self.fails:
            raise StoreUnavailable("gone")
        return super().put(hexadecimal, content, holders, now_ms)


class Scene:
    """A keeper with a slow disk."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.store.open()
        self.blobs = SlowBlobs(folder / "blobs")
        self.blobs.open()
        self.keeper = BlobKeeper(self.blobs, self.store, {}, BlobRules())

    def push(self, peer: FakePeer, *contents: bytes) -> None:
        for content in contents:
            message = pushed(content)
            self.keeper.push(peer, BlobPush("m", message["hash"], message["bytes"]))

    @property
    def there(self) -> int:
        return len(kept(self.blobs))


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(module, "MAX_WAITING_OF_A_SESSION", 1_000)
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 3_000)
    monkeypatch.setattr(module, "DROPPED_ABOVE_BYTES", 5_000)
    made = Scene(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.keeper.run)
        yield made
        made.blobs.go.set()
        nursery.cancel_scope.cancel()
    made.blobs.close()


@asynccontextmanager
async def waiting(scene: Scene, peer: FakePeer) -> AsyncIterator[trio.Event]:
    """A session that waits to be read on; the event tells when it is."""
    heard = trio.Event()

    async def wait() -> None:
        await scene.keeper.wait(peer.number)
        heard.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        yield heard
        nursery.cancel_scope.cancel()


def content(number: int, size: int = 600) -> bytes:
    """Some 800 characters of base64, unless another size is given."""
    return bytes([number]) * size


async def test_who_pushes_faster_than_the_disk_is_not_read_meanwhile(scene: Scene) -> None:
    fast, other = FakePeer(), FakePeer()
    scene.push(fast, content(1))
    assert scene.keeper.hears(fast.number)
    scene.push(fast, content(2))
    assert (scene.keeper.hears(fast.number), scene.keeper.hears(other.number)) == (False, True)
    async with waiting(scene, fast) as heard:
        assert not heard.is_set()
        scene.blobs.go.set()
        with trio.fail_after(5):
            await heard.wait()
    await eventually(lambda: scene.there == 2)


async def test_all_who_have_something_waiting_share_what_there_is(scene: Scene) -> None:
    peers = [FakePeer() for _ in range(5)]
    for number, peer in enumerate(peers[:4]):
        scene.push(peer, content(number))
    assert [scene.keeper.hears(peer.number) for peer in peers] == [False] * 4 + [True]
    scene.push(peers[4], content(9))
    assert not scene.keeper.hears(peers[4].number)
    scene.blobs.go.set()
    await eventually(lambda: not scene.keeper._waiting)
    assert scene.there == 5
    assert all(scene.keeper.hears(peer.number) for peer in peers)


async def test_there_is_an_end_to_what_waits(scene: Scene) -> None:
    peers = [FakePeer() for _ in range(8)]
    for number, peer in enumerate(peers):
        scene.push(peer, content(number))
    assert scene.keeper.outcomes.by_name["busy"] == 2
    assert scene.keeper._waiting_bytes == 4_800
    scene.blobs.go.set()
    await eventually(lambda: not scene.keeper._waiting)
    assert (scene.keeper._waiting_bytes, scene.there) == (0, 6)
    assert not scene.keeper._arriving


async def test_nobody_waits_for_a_disk_that_hangs(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    peer = FakePeer()
    scene.push(peer, content(1), content(2))
    with trio.fail_after(5):
        await scene.keeper.wait(peer.number)
    assert scene.keeper.hears(peer.number)
    # What it pushes now is dropped, and costs nothing.
    scene.push(peer, content(3))
    assert scene.keeper.outcomes.by_name["busy"] == 1
    scene.blobs.go.set()
    await eventually(lambda: not scene.keeper._waiting)
    assert scene.there == 2
    scene.blobs.go.clear()
    scene.push(peer, content(4), content(5))
    assert not scene.keeper.hears(peer.number)


async def test_what_has_come_is_told(scene: Scene) -> None:
    """Whatever became of it: nobody waits until there is an end to lies under the same name."""
    told: list[str] = []
    scene.keeper.arrived = told.append
    first, second = FakePeer(), FakePeer()
    scene.push(first, b"x")
    scene.keeper.push(second, BlobPush("m", hashed(b"x"), "eQ=="))
    assert scene.keeper.awaits(hashed(b"x"))
    assert not scene.keeper.awaits(hashed(b"y"))
    scene.blobs.go.set()
    await eventually(lambda: told == [hashed(b"x")] * 2)
    assert not scene.keeper.awaits(hashed(b"x"))


async def test_a_store_that_fails_is_told_of_once_and_the_next_one_is_tried(scene: Scene) -> None:
    scene.blobs.go.set()
    scene.blobs.fails = True
    with structlog.testing.capture_logs() as logged:
        for number in range(5):
            scene.push(FakePeer(), content(number))
        await eventually(lambda: scene.keeper.outcomes.by_name.get("unavailable") == 5)
    assert sorted(one["event"] for one in logged) == ["blobs.dropped", "blobs.failed"]
    scene.blobs.fails = False
    scene.push(FakePeer(), b"x")
    await eventually(lambda: scene.there == 1)


async def test_at_the_end_everything_is_stored(scene: Scene) -> None:
    with trio.fail_after(5):
        await scene.keeper.finish()
    scene.push(FakePeer(), content(1))
    scene.push(FakePeer(), content(2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.keeper.finish)
        await trio.testing.wait_all_tasks_blocked()
        scene.blobs.go.set()
    assert scene.there == 2


async def test_what_looks_like_a_manifest_and_is_no_text_is_stored_like_any_other(scene: Scene) -> None:
    scene.blobs.go.set()
    scene.push(FakePeer(), b'{"chunkHashes":["\xff"]}', content(2))
    await eventually(lambda: scene.there == 2)
