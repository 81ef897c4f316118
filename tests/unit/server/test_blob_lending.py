"""What is kept is given to who may have it, by a store that may be slow, gone or damaged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from kora_daemon.errors import StoreUnavailable
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server import blob_lending as module
from kora_daemon.server.blob_lending import BlobLending, Content
from kora_daemon.store.blobs.contract import ANY_SIZE, ANYBODY, holder_of
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.memory import MemoryStore
from tests.support.blobs import hashed, manifest_of, put, reference
from tests.support.peers import FakePeer
from tests.support.records import Node, apply
from tests.unit.server.conftest import Shortage

ALI: ScopeMap = {"files": {"ownerId": "ali"}}
BEA: ScopeMap = {"files": {"ownerId": "bea"}}
X = Content("eA==", [])


class HangingBlobs(DirectoryBlobs):
    """Answers when it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go = threading.Event()
        self.go.set()

    def get(self, hexadecimal: str, max_bytes: int = ANY_SIZE) -> bytes | None:
        self.go.wait(10)
        return super().get(hexadecimal, max_bytes)


class Scene:
    """A log with records of Ali's and Bea's that refer to files, and blobs."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.store.open()
        self.blobs = HangingBlobs(folder / "blobs")
        self.blobs.open()
        self.lending = BlobLending(self.blobs, self.store, {}, 1_000)
        self.nodes = {name: Node(name) for name in ("phone", "tablet")}

    def write(self, node: str, record_id: str, owner: str, **file: Any) -> None:
        fields = {"ownerId": owner, **file}
        apply(self.store, self.nodes[node].insert(record_id, fields, collection="files"))

    async def gets(self, granted: ScopeMap | None, *names: bytes, scopes: ScopeMap | None = None) -> Content | None:
        """What a session is given that asks for the first, which may be listed by the others."""
        hashes = list(map(hashed, names))
        return await self.lending.find(FakePeer(granted, scopes), hashes[0], frozenset(hashes))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.blobs.go.set()
    made.blobs.close()


async def test_a_record_that_is_seen_and_an_author_who_has_it(scene: Scene) -> None:
    put(scene.blobs, b"x", holder=holder_of("phone"))
    assert await scene.gets(ALI, b"x") is None
    scene.write("phone", "a", "ali", file=reference(b"x"))
    assert await scene.gets(ALI, b"x") == X
    assert await scene.gets(BEA, b"x") is None
    assert await scene.gets({}, b"x") is None


async def test_an_author_who_does_not_have_it_does_not_count(scene: Scene) -> None:
    put(scene.blobs, b"x", holder=holder_of("phone"))
    scene.write("tablet", "b", "bea", file=reference(b"x"))
    assert await scene.gets(BEA, b"x") is None
    put(scene.blobs, b"x", holder=holder_of("tablet"))
    assert await scene.gets(BEA, b"x") == X


@pytest.mark.parametrize(
    ("holder", "granted", "scopes"),
    [(ANYBODY, BEA, BEA), (holder_of("phone"), None, None), (holder_of("phone"), None, BEA)],
    ids=["brought by the operator", "unrestricted", "restricted by itself"],
)
async def test_where_nobody_has_to_vouch(
    scene: Scene, holder: str, granted: ScopeMap | None, scopes: ScopeMap | None
) -> None:
    put(scene.blobs, b"x", holder=holder)
    scene.write("tablet", "b", "bea", file=reference(b"x"))
    assert await scene.gets(granted, b"x", scopes=scopes) == X


async def test_who_restricts_itself_still_has_to_see_a_record(scene: Scene) -> None:
    put(scene.blobs, b"x", holder=holder_of("phone"))
    scene.write("phone", "a", "ali", file=reference(b"x"))
    assert await scene.gets(None, b"x", scopes=BEA) is None


async def test_a_part_is_judged_by_its_manifest_and_by_who_has_the_part(scene: Scene) -> None:
    parts = [b"x", b"y"]
    manifest = manifest_of(*parts)
    scene.write("phone", "a", "ali", file=reference(b"xy", manifest))
    put(scene.blobs, b"x", manifest, holder=holder_of("phone"))
    put(scene.blobs, b"y", holder=holder_of("tablet"))
    found = await scene.gets(ALI, manifest)
    assert found is not None
    assert found.parts == [hashed(part) for part in parts]
    assert await scene.gets(ALI, b"x", manifest) == X
    assert await scene.gets(ALI, b"x") is None
    assert await scene.gets(ALI, b"y", manifest) is None
    assert await scene.gets(BEA, b"x", manifest) is None


async def test_a_deleted_record_shows_its_file_until_it_is_collected(scene: Scene) -> None:
    put(scene.blobs, b"x", holder=holder_of("phone"))
    scene.write("phone", "a", "ali", file=reference(b"x"))
    apply(scene.store, scene.nodes["phone"].delete("a", collection="files"))
    assert await scene.gets(ALI, b"x") == X


async def test_what_would_not_fit_into_a_message_stays(scene: Scene) -> None:
    put(scene.blobs, b"x" * 1_001, b"y" * 1_000)
    assert await scene.gets(None, b"x" * 1_001) is None
    assert await scene.gets(None, b"y" * 1_000) is not None


async def test_a_store_that_nobody_can_ask_is_not_left_alone_for_that(scene: Scene, shortage: Shortage) -> None:
    put(scene.blobs, b"x")
    with structlog.testing.capture_logs() as logged, trio.fail_after(5):
        assert await scene.gets(None, b"x") is None
    assert [one["event"] for one in logged] == ["threads.exhausted", "blobs.failed"]
    assert "no thread for kora-blob-reader" in logged[1]["error"]
    shortage.is_over = True
    assert await scene.gets(None, b"x") is not None


async def test_a_store_that_takes_long_is_left_alone_for_a_while(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    put(scene.blobs, b"x")
    scene.blobs.go.clear()
    with structlog.testing.capture_logs() as logged, trio.fail_after(5):
        for _ in range(3):
            assert await scene.gets(None, b"x") is None
    assert [one["event"] for one in logged] == ["blobs.slow"]
    scene.blobs.go.set()
    monkeypatch.setattr(module, "PATIENCE_S", 5)
    monkeypatch.setattr(scene.lending, "_resting_until", 0)
    assert await scene.gets(None, b"x") == X


async def test_a_log_that_takes_long_costs_its_own_request_only(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device can make its own look-ups slow; that must not be everybody's trouble."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    put(scene.blobs, b"x", holder=holder_of("phone"))
    go = threading.Event()
    with monkeypatch.context() as slow:
        slow.setattr(scene.store, "blob_references", lambda *_: go.wait(10))
        assert await scene.gets(BEA, b"x") is None
        assert await scene.gets(None, b"x") == X
        go.set()


async def test_what_is_damaged_or_gone_is_told_once_and_not_given(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(scene.blobs, b"x", b"y")
    (tmp_path / "blobs" / hashed(b"x")[:2] / hashed(b"x")).write_bytes(b"rotten")

    def gone(*_: Any) -> bytes:
        raise StoreUnavailable("gone")

    with structlog.testing.capture_logs() as logged:
        assert [await scene.gets(None, b"x") for _ in range(3)] == [None] * 3
        monkeypatch.setattr(scene.blobs, "get", gone)
        assert [await scene.gets(None, b"y") for _ in range(3)] == [None] * 3
    assert [one["event"] for one in logged] == ["blobs.damaged", "blobs.failed"]
