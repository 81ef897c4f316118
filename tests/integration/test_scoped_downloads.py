"""What stock devices make of what they are sent: they drop what they can't relate to their scope or their queries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.model.scope import ScopeMap
from tests.support.devices import ids, insert
from tests.support.network import connected
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


# Clients of the generation without a watermark


async def test_old_clients_get_what_they_may_see_and_nothing_else(place: Place) -> None:
    async with place.server() as host, StockDevice("desk", "admin").online(host.url) as desk:
        mine = [desk.insert("todos", f"a{n}", userId="alice") for n in range(3)]
        theirs = [desk.insert("todos", f"b{n}", userId="bob") for n in range(3)]
        await desk.push(*mine, *theirs, desk.insert("notes", "n1", userId="alice"))
        async with connected(host.url) as old:
            response = await old.shake_hands("old", None, authToken="alice")
            assert response["acceptedScope"] == ALICE
            assert "serverMaxDeliverySequence" not in response
            (batch,) = await old.download()
            assert ids(batch) == ids({"operations": mine})
            assert batch["totalBatches"] == 1, "how much else there is can't be told from it"

            await desk.push(
                desk.insert("todos", "b9", userId="bob"), later := desk.insert("todos", "a9", userId="alice")
            )
            (live,) = await old.download()
            assert ids(live) == [later["id"]]
            await desk.push(changed := desk.update("todos", "a0", title="new"), desk.update("todos", "b0", title="new"))
            (live,) = await old.download()
            assert ids(live) == [changed["id"]]


async def test_an_old_client_that_comes_back_gets_what_its_vector_lacks(place: Place) -> None:
    async with place.server() as host, StockDevice("desk", "admin").online(host.url) as desk:
        await desk.push(desk.insert("todos", "a1", userId="alice"), desk.insert("todos", "b1", userId="bob"))
        known = desk.count
        fresh = [desk.insert("todos", "b2", userId="bob"), desk.insert("todos", "a2", userId="alice")]
        await desk.push(*fresh, gone := desk.delete("todos", "a1"), desk.delete("todos", "b1"))
        async with connected(host.url) as old:
            await old.shake_hands("old", None, authToken="alice", versionVector={"desk": known})
            assert ids(*await old.download()) == [fresh[1]["id"], gone["id"]]
            await old.upload(insert("old", 1, userId="alice"), insert("old", 2, userId="bob"))
            error, answer = await old.hear(), await old.hear()
            assert (error["type"], error["code"]) == ("error", "SCOPE_VIOLATION")
            assert (answer["type"], answer["lastSequenceNumber"]) == ("acknowledgment", 2)
        await desk.until(lambda: "old/1" in desk.log)
        assert "old/2" not in desk.log
