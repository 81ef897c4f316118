"""What stock devices make of what they are sent: they drop what they can't relate to their scope or their queries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.model.scope import ScopeMap
from tests.support.scoped import KINDS, Place, Users
from tests.support.stock_device import StockDevice
from tests.support.stores import RECORD_STORES

ALICE: ScopeMap = {"todos": {"userId": "alice"}}


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(RECORD_STORES[str(request.param)], tmp_path, Users(admin=None, alice=ALICE))


def written_by(desk: StockDevice) -> list[dict[str, Any]]:
    """Four records, three of which change and one of which is deleted, partly right behind each other."""
    return [
        desk.insert("todos", "t1", userId="alice", title="one", done=False),
        desk.update("todos", "t1", title="One"),
        desk.insert("todos", "t2", userId="alice", title="two", done=False),
        desk.insert("todos", "t3", userId="alice", title="three", done=False),
        desk.delete("todos", "t2"),
        desk.update("todos", "t3", title="Three"),
        desk.insert("todos", "t4", userId="alice", title="four", done=False),
        desk.update("todos", "t3", title="III"),
        desk.update("todos", "t4", title="Four"),
    ]


TITLES = {"t1": "One", "t3": "III", "t4": "Four"}

VIEWS: dict[str, tuple[ScopeMap | None, list[tuple[str, Mapping[str, Any]]]]] = {
    "a scope": (ALICE, []),
    "a query": (None, [("todos", {"done": False})]),
    "a query for everything": (None, [("todos", {})]),
    "a scope and a query": (ALICE, [("todos", {"done": False})]),
    "a scope and a query for everything": (ALICE, [("todos", {})]),
    "nothing": (None, []),
}


@pytest.mark.parametrize("view", list(VIEWS))
@pytest.mark.parametrize("accepted_scope", ["full", "collections", "none"])
async def test_a_first_sync_brings_what_became_of_records(place: Place, view: str, accepted_scope: str) -> None:
    scopes, queries = VIEWS[view]
    place.users.grant("alice", scopes)
    async with place.server(accepted_scope=accepted_scope, batch_size=4) as host:
        desk, device = StockDevice("desk", "admin"), StockDevice("phone", "alice")
        async with desk.online(host.url):
            await desk.push(*written_by(desk))
        device.watch(*queries)
        async with device.online(host.url):
            assert len(device.delivered) == len(set(device.delivered)) == 9
        assert {name: record["title"] for name, record in device.records("todos").items()} == TITLES


@pytest.mark.parametrize("view", list(VIEWS))
async def test_live_batches_do_too(place: Place, view: str) -> None:
    scopes, queries = VIEWS[view]
    place.users.grant("alice", scopes)
    async with place.server() as host:
        desk, device = StockDevice("desk", "admin"), StockDevice("phone", "alice")
        device.watch(*queries)
        async with desk.online(host.url), device.online(host.url):
            await desk.push(*written_by(desk))
            await device.until(lambda: len(device.delivered) == 9)
        assert {name: record["title"] for name, record in device.records("todos").items()} == TITLES
