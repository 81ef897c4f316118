"""In whose name devices write, over sockets: claims, handover, the log, restarts, two servers (auth.md section 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from tests.support.app import Device, device
from tests.support.network import Host
from tests.support.scoped import DURABLE, KINDS, Place, Users
from tests.support.stock_device import StockDevice
from tests.support.stores import RECORD_STORES

REFUSED = ["NODE_ID_MISMATCH"]


def users() -> Users:
    made = Users(alice=None, bob=None)
    made.grant("", None)
    return made


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(RECORD_STORES[request.param], tmp_path, users())


async def sends(host: Host, user: str, node: str, record_id: str, **members: Any) -> list[str]:
    """A device signs in and writes a new record; what it is refused."""
    async with device(host.url, node, authToken=user) as made:
        made.count = hash(record_id) % 1_000
        operation = made.insert("todos", record_id) | {"id": f"op of {record_id}", **members}
        return [one["code"] for one in await made.send(operation)]


def claimed(place: Place, node: str = "phone") -> str | None:
    memory = place.store.node_memory(node)
    return None if memory is None else memory.claimed_by


async def test_a_node_belongs_to_whom_uploads_with_it_first(place: Place) -> None:
    async with place.server(node_binding="enforce") as host:
        async with device(host.url, "phone", authToken="bob"):
            pass
        assert claimed(place) is None, "connecting is not claiming"
        assert await sends(host, "alice", "phone", "a") == []
        assert claimed(place) == "alice"
        assert await sends(host, "bob", "phone", "b") == REFUSED
        assert await sends(host, "alice", "phone", "c") == []
        assert {entry.operation.record_id for entry in place.store.entries_after(0, 10)} == {"a", "c"}


async def test_nobody_writes_as_another_device(place: Place) -> None:
    async with place.server(node_binding="enforce") as host:
        assert await sends(host, "bob", "laptop", "a", nodeId="phone") == REFUSED
        assert await sends(host, "bob", "laptop", "b", nodeId="phone", sequenceNumber=10**9) == ["INVALID_OPERATION"]
        assert place.store.count_operations() == 0
        assert claimed(place) is None


async def test_a_refusal_costs_the_rest_of_the_batch_nothing(place: Place) -> None:
    async with place.server(node_binding="enforce") as host, device(host.url, "laptop", authToken="bob") as laptop:
        first, foreign, last = (laptop.insert("todos", name) for name in "abc")
        foreign["nodeId"] = "phone"
        assert [one["operationId"] for one in await laptop.send(first, foreign, last)] == [foreign["id"]]
        assert [entry.operation.record_id for entry in place.store.entries_after(0, 10)] == ["a", "c"]


@pytest.mark.parametrize(("binding", "lines"), [("warn", 1), ("off", 0)])
async def test_a_warning_is_logged_once_for_a_connection(place: Place, binding: str, lines: int) -> None:
    async with place.server(node_binding=binding) as host:
        assert await sends(host, "alice", "phone", "a") == []
        with capture_logs() as logged:
            async with device(host.url, "laptop", authToken="bob") as laptop:
                for number in range(3):
                    await laptop.takes(laptop.insert("todos", f"b{number}") | {"nodeId": "phone"})
                await laptop.takes(laptop.insert("todos", "c"))
        warned = [one for one in logged if one["event"] == "session.foreign_node"]
        assert len(warned) == lines
        for one in warned:
            assert (one["node"], one["user"], one["operations"]) == ("laptop", "bob", 1)


async def test_what_is_sent_again_is_acknowledged_whoever_sends_it(place: Place) -> None:
    async with place.server(node_binding="enforce") as host:
        async with device(host.url, "phone", authToken="alice") as phone:
            mine = phone.insert("todos", "a")
            await phone.takes(mine)
        async with device(host.url, "laptop", authToken="bob") as laptop:
            await laptop.takes(mine, laptop.insert("todos", "b"))
        assert place.store.count_operations() == 2


@pytest.mark.parametrize(("binding", "goes_on"), [("enforce", True), ("warn", False)])
async def test_nobody_makes_somebody_elses_device_begin_anew(place: Place, binding: str, goes_on: bool) -> None:
    place.users.grant("alice", {"todos": {"userId": "alice"}})
    place.users.grant("bob", {"todos": {"userId": "bob"}})
    async with place.server(node_binding=binding) as host:
        phone, thief = StockDevice("phone", "alice"), StockDevice("phone", "bob")
        async with phone.online(host.url):
            await phone.push(phone.insert("todos", "t", userId="alice"))
        async with StockDevice("desk", "alice").online(host.url) as desk:
            await desk.push(desk.insert("todos", "u", userId="alice"))
        async with phone.online(host.url):
            pass
        async with StockDevice("bob's own", "bob").online(host.url) as own:
            await own.push(own.insert("todos", "v", userId="bob"))
        async with thief.online(host.url):
            assert set(thief.records("todos")) == {"v"}
        phone.delivered.clear()
        async with phone.online(host.url):
            assert (phone.delivered == []) is goes_on


async def test_users_of_one_browser(place: Place) -> None:
    for name in ("alice", "bob"):
        place.users.grant(name, None, device_id="phone")
    async with place.server(node_binding="enforce") as host:
        assert await sends(host, "alice", "phone", "a") == []
        assert await sends(host, "bob", "phone", "b") == []
        assert await sends(host, "alice", "phone", "c") == []
        assert claimed(place) == "alice"
        place.users.grant("bob", None, device_id="laptop")
        assert await sends(host, "bob", "phone", "d") == REFUSED
        assert await sends(host, "bob", "laptop", "e") == []


async def test_users_of_one_browser_where_that_is_not_wanted(place: Place) -> None:
    for name in ("alice", "bob"):
        place.users.grant(name, None, device_id="phone")
    async with place.server(node_binding="enforce", node_handover=False) as host:
        assert await sends(host, "alice", "phone", "a") == []
        assert await sends(host, "bob", "phone", "b") == REFUSED


async def test_visitors(place: Place) -> None:
    async with place.server(node_binding="enforce") as host:
        assert await sends(host, "", "phone", "a") == []
        place.users.grant("", None)
        assert await sends(host, "", "phone", "b") == [], "another visitor's id, the same device"
        assert claimed(place) == ""
        assert await sends(host, "alice", "phone", "c") == []
        assert claimed(place) == "alice"
        assert await sends(host, "", "phone", "d") == REFUSED


async def test_nobody_is_the_server(place: Place) -> None:
    async with place.server(node_binding="enforce") as host:
        server = place.store.node_id
        assert await sends(host, "bob", server, "a") == REFUSED
        assert await sends(host, "bob", "laptop", "b", nodeId=server) == REFUSED
        assert place.store.version_vector() == {}
        assert claimed(place, server) is None


@pytest.mark.parametrize("name", DURABLE)
async def test_a_claim_outlives_the_server(name: str, tmp_path: Path) -> None:
    place = Place(RECORD_STORES[name], tmp_path, users())
    async with place.server(node_binding="enforce") as host:
        assert await sends(host, "alice", "phone", "a") == []
    async with place.server(node_binding="enforce") as host:
        assert await sends(host, "bob", "phone", "b") == REFUSED
        assert await sends(host, "alice", "phone", "c") == []


async def test_two_servers_claim_together(tmp_path: Path) -> None:
    place = Place(RECORD_STORES["postgres"], tmp_path, users())
    async with place.server(node_binding="enforce") as one, place.another(node_binding="enforce") as other:
        assert await sends(one, "alice", "phone", "a") == []
        assert await sends(other, "bob", "phone", "b") == REFUSED
        assert await sends(other, "alice", "phone", "c") == []


async def test_a_race_for_a_node_has_one_winner(tmp_path: Path) -> None:
    place = Place(RECORD_STORES["postgres"], tmp_path, users())
    async with place.server(node_binding="enforce") as one, place.another(node_binding="enforce") as other:
        for round_ in range(20):
            refused: dict[str, list[str]] = {}

            async def write(host: Host, user: str, node: str, refused: dict[str, list[str]]) -> None:
                refused[user] = await sends(host, user, node, f"{node} {user}")

            async with trio.open_nursery() as nursery:
                for host, user in ((one, "alice"), (other, "bob")):
                    nursery.start_soon(write, host, user, f"phone {round_}", refused)
            assert sorted(refused.values()) == [[], REFUSED]
            (winner,) = [user for user, codes in refused.items() if not codes]
            assert claimed(place, f"phone {round_}") == winner


async def test_devices_of_a_server_that_lost_its_data_may_bring_what_they_hold_of_others(place: Place) -> None:
    """The one case in which operations of other nodes are legitimate; under `enforce` they are told why not."""

    async def brings(host: Host) -> tuple[list[str], Device]:
        async with device(host.url, "laptop", authToken="bob") as laptop:
            held = [laptop.insert("todos", f"t{n}") | {"nodeId": "lost phone"} for n in range(3)]
            return [one["code"] for one in await laptop.send(*held)], laptop

    async with place.server(node_binding="enforce") as host:
        assert (await brings(host))[0] == REFUSED * 3
    async with place.server(node_binding="warn") as host:
        assert (await brings(host))[0] == []
        assert place.store.version_vector() == {"lost phone": 3}
