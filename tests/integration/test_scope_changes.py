"""Devices whose scopes change between their connections: they end in sync with the right data, whatever was before.

View memory and forced reset (scopes.md section 7) and withheld writes (section 8), over sockets, through restarts of
the app and of the server, on every store.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.model.scope import ScopeMap
from kora_daemon.protocol import arrears
from tests.support.network import Host, connected
from tests.support.scoped import DURABLE, KINDS, Place, Users
from tests.support.stock_device import StockDevice
from tests.support.stores import RECORD_STORES

ALICE: ScopeMap = {"todos": {"userId": "alice"}}
BOB: ScopeMap = {"todos": {"userId": "bob"}}
WIDER: ScopeMap = {"todos": {"userId": "alice"}, "notes": {}}
ALL_TODOS: ScopeMap = {"todos": {}}
MakePlace = Callable[..., Place]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(kind: str, tmp_path: Path) -> Place:
    return Place(RECORD_STORES[kind], tmp_path, Users(admin=None, alice=ALICE, bob=BOB))


@pytest.fixture(params=DURABLE)
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(RECORD_STORES[request.param], tmp_path, Users(admin=None, alice=ALICE, bob=BOB))


def phone() -> StockDevice:
    return StockDevice("phone", "alice")


def admin() -> StockDevice:
    return StockDevice("desk", "admin")


def ids(*numbers: int, node: str = "desk") -> list[str]:
    return [f"{node}/{number}" for number in numbers]


async def write(host: Host, device: StockDevice, *operations: Any) -> None:
    async with device.online(host.url):
        await device.push(*operations)


async def stocked(host: Host) -> StockDevice:
    """Someone who may write everything has written a little."""
    desk = admin()
    await write(
        host,
        desk,
        desk.insert("todos", "a1", userId="alice", title="hers"),
        desk.insert("todos", "b1", userId="bob", title="his"),
        desk.insert("notes", "n1", userId="bob", title="everybody's"),
        desk.insert("todos", "a2", userId="alice", title="hers too"),
    )
    return desk


# View memory


async def test_a_client_that_leaves_its_scope_to_the_server_goes_on_where_it_was(place: Place) -> None:
    async with place.server() as host:
        desk = await stocked(host)
        device = phone()
        async with device.online(host.url):
            assert device.response["acceptedScope"] == ALICE
            assert device.delivered == ids(1, 4)
        await write(host, desk, desk.insert("todos", "a3", userId="alice"))
        async with device.online(host.url):
            assert device.response["serverMaxDeliverySequence"] == 5
            assert device.delivered == ids(1, 4, 5)
            await device.push(device.insert("todos", "a4", userId="alice"))
        # Nothing new, and it is in sync all the same.
        async with device.online(host.url):
            assert device.delivered == ids(1, 4, 5)
    assert set(device.records("todos")) == {"a1", "a2", "a3", "a4"}


async def test_it_does_so_however_soon_it_comes_again(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        for number in range(10):
            who = {"node_id": f"hasty-{number}", "authToken": "alice"}
            async with connected(host.url) as first, connected(host.url) as second:
                response = await first.shake_hands(**who)
                reached = (await first.download())[-1]["maxDeliverySequence"]
                assert reached == response["serverMaxDeliverySequence"]
                # It has heard nothing behind its last acknowledgment, and what it told is still being written.
                await first.was_heard()
                again = await second.shake_hands(watermark=reached, **who)
                assert again["serverMaxDeliverySequence"] == reached


async def test_it_does_so_after_a_restart_of_the_server(durable: Place) -> None:
    device = phone()
    async with durable.server() as host:
        desk = await stocked(host)
        async with device.online(host.url):
            pass
    async with durable.server() as host:
        await write(host, desk, desk.insert("todos", "a3", userId="alice"))
        async with device.online(host.url):
            assert device.delivered == ids(1, 4, 5)


async def test_an_app_that_was_restarted_gets_everything_once_more(place: Place) -> None:
    # Its watermark stands under the scope that it was given, and it does not know that any more.
    async with place.server() as host:
        await stocked(host)
        device = phone()
        async with device.online(host.url):
            pass
        device.restart()
        assert device.watermark == 0
        async with device.online(host.url):
            await device.push(device.update("todos", "a1", title="new"))
        assert device.delivered == ids(1, 4) * 2
        assert device.rejected == {}


@pytest.mark.parametrize("accepted_scope", ["none", "collections"])
async def test_an_app_that_was_told_less_goes_on_after_a_restart_where_it_can(
    place: Place, accepted_scope: str
) -> None:
    async with place.server(accepted_scope=accepted_scope) as host:
        await stocked(host)
        device = phone()
        async with device.online(host.url):
            assert device.active == (None if accepted_scope == "none" else {"todos": {}})
        device.restart()
        async with device.online(host.url):
            pass
        assert device.delivered == ids(1, 4) * (1 if accepted_scope == "none" else 2)


@pytest.mark.parametrize(
    ("after", "seen", "later", "todos"),
    [
        (WIDER, ids(1, 3, 4), ids(5), {"a1", "a2", "a3"}),
        (ALL_TODOS, ids(1, 2, 4), ids(5, 6), {"a1", "a2", "a3", "b1", "b3"}),
        # It is told nothing then, so as long as it runs it drops what the scope that it was told before does not fit.
        (None, ids(1, 2, 3, 4), ids(5, 6), {"a1", "a2", "a3"}),
        (BOB, ids(2), ids(6), {"a1", "a2", "b1", "b3"}),
        ({}, [], [], {"a1", "a2"}),
        ({"notes": {}}, ids(3), [], {"a1", "a2"}),
    ],
)
async def test_a_scope_that_changed_while_the_device_was_away(
    place: Place, after: ScopeMap | None, seen: list[str], later: list[str], todos: set[str]
) -> None:
    async with place.server() as host:
        desk = await stocked(host)
        device = phone()
        async with device.online(host.url):
            pass
        place.users.grant("alice", after)
        device.delivered.clear()
        async with device.online(host.url):
            assert device.response["serverMaxDeliverySequence"] == 0
            assert device.delivered == seen
        # From then on it goes on in the new scope, without another beginning.
        await write(host, desk, desk.insert("todos", "a3", userId="alice"), desk.insert("todos", "b3", userId="bob"))
        async with device.online(host.url):
            assert device.delivered == seen + later
        assert set(device.records("todos")) == todos, "what it had before stays with it"


async def test_a_scope_that_changed_there_and_back(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        device = phone()
        for scopes in (ALICE, WIDER, ALICE, None, ALICE):
            place.users.grant("alice", scopes)
            before = len(device.delivered)
            async with device.online(host.url):
                assert (
                    device.delivered[before:] == {2: ids(1, 3, 4), 1: ids(1, 4), 0: ids(1, 2, 3, 4)}[len(scopes or {})]
                )


async def test_a_change_while_the_server_was_down(durable: Place) -> None:
    device = phone()
    async with durable.server() as host:
        await stocked(host)
        async with device.online(host.url):
            pass
    durable.users.grant("alice", WIDER)
    async with durable.server() as host, device.online(host.url):
        assert device.delivered == ids(1, 4, 1, 3, 4)
    async with durable.server() as host, device.online(host.url):
        assert device.delivered == ids(1, 4, 1, 3, 4)


async def test_a_reset_that_nothing_came_of_is_made_again(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        device = phone()
        async with device.online(host.url):
            pass
        place.users.grant("alice", WIDER)
        async with connected(host.url) as client:
            # The answer gets lost: the device still stands where it stood.
            response = await client.shake_hands("phone", device.watermark, authToken="alice")
            assert response["serverMaxDeliverySequence"] == 0
        async with device.online(host.url):
            assert device.delivered == ids(1, 4, 1, 3, 4)


async def test_a_first_sync_that_was_cut_off_goes_on_where_it_was(place: Place) -> None:
    async with place.server(batch_size=2) as host:
        desk = admin()
        todos = [desk.insert("todos", f"t{n}", userId="alice" if n % 2 else "bob") for n in range(1, 15)]
        await write(host, desk, *todos)
        device = phone()
        async with device.online(host.url):
            pass
        place.users.grant("alice", ALL_TODOS)
        device.delivered.clear()
        async with connected(host.url) as client:
            response = await client.shake_hands("phone", device.watermark, authToken="alice")
            assert response["serverMaxDeliverySequence"] == 0
            batch = await client.hear()
            assert (batch["baseDeliverySequence"], batch["maxDeliverySequence"]) == (0, 2)
            await client.acknowledge(batch)
            await client.upload()
            while (await client.hear())["type"] != "acknowledgment":
                pass
        device.active = response["acceptedScope"]
        device.watermark = device.watermarks[device.view] = 2
        async with device.online(host.url):
            assert device.response["serverMaxDeliverySequence"] == 14
            assert device.delivered == [one["id"] for one in todos[2:]]


async def test_what_the_app_asks_for_is_no_reason_to_begin_anew(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        device = StockDevice("phone", "alice", scope={"todos": {}, "notes": {}})
        async with device.online(host.url):
            assert device.active == ALICE
        device.watermarks = dict.fromkeys([device.view, ""], device.watermark)
        async with device.online(host.url):
            assert device.delivered == ids(1, 4)


async def test_a_narrowing_of_the_apps_own_is_a_scope_like_any_other(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        device = StockDevice("phone", "alice", scope={"todos": {"title": "hers"}})
        async with device.online(host.url):
            assert device.active == {"todos": {"title": "hers", "userId": "alice"}}
            assert device.delivered == ids(1)
        device.configured = None
        device.watermark = device.watermarks[device.view]
        async with device.online(host.url):
            assert device.delivered == ids(1, 1, 4)


async def test_live_queries_are_the_clients_own_business(place: Place) -> None:
    async with place.server() as host:
        desk = await stocked(host)
        device = phone()
        async with device.online(host.url):
            pass
        device.watch(("todos", {"title": "hers"}))
        assert device.watermark == 0
        async with device.online(host.url):
            assert device.delivered == ids(1, 4, 1)
        await write(host, desk, desk.insert("todos", "a3", userId="alice", title="hers"))
        device.watch()
        async with device.online(host.url):
            assert device.delivered == ids(1, 4, 1, 5), "the view without it has a watermark of its own"
        device.watch(("todos", {"title": "hers"}))
        async with device.online(host.url):
            assert device.delivered == ids(1, 4, 1, 5, 5)


@pytest.mark.parametrize("accepted_scope", ["none", "collections", "full"])
async def test_what_became_visible_during_a_live_query_arrives_in_all_views(place: Place, accepted_scope: str) -> None:
    async with place.server(accepted_scope=accepted_scope) as host:
        desk = await stocked(host)
        device = phone()
        queries: list[tuple[str, dict[str, Any]]] = [("todos", {"title": "hers"}), ("todos", {"title": "his"})]
        for query in queries:
            device.watch(query)
            async with device.online(host.url):
                pass
        place.users.grant("alice", ALL_TODOS)
        async with device.online(host.url):
            assert device.record("todos", "b1")
        await write(host, desk, desk.insert("todos", "b2", userId="bob", title="hers"))
        device.delivered.clear()
        device.watch(queries[0])
        async with device.online(host.url):
            assert device.delivered == ids(1, 5)
        device.watch()
        async with device.online(host.url):
            assert set(device.records("todos")) == {"a1", "a2", "b1", "b2"}
        device.delivered.clear()
        for query in queries:
            device.watch(query)
            async with device.online(host.url):
                assert device.delivered == [], "each of them begins anew only once"


async def test_two_people_and_one_device(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        device = phone()
        for user, seen in [("alice", ids(1, 4)), ("bob", ids(2)), ("bob", []), ("alice", ids(1, 4))]:
            device.token = user
            before = len(device.delivered)
            async with device.online(host.url):
                assert device.delivered[before:] == seen


async def test_two_servers_remember_together(tmp_path: Path) -> None:
    place = Place(RECORD_STORES["postgres"], tmp_path, Users(admin=None, alice=ALICE))
    device = phone()
    async with place.server() as one, place.another() as other:
        desk = await stocked(one)
        async with device.online(one.url):
            pass
        async with device.online(other.url):
            assert device.delivered == ids(1, 4)
        place.users.grant("alice", WIDER)
        async with device.online(other.url):
            assert device.delivered == ids(1, 4, 1, 3, 4)
        await write(one, desk, desk.insert("notes", "n2", userId="bob"))
        async with device.online(one.url):
            assert device.delivered == ids(1, 4, 1, 3, 4, 5)


# Withheld writes


async def withheld(host: Host) -> StockDevice:
    """A device that has written 1 to 5, and withheld 2 and 4, which lie in no scope of its."""
    device = phone()
    async with device.online(host.url):
        for number, user in enumerate(["alice", "carol", "alice", "carol", "alice"], 1):
            await device.push(device.insert("todos", f"t{number}", userId=user))
    assert device.uploaded == ids(1, 3, 5, node="phone")
    return device


def stored(place: Place) -> set[str]:
    return {entry.operation.id for entry in place.store.entries_after(0, 1_000)}


async def test_a_write_that_was_withheld_arrives_when_its_scope_opens(place: Place) -> None:
    async with place.server() as host:
        device = await withheld(host)
        place.users.grant("alice", ALL_TODOS)
        async with device.online(host.url):
            assert device.response["versionVector"]["phone"] == 1
        assert stored(place) == set(ids(1, 2, 3, 4, 5, node="phone"))
        assert device.rejected == {}
        async with device.online(host.url):
            assert device.response["versionVector"]["phone"] == 5


async def test_it_arrives_after_a_restart_too(durable: Place) -> None:
    async with durable.server() as host:
        device = await withheld(host)
    durable.users.grant("alice", ALL_TODOS)
    async with durable.server() as host, device.online(host.url):
        assert stored(durable) == set(ids(1, 2, 3, 4, 5, node="phone"))


async def test_a_write_outside_of_a_live_query_arrives_when_that_ends(place: Place) -> None:
    async with place.server() as host:
        device = phone()
        device.watch(("todos", {"done": False}))
        async with device.online(host.url):
            await device.push(device.insert("todos", "t1", userId="alice", done=False))
            await device.push(device.insert("todos", "t2", userId="alice", done=True))
            await device.push(device.insert("todos", "t3", userId="alice", done=False))
        assert stored(place) == set(ids(1, 3, node="phone"))
        device.watch()
        async with device.online(host.url):
            assert stored(place) == set(ids(1, 2, 3, node="phone"))


async def test_a_device_is_asked_once_for_each_view(place: Place) -> None:
    async with place.server() as host:
        device = await withheld(host)
        asked = []
        for user_scope in (ALICE, ALICE, WIDER, WIDER, ALICE):
            place.users.grant("alice", user_scope)
            async with device.online(host.url):
                asked.append(device.response["versionVector"]["phone"])
        assert asked == [1, 5, 1, 5, 1]
        assert device.uploaded == ids(1, 3, 5, *[3, 5] * 3, node="phone")
        assert stored(place) == set(ids(1, 3, 5, node="phone"))


async def test_what_was_settled_stays_so_through_a_restart(durable: Place) -> None:
    async with durable.server() as host:
        device = await withheld(host)
        async with device.online(host.url):
            assert device.response["versionVector"]["phone"] == 1
    async with durable.server() as host, device.online(host.url):
        assert device.response["versionVector"]["phone"] == 5


async def test_a_device_that_was_cut_off_while_it_answered_is_asked_again(place: Place) -> None:
    async with place.server() as host:
        device = await withheld(host)
        async with connected(host.url) as client:
            response = await client.shake_hands("phone", device.watermark, authToken="alice")
            assert response["versionVector"] == {"phone": 1}
            batch = {"type": "operation-batch", "operations": [], "isFinal": False, "batchIndex": 0}
            await client.say(batch)
            while (await client.hear())["type"] != "acknowledgment":
                pass
        async with device.online(host.url):
            assert device.response["versionVector"]["phone"] == 1


async def test_numbers_made_up_in_a_devices_name_do_not_hide_what_it_writes(place: Place) -> None:
    async with place.server() as host:
        device = phone()
        async with device.online(host.url):
            await device.push(device.insert("todos", "t1", userId="alice"))
        forger = StockDevice("laptop", "bob")
        async with forger.online(host.url):
            forged = forger.insert("todos", "f", userId="bob")
            await forger.push(forged | {"nodeId": "phone", "sequenceNumber": 1_000_000})
        assert forger.rejected == {}
        for number in range(2, 6):
            device.insert("todos", f"t{number}", userId="alice")
            async with device.online(host.url):
                assert device.response["versionVector"]["phone"] == number - 1
        assert set(ids(1, 2, 3, 4, 5, node="phone")) <= stored(place)


async def test_a_gap_above_those_that_are_settled_is_asked_for(place: Place) -> None:
    async with place.server() as host:
        device = await withheld(host)
        async with device.online(host.url):
            assert device.response["versionVector"]["phone"] == 1
            await device.push(device.insert("todos", "t6", userId="alice"))
            device.insert("todos", "t7", userId="alice")  # lost on the way
            await device.push(device.insert("todos", "t8", userId="alice"))
        async with device.online(host.url):
            assert device.response["versionVector"]["phone"] == 6
        assert set(ids(6, 7, 8, node="phone")) <= stored(place)
        async with device.online(host.url):
            assert device.response["versionVector"]["phone"] == 8


async def test_what_was_refused_is_no_gap(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.server(accepted_scope="none") as host:
        # Told nothing of its scopes it withholds nothing, and is refused instead.
        device = phone()
        monkeypatch.setattr(arrears, "HEARD_MS", 0)
        async with device.online(host.url):
            for number, user in enumerate(["alice", "carol", "alice"], 1):
                await device.push(device.insert("todos", f"t{number}", userId=user))
        assert device.rejected == {"phone/2": "SCOPE_VIOLATION"}
        for vector in (3, 4, 5):
            async with device.online(host.url):
                assert device.response["versionVector"]["phone"] == vector
                await device.push(device.insert("todos", f"more {device.count}", userId="alice"))
        assert device.rejected == {"phone/2": "SCOPE_VIOLATION"}
        assert device.uploaded == ids(1, 2, 3, 4, 5, 6, node="phone")


async def test_a_refusal_that_may_not_have_been_heard_is_said_again(place: Place) -> None:
    async with place.server(accepted_scope="none") as host:
        device = phone()
        async with device.online(host.url):
            for number, user in enumerate(["alice", "carol", "alice"], 1):
                await device.push(device.insert("todos", f"t{number}", userId=user))
        for _ in range(2):
            device.rejected.clear()
            async with device.online(host.url):
                assert device.response["versionVector"]["phone"] == 1
                await device.push(device.insert("todos", f"more {device.count}", userId="alice"))
            assert device.rejected == {"phone/2": "SCOPE_VIOLATION"}


async def test_others_entries_stay_maxima(place: Place) -> None:
    async with place.server() as host:
        await withheld(host)
        desk = admin()
        for _ in range(3):
            async with desk.online(host.url):
                assert desk.response["versionVector"] == {"phone": 5}
        assert desk.uploaded == []


async def test_numbers_used_twice_are_no_gap(place: Place) -> None:
    async with place.server() as host:
        device = phone()
        async with device.online(host.url):
            first = [device.insert("todos", f"t{n}", userId="alice") for n in range(3)]
            again = [device.insert("todos", f"u{n}", userId="alice") for n in range(2)]
            for number, one in enumerate(again, 2):
                one["sequenceNumber"] = number
            await device.push(*first, *again)
        async with device.online(host.url):
            assert device.response["versionVector"]["phone"] == 3


async def test_two_servers_ask_together(tmp_path: Path) -> None:
    place = Place(RECORD_STORES["postgres"], tmp_path, Users(admin=None, alice=ALICE))
    async with place.server() as one, place.another() as other:
        device = await withheld(one)
        for host, vector in [(other, 1), (one, 5), (other, 5)]:
            async with device.online(host.url):
                assert device.response["versionVector"]["phone"] == vector
        place.users.grant("alice", ALL_TODOS)
        async with device.online(other.url):
            assert stored(place) == set(ids(1, 2, 3, 4, 5, node="phone"))
        async with device.online(one.url):
            assert device.response["versionVector"]["phone"] == 5
