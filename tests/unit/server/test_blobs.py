"""Blob requests: who is asked, whose answer counts, and what it all may cost."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from kora_daemon.errors import StoreUnavailable
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import ScopeMap
from kora_daemon.model.sight import sees
from kora_daemon.protocol.messages import BlobPush, BlobRequest, BlobResponse
from kora_daemon.server import blobs as module
from kora_daemon.server.blobs import BlobRelay, Reference
from kora_daemon.server.hub import Hub
from tests.support.peers import FakePeer

ALI: ScopeMap = {"files": {"ownerId": "ali"}}
BEA: ScopeMap = {"files": {"ownerId": "bea"}}
PARTS = [b"part one", b"part two"]


def hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


MANIFEST = json.dumps({"blobHash": "x", "size": 16, "chunkHashes": [hashed(part) for part in PARTS]}).encode()


class Scene:
    """Sessions, and records that refer to contents."""

    def __init__(self) -> None:
        self.hub = Hub(0)
        self.relay = BlobRelay(self.hub, self.find)
        self.records: list[tuple[str, str]] = []
        """Owner and hash."""
        self.questions: list[frozenset[str]] = []
        self.fails = False

    async def find(self, hashes: frozenset[str], scopes: ScopeMap | None) -> Sequence[Reference]:
        await trio.lowlevel.checkpoint()
        self.questions.append(hashes)
        if self.fails:
            raise StoreUnavailable("gone")
        found = [
            Reference(RecordKey("files", str(number)), {"ownerId": owner})
            for number, (owner, hexadecimal) in enumerate(self.records)
            if hexadecimal in hashes
        ]
        return [one for one in found if sees(scopes, "files", one.fields)]

    def come(self, scopes: ScopeMap | None) -> FakePeer:
        peer = FakePeer(scopes)
        self.hub.join(peer)
        return peer

    def owns(self, owner: str, *contents: bytes) -> None:
        self.records += [(owner, hashed(content)) for content in contents]

    def ask(self, peer: FakePeer, content: bytes, request_id: str = "mine") -> None:
        self.relay.share(peer, BlobRequest("m", request_id, hashed(content)))

    def answer(self, peer: FakePeer, content: bytes | None, request_id: str | None = None) -> None:
        """Answer what the peer was asked last."""
        text = None if content is None else base64.b64encode(content).decode()
        self.relay.share(peer, BlobResponse("a", request_id or peer.heard[-1]["requestId"], text))


@pytest.fixture
async def scene(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Scene]:
    made = Scene()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.relay.run)
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def settled() -> AsyncIterator[None]:
    yield
    await trio.testing.wait_all_tasks_blocked()


def contents(peer: FakePeer) -> list[bytes]:
    return [base64.b64decode(one["bytes"]) for one in peer.heard if one["type"] == "blob-chunk-response"]


def asked(peer: FakePeer) -> list[str]:
    return [one["hash"] for one in peer.heard if one["type"] == "blob-chunk-request"]


class TestWithoutScopes:
    """Everybody asks everybody."""

    async def test_no_record_is_looked_at(self, scene: Scene) -> None:
        one, two, three = (scene.come(None) for _ in range(3))
        async with settled():
            scene.ask(one, b"x")
        assert (asked(two), asked(three), one.heard) == ([hashed(b"x")], [hashed(b"x")], [])
        scene.answer(two, None)
        scene.answer(three, b"x")
        scene.answer(two, b"x")
        assert contents(one) == [b"x"]
        assert one.heard[0]["requestId"] == "mine"
        assert scene.questions == []

    async def test_requests_of_one_name_are_told_apart(self, scene: Scene) -> None:
        one, two, three = (scene.come(None) for _ in range(3))
        scene.ask(one, b"x", "same")
        for_one = three.heard[-1]["requestId"]
        scene.ask(two, b"y", "same")
        scene.answer(three, b"y")
        scene.answer(three, b"x", for_one)
        assert (contents(one), contents(two)) == ([b"x"], [b"y"])


class TestWithinScopes:
    """Asked and asking see a record that refers to the hash."""

    async def test_a_request_reaches_those_who_see_such_a_record(self, scene: Scene) -> None:
        scene.owns("ali", b"x")
        ali, other, bea, admin = (scene.come(s) for s in (ALI, ALI, BEA, None))
        async with settled():
            scene.ask(ali, b"x")
        assert [asked(peer) for peer in (other, bea, admin)] == [[hashed(b"x")], [], [hashed(b"x")]]
        scene.answer(other, b"x")
        assert contents(ali) == [b"x"]

    async def test_what_no_visible_record_refers_to_is_asked_of_nobody(self, scene: Scene) -> None:
        scene.owns("bea", b"beas")
        ali, other, bea, admin = (scene.come(s) for s in (ALI, ALI, BEA, None))
        async with settled():
            for content in (b"beas", b"nobodys"):
                scene.ask(ali, content)
        assert [peer.heard for peer in (ali, other, bea, admin)] == [[]] * 4
        assert not scene.relay._requests

    async def test_the_unrestricted_ask_tenants_who_see_a_record_of_it(self, scene: Scene) -> None:
        scene.owns("ali", b"x")
        admin, other, ali, bea = (scene.come(s) for s in (None, None, ALI, BEA))
        scene.ask(admin, b"x")
        assert (asked(other), asked(ali)) == ([hashed(b"x")], [])
        async with settled():
            pass
        assert [asked(peer) for peer in (other, ali, bea)] == [[hashed(b"x")], [hashed(b"x")], []]

    async def test_one_that_is_answered_before_it_is_found_out_is_not_asked_any_more(self, scene: Scene) -> None:
        scene.owns("ali", b"x")
        admin, other, ali = (scene.come(s) for s in (None, None, ALI))
        scene.ask(admin, b"x")
        scene.answer(other, b"x")
        async with settled():
            pass
        assert asked(ali) == []

    async def test_a_store_that_fails_tells_nothing(self, scene: Scene) -> None:
        scene.owns("ali", b"x")
        scene.fails = True
        ali, other = scene.come(ALI), scene.come(ALI)
        async with settled():
            scene.ask(ali, b"x")
        assert asked(other) == []
        scene.fails = False
        async with settled():
            scene.ask(ali, b"x")
        assert asked(other) == [hashed(b"x")]

    async def test_upper_case_is_the_same_hash(self, scene: Scene) -> None:
        scene.owns("ali", b"x")
        ali, other = scene.come(ALI), scene.come(ALI)
        async with settled():
            scene.relay.share(ali, BlobRequest("m", "mine", hashed(b"x").upper()))
        scene.answer(other, b"x")
        assert contents(ali) == [b"x"]


class TestManifests:
    """The parts of a blob are known by the manifest alone."""

    async def pulled(self, scene: Scene, ali: FakePeer, other: FakePeer, manifest: bytes = MANIFEST) -> None:
        async with settled():
            scene.ask(ali, manifest)
        scene.answer(other, manifest)
        ali.heard.clear()
        other.heard.clear()

    async def test_who_was_given_a_manifest_may_ask_for_the_parts(self, scene: Scene) -> None:
        scene.owns("ali", MANIFEST)
        ali, other, bea = scene.come(ALI), scene.come(ALI), scene.come(BEA)
        await self.pulled(scene, ali, other)
        for part in PARTS:
            async with settled():
                scene.ask(ali, part)
            scene.answer(other, part)
        assert contents(ali) == PARTS
        assert bea.heard == []

    async def test_and_nobody_else(self, scene: Scene) -> None:
        scene.owns("ali", MANIFEST)
        ali, other = scene.come(ALI), scene.come(ALI)
        await self.pulled(scene, ali, other)
        async with settled():
            scene.ask(other, PARTS[0])
        assert ali.heard == []

    async def test_as_long_as_a_record_refers_to_the_manifest(self, scene: Scene) -> None:
        scene.owns("ali", MANIFEST)
        ali, other = scene.come(ALI), scene.come(ALI)
        await self.pulled(scene, ali, other)
        scene.records = [("bea", hashed(MANIFEST))]
        async with settled():
            scene.ask(ali, PARTS[0])
        assert other.heard == []

    async def test_a_manifest_of_ones_own_making_reaches_ones_own_people_only(self, scene: Scene) -> None:
        scene.owns("bea", PARTS[0])
        scene.owns("ali", MANIFEST)
        ali, other, bea = scene.come(ALI), scene.come(ALI), scene.come(BEA)
        await self.pulled(scene, ali, other)
        async with settled():
            scene.ask(ali, PARTS[0])
        assert (asked(other), bea.heard) == ([hashed(PARTS[0])], [])

    @pytest.mark.parametrize(
        "content", [b"{", b"{}", b'{"chunkHashes":5}', b'{"chunkHashes":["x"]}', b"[1]", b'{"a":' * 90_000]
    )
    async def test_what_is_no_manifest_teaches_nothing(self, scene: Scene, content: bytes) -> None:
        scene.owns("ali", content)
        ali, other = scene.come(ALI), scene.come(ALI)
        await self.pulled(scene, ali, other, content)
        assert not scene.relay._manifests._count


class TestAnswers:
    """Those who were asked, once, with the right bytes."""

    async def test_a_wrong_answer_is_none_and_the_next_one_may_be_right(self, scene: Scene) -> None:
        one, liar, honest = (scene.come(None) for _ in range(3))
        scene.ask(one, b"x")
        for text in ("eA", "e A==", "e\nA==", "====", "Ä", base64.b64encode(b"y").decode()):
            request_id = liar.heard[-1]["requestId"]
            scene.relay.share(liar, BlobResponse("a", request_id, text))
            assert one.heard == []
        scene.answer(honest, b"x")
        assert contents(one) == [b"x"]

    async def test_who_lied_is_not_listened_to_again(self, scene: Scene) -> None:
        one, liar, _ = (scene.come(None) for _ in range(3))
        scene.ask(one, b"x")
        scene.answer(liar, b"y")
        scene.answer(liar, b"x")
        assert one.heard == []

    async def test_who_was_not_asked_is_not_heard(self, scene: Scene) -> None:
        scene.owns("ali", b"x")
        ali, other, bea = scene.come(ALI), scene.come(ALI), scene.come(BEA)
        async with settled():
            scene.ask(ali, b"x")
        request_id = other.heard[-1]["requestId"]
        late = scene.come(ALI)
        for peer in (bea, late, ali):
            scene.answer(peer, b"x", request_id)
        assert contents(ali) == []
        scene.answer(other, b"x")
        assert contents(ali) == [b"x"]

    async def test_an_answer_has_a_limit(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_ANSWER_LENGTH", 8)
        one, two = scene.come(None), scene.come(None)
        for content in (b"x" * 6, b"x" * 7):
            scene.ask(one, content)
            scene.answer(two, content)
        assert contents(one) == [b"x" * 6]

    async def test_the_empty_blob_is_one(self, scene: Scene) -> None:
        one, two = scene.come(None), scene.come(None)
        scene.ask(one, b"")
        scene.answer(two, b"")
        assert contents(one) == [b""]

    async def test_an_answer_comes_once_and_not_after_all(self, scene: Scene) -> None:
        one, two, three = (scene.come(None) for _ in range(3))
        scene.ask(one, b"x")
        scene.answer(two, b"x")
        scene.answer(three, b"x")
        assert contents(one) == [b"x"]

    async def test_nobody_waits_for_an_answer_that_can_not_come(self, scene: Scene) -> None:
        one, two, three = (scene.come(None) for _ in range(3))
        scene.ask(one, b"x")
        scene.answer(two, None)
        assert len(scene.relay._requests) == 1
        scene.answer(three, b"wrong")
        assert not scene.relay._requests
        three.reads = two.reads = False
        scene.ask(one, b"x")
        assert not scene.relay._requests

    async def test_pushes_are_dropped_where_nothing_is_kept(self, scene: Scene) -> None:
        one, two = scene.come(None), scene.come(None)
        scene.relay.share(one, BlobPush("m", hashed(b"x"), "eA=="))
        assert two.heard == []


class TestLimits:
    """What waits is bounded, and ends."""

    @pytest.mark.parametrize("text", ["", "x", "g" * 64, "a" * 63, "a" * 65, hashed(b"x") + "\n"])
    async def test_only_hashes_are_asked_for(self, scene: Scene, text: str) -> None:
        one, two = scene.come(None), scene.come(None)
        scene.relay.share(one, BlobRequest("m", "mine", text))
        assert two.heard == []

    async def test_a_session_has_a_number_of_open_requests(
        self, autojump_clock: trio.testing.MockClock, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_OPEN_REQUESTS_OF_A_PEER", 3)
        monkeypatch.setattr(module, "MAX_OPEN_REQUESTS", 5)
        one, two, three = (scene.come(None) for _ in range(3))
        for peer in (one, two):
            for number in range(9):
                scene.ask(peer, str(number).encode())
        assert len(asked(three)) == 5
        scene.relay.forget(one)
        scene.ask(two, b"x")
        assert len(asked(three)) == 6
        await trio.sleep(module.REQUEST_LIFETIME_S + 1)
        scene.ask(two, b"y")
        assert len(asked(three)) == 7
        assert len(scene.relay._requests) == 1

    async def test_nothing_is_found_out_for_who_has_left(self, scene: Scene) -> None:
        scene.owns("ali", b"x")
        ali, other = scene.come(ALI), scene.come(ALI)
        async with settled():
            scene.ask(ali, b"x")
            scene.hub.leave(ali)
            scene.relay.forget(ali)
        assert (other.heard, scene.questions) == ([], [])


async def test_answers_reach_nobody_who_has_left(scene: Scene) -> None:
    one, two = scene.come(None), scene.come(None)
    scene.ask(one, b"x")
    scene.relay.forget(one)
    scene.answer(two, b"x")
    assert contents(one) == []
