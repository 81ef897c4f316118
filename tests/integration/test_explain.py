"""Why an operation was or was not delivered: what is said agrees with what devices got."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.explain import Explanation
from tests.support.http import http_client
from tests.support.network import Host, connected
from tests.support.scoped import KINDS, Place, Users
from tests.support.stock_device import StockDevice
from tests.support.stores import RECORD_STORES

FIELDS = ("userId", "title")
VALUES = ("alice", "bob")


def some_where(random: Random) -> dict[str, str]:
    return {name: random.choice(VALUES) for name in FIELDS if random.random() < 0.4}


def some_scope(random: Random) -> ScopeMap | None:
    if random.random() < 0.3:
        return None
    return {name: some_where(random) for name in ("todos", "notes") if random.random() < 0.8}


async def write_some(host: Host, random: Random) -> list[str]:
    """Random inserts, updates and deletes of a device that may do everything; their ids."""
    desk = StockDevice("desk", "admin")
    written: list[dict[str, Any]] = []
    for number in range(12):
        collection, record = random.choice(("todos", "notes")), f"r{random.randrange(5)}"
        if desk.record(collection, record) is None:
            written.append(desk.insert(collection, record, **some_where(random), done=False))
        elif random.random() < 0.8:
            written.append(desk.update(collection, record, **{**some_where(random), "orgId": number}))
        else:
            written.append(desk.delete(collection, record))
    async with desk.online(host.url):
        pass
    return [one["id"] for one in written]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", range(12))
async def test_what_is_said_is_what_devices_got(kind: str, seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    granted, asked = some_scope(random), some_scope(random)
    place = Place(RECORD_STORES[kind], tmp_path, Users(admin=None, user=granted))
    async with place.server() as host:
        ids = await write_some(host, random)
        device = StockDevice("phone", "user", asked)
        if random.random() < 0.5:
            device.watch(*(("todos", some_where(random)) for _ in range(2)))
        async with device.online(host.url):
            await device.hears_nothing_more()
            for one in ids:
                explained = await host.server.explain("phone", one)
                assert (explained.verdict == "delivered") == (one in device.delivered), explained
                assert explained.verdict in ("delivered", "hidden"), explained
                assert (explained.sessions[0].hidden_by is None) == (one in device.delivered)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    grant: ScopeMap = {"todos": {"userId": "alice"}}
    return Place(RECORD_STORES[request.param], tmp_path, Users(admin=None, alice=grant))


async def stocked(host: Host) -> None:
    desk = StockDevice("desk", "admin")
    desk.insert("todos", "a", userId="alice", title="hers")
    desk.insert("todos", "b", userId="bob", title="his")
    desk.insert("notes", "c", userId="alice")
    async with desk.online(host.url):
        pass


def told(explained: Explanation) -> tuple[str, str | None]:
    return explained.verdict, explained.sessions[0].hidden_by if explained.sessions else None


async def test_what_hides_it_is_named(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        phone = StockDevice("phone", "alice", {"todos": {"title": "other"}})
        async with phone.online(host.url):
            assert told(await host.server.explain("phone", "desk/1")) == ("hidden", "request")
            by_grant = await host.server.explain("phone", "desk/2")
            assert told(by_grant) == ("hidden", "grant")
            assert by_grant.fields == {"userId": "bob", "title": "his"}
            assert told(await host.server.explain("phone", "desk/3")) == ("hidden", "grant")
        tablet = StockDevice("tablet", "alice")
        tablet.watch(("todos", {"title": "other"}))
        async with tablet.online(host.url):
            assert told(await host.server.explain("tablet", "desk/1")) == ("hidden", "subset")


async def test_what_is_not_in_the_log_or_the_devices_own_or_nobody_there(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        assert told(await host.server.explain("phone", "desk/9")) == ("not-in-log", None)
        assert told(await host.server.explain("phone", "desk/1")) == ("not-connected", None)
        assert told(await host.server.explain("desk", "desk/1")) == ("own", None)
        desk = StockDevice("desk", "admin")
        desk.count = 3
        async with desk.online(host.url):
            await desk.push(desk.insert("todos", "d", userId="alice"))
            assert told(await host.server.explain("desk", "desk/4")) == ("own", None)


async def test_what_is_under_way_and_what_is_still_to_come(place: Place) -> None:
    async with place.server(batch_size=1) as host:
        await stocked(host)
        async with connected(host.url) as client:
            await client.shake_hands("phone", authToken="admin")
            batches = [await client.hear() for _ in range(3)]
            sent = await host.server.explain("phone", "desk/1")
            assert (sent.verdict, sent.sequence) == ("sent", 1)
            assert sent.sessions[0].progress is not None
            assert sent.sessions[0].progress.acknowledged == 0
            await client.acknowledge(batches[0])
            await client.was_heard()
            assert (await host.server.explain("phone", "desk/1")).verdict == "delivered"
            assert (await host.server.explain("phone", "desk/3")).verdict == "sent"


async def test_before_the_handshake_is_answered_all_is_to_come(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        asked = trio.Event()
        answered = place.users.authenticate

        async def slow(token: str) -> Any:
            asked.set()
            await trio.sleep_forever()
            return await answered(token)

        place.users.authenticate = slow  # type: ignore[method-assign]
        async with connected(host.url) as client:
            await client.say(
                {
                    "type": "handshake",
                    "nodeId": "phone",
                    "versionVector": {},
                    "schemaVersion": 1,
                    "lastDeliverySequence": 0,
                    "authToken": "alice",
                }
            )
            await asked.wait()
            assert told(await host.server.explain("phone", "desk/1")) == ("to-come", None)


async def test_over_http_it_is_for_operators(place: Place) -> None:
    async with place.server() as host, http_client(host.port) as client:
        await stocked(host)
        answer = await client.ask("/__kora/explain?node=phone&op=desk/1")
        assert (answer.status, answer.json["verdict"], answer.json["record"]) == (200, "not-connected", "a")
        assert (await client.ask("/__kora/explain?node=phone")).status == 400
        elsewhere = {"host": "kora.example"}
        assert (await client.ask("/__kora/explain?node=phone&op=desk/1", headers=elsewhere)).status == 403
