"""What is known of records is what they are: no change that has passed by is overlooked, and no store asked twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import UNSET

from kora_daemon.errors import StoreUnavailable
from kora_daemon.model.record import RecordKey
from kora_daemon.server import lookups as module
from kora_daemon.server.hub import Hub
from kora_daemon.server.lookups import Known, Lookups
from tests.support.operations import entry

ONE, TWO = RecordKey("notes", "n1"), RecordKey("notes", "n2")


class Records:
    """What a store would say, and what it was asked. While `gate` is closed it does not answer."""

    def __init__(self) -> None:
        self.fields: dict[RecordKey, dict[str, Any]] = {}
        self.asked: list[list[RecordKey]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.fails = False

    async def read(self, keys: Iterable[RecordKey]) -> dict[RecordKey, dict[str, Any]]:
        self.asked.append(list(keys))
        found = {key: dict(self.fields[key]) for key in keys if key in self.fields}
        await self.gate.wait()
        if self.fails:
            raise StoreUnavailable("gone")
        return found


class Scene:
    """A log, a store beside it, and what was answered so far."""

    def __init__(self) -> None:
        self.hub = Hub(0)
        self.records = Records()
        self.lookups = Lookups(self.hub, self.records.read)
        self.answers: list[tuple[str, Known]] = []

    def change(self, key: RecordKey, **fields: Any) -> None:
        """A commit: the store has it, then it passes by."""
        self.records.fields[key] = fields
        body = json.dumps({"id": "x", "collection": key.collection, "recordId": key.record_id}).encode()
        self.hub.publish([entry(self.hub.frontier + 1, body=body)])

    def ask(self, key: RecordKey, name: str = "") -> None:
        self.lookups.ask(key, lambda fields: self.answers.append((name, fields)))


@pytest.fixture
def scene() -> Scene:
    return Scene()


@asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.lookups.run)
        yield
        nursery.cancel_scope.cancel()


async def test_a_record_is_asked_for_once_until_it_changes(scene: Scene) -> None:
    scene.change(ONE, ownerId="ali")
    async with running(scene):
        assert scene.lookups.known(ONE) is UNSET
        scene.ask(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.answers == [("", {"ownerId": "ali"})]
        for _ in range(10):
            assert scene.lookups.known(ONE) == {"ownerId": "ali"}
        scene.change(TWO, ownerId="bea")
        assert scene.lookups.known(ONE) == {"ownerId": "ali"}
        scene.change(ONE, ownerId="bea")
        assert scene.lookups.known(ONE) is UNSET
        assert len(scene.records.asked) == 1


async def test_that_there_is_no_record_is_known_until_there_is_one(scene: Scene) -> None:
    async with running(scene):
        scene.ask(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.lookups.known(ONE) is None
        scene.change(ONE, ownerId="ali")
        assert scene.lookups.known(ONE) is UNSET


async def test_what_is_wanted_meanwhile_is_asked_for_together(scene: Scene) -> None:
    scene.records.gate = trio.Event()
    async with running(scene):
        scene.ask(ONE, "first")
        await trio.testing.wait_all_tasks_blocked()
        for name in "ab":
            scene.ask(TWO, name)
            scene.ask(RecordKey("notes", name), name)
        scene.records.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert scene.records.asked == [[ONE], [TWO, RecordKey("notes", "a"), RecordKey("notes", "b")]]
        assert [name for name, _ in scene.answers] == ["first", "a", "b", "a", "b"]


async def test_a_record_that_changes_while_it_is_read_is_not_remembered_as_it_was(scene: Scene) -> None:
    scene.change(ONE, ownerId="ali")
    scene.records.gate = trio.Event()
    async with running(scene):
        scene.ask(ONE, "before")
        await trio.testing.wait_all_tasks_blocked()
        scene.ask(ONE, "also before")
        scene.change(ONE, ownerId="bea")
        assert scene.lookups.known(ONE) is UNSET
        scene.ask(ONE, "after")
        scene.records.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert scene.answers == [
            ("before", {"ownerId": "ali"}),
            ("also before", {"ownerId": "ali"}),
            ("after", {"ownerId": "bea"}),
        ]
        assert scene.lookups.known(ONE) == {"ownerId": "bea"}


async def test_a_change_that_nobody_looked_at_meanwhile_counts_too(scene: Scene) -> None:
    scene.change(ONE, ownerId="ali")
    scene.records.gate = trio.Event()
    async with running(scene):
        scene.ask(ONE)
        await trio.testing.wait_all_tasks_blocked()
        scene.change(ONE, ownerId="bea")
        scene.records.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert scene.lookups.known(ONE) is UNSET


async def test_nor_is_what_can_not_be_followed_while_it_is_read(scene: Scene) -> None:
    scene.change(ONE, ownerId="ali")
    scene.records.gate = trio.Event()
    async with running(scene):
        scene.ask(ONE)
        await trio.testing.wait_all_tasks_blocked()
        scene.hub.skip_to(100)
        scene.records.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert scene.lookups.known(ONE) is UNSET


@pytest.mark.parametrize("how", ["skipped", "flooded", "another log"])
async def test_what_can_not_be_followed_is_forgotten(scene: Scene, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.change(ONE, ownerId="ali")
    monkeypatch.setattr(module, "MAX_ENTRIES_BEHIND", 3)
    async with running(scene):
        scene.ask(ONE)
        await trio.testing.wait_all_tasks_blocked()
        if how == "skipped":
            scene.hub.skip_to(100)
        elif how == "another log":
            scene.hub.begin_anew(scene.hub.frontier)
        else:
            for _ in range(4):
                scene.change(TWO)
        assert scene.lookups.known(ONE) is UNSET


async def test_a_store_that_fails_is_no_record_that_is_missing(scene: Scene) -> None:
    scene.records.fails = True
    async with running(scene):
        scene.ask(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.answers == [("", UNSET)]
        assert scene.lookups.known(ONE) is UNSET
        scene.records.fails = False
        scene.ask(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.answers[1:] == [("", None)]


async def test_what_is_remembered_and_what_waits_has_a_limit(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    monkeypatch.setattr(module, "MAX_WAITING", 5)
    keys = [RecordKey("notes", str(number)) for number in range(6)]
    for key in keys:
        scene.ask(key, key.record_id)
    assert scene.answers == [("5", UNSET)]
    scene.ask(keys[0], "0 again")
    assert len(scene.answers) == 1
    async with running(scene):
        await trio.testing.wait_all_tasks_blocked()
        assert len(scene.answers) == 7
        assert [scene.lookups.known(key) for key in keys] == [UNSET, UNSET, None, None, None, UNSET]


@pytest.mark.parametrize("name", ["", "n" * 256, "\ud800"])
async def test_what_can_not_be_called_so_is_not_asked_for(scene: Scene, name: str) -> None:
    scene.ask(RecordKey("notes", name))
    scene.ask(RecordKey(name, "n1"))
    assert scene.lookups.known(RecordKey(name, "n1")) is None
    assert scene.answers == [("", None)] * 2


async def test_only_what_a_scope_can_be_told_by_is_kept(scene: Scene) -> None:
    fields = {"a": "x" * 255, "b": 1, "c": False, "d": None, "e": 1.5}
    scene.change(ONE, **fields, f=[1], g={"x": 1}, h=b"x", i="x" * 256)
    async with running(scene):
        scene.ask(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.lookups.known(ONE) == fields


async def test_operations_with_half_a_surrogate_pair_are_understood(scene: Scene) -> None:
    async with running(scene):
        scene.ask(ONE)
        await trio.testing.wait_all_tasks_blocked()
        body = b'{"data":{"title":"\\ud800"},"collection":"notes","recordId":"n1","id":"\\ud800"}'
        scene.hub.publish([entry(1, body=body)])
        assert scene.lookups.known(ONE) is UNSET
