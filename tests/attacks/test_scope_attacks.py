"""What succeeds against the reference and fails here: the rows of scopes.md section 11, over sockets, on every store.

Each test has the name of its row. Rows of somebody else: "awareness, Yjs, blobs unscoped" is in
`test_side_channel_attacks`, "trusted route mutations check scope on the bare operation only" belongs to the HTTP
routes, of which there are none yet. What a client learns from what it is told is in `test_leaks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from kora_daemon.auth.contract import AuthContext
from kora_daemon.auth.jwt import JwtRules
from kora_daemon.auth.jwt_provider import JwtProvider
from kora_daemon.auth.key_sets import FixedKeys
from kora_daemon.auth.scoping import TableScoping
from kora_daemon.auth.templates import parse_table
from kora_daemon.errors import StoreError
from kora_daemon.model.record import RecordKey
from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.options import ServerOptions
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.postgres import PostgresStore
from tests.support import tokens
from tests.support.app import Device, Sent, device
from tests.support.network import Client, Closed, Host, connected, eventually, running_server
from tests.support.postgres import PostgresServer
from tests.support.scoped import KINDS, SCHEMA, Place, Users
from tests.support.stock_device import StockDevice
from tests.support.stores import RECORD_STORES

MINE: ScopeMap = {"todos": {"userId": "mallory"}}
BOB: ScopeMap = {"todos": {"userId": "bob"}}
SCHEMAS: dict[str, Schema | None] = {"records": SCHEMA, "log alone": None}
SETUPS = [(kind, setup) for kind in KINDS for setup in SCHEMAS]


@pytest.fixture(params=SETUPS, ids=" ".join)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind, setup = request.param
    users = Users(admin=None, mallory=MINE, bob=BOB, nobody={})
    return Place(RECORD_STORES[kind], tmp_path, users, SCHEMAS[setup])


def everything(place: Place) -> list[tuple[int, str, str | None]]:
    return [(one.sequence, one.operation.id, one.stamp) for one in place.store.entries_after(0, 100_000)]


@contextmanager
def nothing_is_stored(place: Place) -> Iterator[None]:
    before, vector = everything(place), place.store.version_vector()
    yield
    assert everything(place) == before
    assert place.store.version_vector() == vector


async def stocked(host: Host) -> None:
    """Records of several people, one of them deleted."""
    async with device(host.url, "desk", authToken="admin") as desk:
        await desk.takes(
            desk.insert("todos", "bobs", userId="bob", title="bob's secret"),
            desk.insert("todos", "gone", userId="bob", title="bob's too"),
            desk.insert("secrets", "s", title="top secret"),
            desk.insert("todos", "mallorys", userId="mallory", title="her own"),
            desk.delete("todos", "gone"),
        )


def heard(peer: Device) -> list[str]:
    return [one["id"] for one in peer.heard]


async def refused(peer: Device, *operations: Sent) -> list[str]:
    """What became of each: its code, or "taken"."""
    codes = {one["operationId"]: one["code"] for one in await peer.send(*operations)}
    return [codes.get(one["id"], "taken") for one in operations]


VIOLATION = "SCOPE_VIOLATION"


# handshake widens auth scopes; null collection = unrestricted; auth `{}` is replaced by the handshake


@pytest.mark.parametrize(
    "asked",
    [
        {"secrets": {}},
        {"todos": {}},
        {"todos": {"userId": "bob"}},
        {"todos": {}, "secrets": {}},
        {"todos": None, "secrets": None},
        {"todos": {"userId": None}},
        {"todos": {"userId": ["bob", "mallory"]}},
        {"todos": {"__readonly": False}},
        {"*": {}},
        {},
        None,
        [],
        "todos",
    ],
)
async def test_handshake_widens_auth_scopes(place: Place, asked: Any) -> None:
    async with place.server() as host:
        await stocked(host)
        async with device(host.url, "m", authToken="mallory", syncScope=asked) as mallory:
            assert heard(mallory) == ["desk/4"]
            with nothing_is_stored(place):
                tried = [mallory.insert("secrets", "t", title="x"), mallory.update("todos", "bobs", title="x")]
                assert await refused(mallory, *tried) == [VIOLATION] * 2
        async with connected(host.url) as client:
            response = await client.shake_hands("m", authToken="mallory", syncScope=asked)
            assert response["acceptedScope"] == MINE


async def test_null_collection_is_unrestricted(place: Place) -> None:
    place.users.contexts["mallory"] = AuthContext("mallory", {"todos": None, "notes": {}})  # type: ignore[dict-item]
    async with place.server() as host:
        await stocked(host)
        async with connected(host.url) as client:
            error = await client.shake_hands("m", authToken="mallory")
            assert (error["type"], error["code"]) == ("error", "AUTH_UNAVAILABLE")
            assert (await client.closed()).code == 1011


@pytest.mark.parametrize("asked", [{"todos": {}}, {"secrets": {}, "todos": {"userId": "bob"}}, {}, None])
async def test_auth_of_nothing_is_replaced_by_the_handshake(place: Place, asked: Any) -> None:
    async with place.server() as host:
        await stocked(host)
        async with connected(host.url) as client:
            response = await client.shake_hands("n", authToken="nobody", syncScope=asked)
            assert response["acceptedScope"] == {}
        async with device(host.url, "n", authToken="nobody", syncScope=asked) as nobody:
            assert heard(nobody) == []
            with nothing_is_stored(place):
                assert await refused(nobody, nobody.insert("todos", "t", userId="bob")) == [VIOLATION]
            async with device(host.url, "desk2", authToken="admin") as desk:
                await desk.takes(desk.insert("todos", "new", userId="bob"))
            assert await nobody.hears_nothing_more()


# forged `previousData`, moving records in, insert over foreign ids


async def test_forged_previous_data(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        async with device(host.url, "m", authToken="mallory") as mallory, device(host.url, "b", authToken="bob") as bob:
            taken = len(bob.heard)
            lies = {"userId": "mallory", "title": "bob's secret"}
            tried = [
                mallory.write(kind, "todos", record_id, data, previousData=lies)
                for record_id in ("bobs", "gone")
                for kind, data in (("update", {"title": "x"}), ("delete", None), ("delete", {}), ("update", {}))
            ]
            with nothing_is_stored(place):
                assert await refused(mallory, *tried) == [VIOLATION] * len(tried)
            assert await bob.hears_nothing_more()
            assert len(bob.heard) == taken


async def test_moving_records_in(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        async with device(host.url, "m", authToken="mallory") as mallory:
            tried = [
                mallory.write(kind, "todos", record_id, {"userId": "mallory"}, previousData=previous)
                for record_id in ("bobs", "gone")
                for kind in ("update", "insert")
                for previous in (None, {"userId": "bob"}, {"userId": "mallory"})
            ]
            with nothing_is_stored(place):
                assert await refused(mallory, *tried) == [VIOLATION] * len(tried)
            out = [mallory.update("todos", "mallorys", userId=value) for value in ("bob", None, "", ["mallory"])]
            with nothing_is_stored(place):
                assert await refused(mallory, *out) == [VIOLATION] * len(out)


async def test_insert_over_foreign_ids(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        early = {"timestamp": {"wallTime": 1, "logical": 0, "nodeId": "m"}}
        async with device(host.url, "m", authToken="mallory") as mallory:
            tried = [
                mallory.write("insert", "todos", record_id, {"userId": "mallory", "title": "taken over"}, **more)
                for record_id in ("bobs", "gone")
                for more in ({}, early, {"previousData": {"userId": "mallory"}})
            ]
            with nothing_is_stored(place):
                assert await refused(mallory, *tried) == [VIOLATION] * len(tried)


async def test_an_atomic_change_that_comes_to_another_owner(place: Place) -> None:
    """Of the same kind: the operation says 1, what becomes of the record is something else."""
    place.users.grant("mallory", {"todos": {"orgId": 1}})
    async with place.server() as host:
        async with device(host.url, "desk", authToken="admin") as desk:
            counted = {"orgId": {"type": "increment", "value": 1}}
            await desk.takes(
                desk.insert("todos", "t", orgId=0), desk.write("update", "todos", "t", {"orgId": 1}, atomicOps=counted)
            )
        async with device(host.url, "m", authToken="mallory") as mallory:
            with nothing_is_stored(place):
                moved = mallory.write("update", "todos", "t", {"orgId": 1}, atomicOps=counted)
                assert await refused(mallory, moved) == [VIOLATION]


# deletes hidden and refused under scope `{}`, the documented anonymous pattern


async def test_deletes_hidden_and_refused_under_an_open_scope(place: Place) -> None:
    place.users.grant("visitor", {"todos": {}})
    async with place.server() as host:
        async with device(host.url, "one", authToken="visitor") as one:
            await one.takes(one.insert("todos", "t"), one.insert("todos", "u"))
            async with device(host.url, "two", authToken="visitor") as two:
                await one.takes(one.delete("todos", "t"))
                await two.takes(two.delete("todos", "u"))
                await one.hears(1)
                await two.hears(3)
        async with device(host.url, "three", authToken="visitor") as three:
            assert [(one["type"], one["recordId"]) for one in three.heard[2:]] == [("delete", "t"), ("delete", "u")]


# subsets applied to uploads


async def test_subsets_applied_to_uploads(place: Place) -> None:
    place.users.grant("alice", {"todos": {"userId": "alice"}})
    queries = [{"collection": "todos", "where": {"done": False}}]
    async with place.server() as host:
        async with device(host.url, "a", authToken="alice", syncQueries=queries) as alice:
            await alice.takes(alice.insert("todos", "t", userId="alice", done=False))
            await alice.takes(alice.update("todos", "t", done=True), alice.insert("todos", "u", userId="alice"))
            assert await refused(alice, alice.insert("todos", "v", userId="bob", done=False)) == [VIOLATION]


async def test_subsets_reach_no_further_than_scopes(place: Place) -> None:
    queries = [{"collection": "todos", "where": {}}, {"collection": "todos", "where": {"userId": "bob"}}]
    queries += [{"collection": "secrets", "where": {}}]
    async with place.server() as host:
        await stocked(host)
        async with device(host.url, "m", authToken="mallory", syncQueries=queries) as mallory:
            assert heard(mallory) == ["desk/4"]
            async with device(host.url, "desk2", authToken="admin") as desk:
                await desk.takes(desk.update("todos", "bobs", title="y"), desk.update("todos", "mallorys", title="y"))
            await mallory.hears(2)
            assert mallory.heard[1]["recordId"] == "mallorys"


# replays of own operations refused after the record moved


async def test_replays_of_own_operations_refused_after_the_record_moved(place: Place) -> None:
    place.users.grant("alice", {"todos": {"userId": "alice"}})
    async with place.server() as host:
        async with device(host.url, "a", authToken="alice") as alice:
            own = [
                alice.insert("todos", "t", userId="alice"),
                alice.update("todos", "t", title="x"),
                alice.delete("todos", "t"),
            ]
            await alice.takes(*own)
            async with device(host.url, "desk", authToken="admin") as desk:
                await desk.takes(desk.update("todos", "t", userId="bob"))
            with nothing_is_stored(place):
                await alice.takes(*own)
                place.users.grant("alice", {})
        async with device(host.url, "a", authToken="alice") as alice:
            with nothing_is_stored(place):
                await alice.takes(*own)


# refusals as `error` messages, which put clients offline; every such batch comes again


async def test_refusals_as_error_messages(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        async with device(host.url, "m", authToken="mallory") as mallory:
            bad, good = mallory.update("todos", "bobs", title="x"), mallory.insert("todos", "n", userId="mallory")
            (told,) = await mallory.send(bad, good)
            assert told["type"] == "operation-rejected"
            assert (told["operationId"], told["retriable"]) == (bad["id"], False)
            assert mallory.errors == []
            await mallory.takes(mallory.update("todos", "n", title="the session goes on"))


# watermark reset that wedges clients; scope changes never delivered on reconnect


async def test_watermark_reset_that_wedges_clients(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        phone = StockDevice("phone", "mallory")
        for _ in range(2):
            async with phone.online(host.url):
                await phone.push(phone.update("todos", "mallorys", title="x"))
        assert phone.delivered == ["desk/4"]


async def test_scope_changes_never_delivered_on_reconnect(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        phone = StockDevice("phone", "mallory")
        async with phone.online(host.url):
            pass
        place.users.grant("mallory", {**MINE, "secrets": {}})
        async with phone.online(host.url):
            assert set(phone.records("secrets")) == {"s"}


# withheld writes lost through the version vector


async def test_withheld_writes_lost_through_the_version_vector(place: Place) -> None:
    async with place.server() as host:
        phone = StockDevice("phone", "mallory")
        async with phone.online(host.url):
            await phone.push(phone.insert("notes", "n", userId="mallory"))
            await phone.push(phone.insert("todos", "t", userId="mallory"))
        assert phone.uploaded == ["phone/2"]
        place.users.grant("mallory", {**MINE, "notes": {}})
        async with phone.online(host.url):
            assert {one[1] for one in everything(place)} == {"phone/1", "phone/2"}


# `__readonly` hides everything from viewers


async def test_readonly_hides_everything_from_viewers(place: Place) -> None:
    place.users.grant("viewer", {"todos": {"userId": "bob", "__readonly": True}, "secrets": {"__readonly": True}})
    async with place.server() as host:
        await stocked(host)
        async with device(host.url, "v", authToken="viewer", syncScope={"todos": {"__readonly": False}}) as viewer:
            assert sorted(heard(viewer)) == ["desk/1", "desk/2", "desk/3", "desk/5"]
            with nothing_is_stored(place):
                tried = [
                    viewer.update("todos", "bobs", title="x"),
                    viewer.delete("todos", "bobs"),
                    viewer.insert("todos", "n", userId="bob"),
                    viewer.insert("secrets", "n"),
                ]
                assert await refused(viewer, *tried) == [VIOLATION] * 4
        async with connected(host.url) as client:
            response = await client.shake_hands("v", authToken="viewer")
            assert response["acceptedScope"] == {"todos": {"userId": "bob"}, "secrets": {}}


# new owner never gets the insert; old owner keeps a ghost


@pytest.mark.parametrize("kind", KINDS)
async def test_new_owner_never_gets_the_insert(kind: str, tmp_path: Path) -> None:
    """With scopes told by the names of collections alone; stock clients can't be helped otherwise (section 3)."""
    place = Place(RECORD_STORES[kind], tmp_path, Users(admin=None, mallory=MINE, bob=BOB))
    async with place.server(accepted_scope="collections", moves_history=True) as host:
        await stocked(host)
        bob, mallory = StockDevice("b", "bob"), StockDevice("m", "mallory")
        async with bob.online(host.url), mallory.online(host.url):
            async with device(host.url, "desk2", authToken="admin") as desk:
                await desk.takes(desk.update("todos", "mallorys", title="changed"))
                await desk.takes(desk.update("todos", "mallorys", userId="bob"))
                await bob.until(lambda: "mallorys" in bob.records("todos"))
                assert bob.records("todos")["mallorys"] == {"userId": "bob", "title": "changed"}
                await desk.takes(desk.update("todos", "mallorys", title="not for her"))
                await bob.until(lambda: bob.records("todos")["mallorys"]["title"] == "not for her")
            await mallory.hears_nothing_more()
            assert mallory.records("todos")["mallorys"]["title"] == "changed"
        fresh = StockDevice("m2", "mallory")
        async with fresh.online(host.url):
            assert fresh.delivered == []


@pytest.mark.parametrize("kind", KINDS)
async def test_old_owner_of_what_is_nobodys_now(kind: str, tmp_path: Path) -> None:
    """Where scopes go by records, an operation does not bring back what its record has lost."""
    place = Place(RECORD_STORES[kind], tmp_path, Users(admin=None, mallory=MINE))
    async with place.server(accepted_scope="collections", moves_history=True) as host:
        await stocked(host)
        async with device(host.url, "desk2", authToken="admin") as desk:
            await desk.takes(desk.update("todos", "mallorys", userId=None))
        async with device(host.url, "m", authToken="mallory") as mallory:
            assert mallory.heard == []


# missing claim opens a collection


@pytest.mark.parametrize(
    ("template", "claims", "seen"),
    [
        ({"todos": {"orgId": "{org.id}"}}, {}, None),
        ({"todos": {"orgId": "{org.id}"}}, {"org": {"id": ""}}, None),
        ({"todos": {"orgId": "{org.id?}"}, "notes": {}}, {}, {"notes": {}}),
        ({"todos": {"orgId": "{org.id?}"}, "notes": {}}, {"org": {"id": None}}, {"notes": {}}),
        ({"todos": {"orgId": "{org.id?}"}}, {}, {}),
        ({"todos": {"orgId": "{org.id}"}}, {"org": {"id": 5}}, {"todos": {"orgId": 5}}),
    ],
)
async def test_missing_claim_opens_a_collection(
    template: ScopeMap, claims: dict[str, Any], seen: ScopeMap | None
) -> None:
    source = FixedKeys(tokens.keys(tokens.public_jwk("ES256")))
    scoping = TableScoping(parse_table(template))
    auth = JwtProvider(JwtRules(("ES256",)), source, scoping, clock=lambda: tokens.NOW)
    async with running_server(auth=auth, options=ServerOptions(refusal_delay=0)) as host, connected(host.url) as client:
        answer = await client.shake_hands("n", authToken=tokens.token(**claims))
        if seen is None:
            assert answer["code"] == "AUTH_FAILED"
        else:
            assert answer["acceptedScope"] == seen


# look-up errors count as "no record"


@pytest.mark.slow
async def test_look_up_errors_count_as_no_record(tmp_path: Path) -> None:
    database = PostgresServer()
    try:
        users = Users(admin=None, mallory=MINE)
        store = PostgresStore(database.url(database.database()), connect_timeout_s=1)
        options = ServerOptions(refusal_delay=0, outage_patience=0)
        async with running_server(store, users, options) as host:
            await stocked(host)
            phone = StockDevice("phone", "mallory")
            async with phone.online(host.url):
                pass
            watermark = phone.watermark
            async with connected(host.url) as client:
                await client.shake_hands("phone", phone.watermark, authToken="mallory")
                await client.download()
                update = phone.update("todos", "mallorys", title="x")
                database.kill()
                await client.upload(update)
                told: list[str] = []
                closed = await _until_closed(client, told)
                assert (closed.code, told) == (1011, [])
            database.start()
            await eventually(lambda: _answers(store))
            async with phone.online(host.url):
                assert phone.rejected == {}
                assert phone.watermark >= watermark
                assert store.known_ids([update["id"]]) == {update["id"]}
    finally:
        database.remove()


async def _until_closed(client: Client, told: list[str]) -> Closed:
    while True:
        try:
            told.append((await client.hear())["type"])
        except Closed as closed:
            return closed


def _answers(store: PostgresStore) -> bool:
    try:
        store.frontier()
    except StoreError:
        return False
    return True


# without a schema set there are no records: every partial update and delete under a field scope is refused


async def test_without_a_schema_every_partial_update_and_delete_is_refused(place: Place) -> None:
    place.users.grant("alice", {"todos": {"userId": "alice"}})
    async with place.server() as host:
        async with (
            device(host.url, "a", authToken="alice") as alice,
            device(host.url, "b", authToken="alice") as other,
            device(host.url, "c", authToken="bob") as bob,
        ):
            await alice.takes(alice.insert("todos", "t", userId="alice"))
            await other.hears(1)
            await alice.takes(alice.update("todos", "t", title="x"))
            await alice.takes(alice.delete("todos", "t"))
            await other.hears(3)
            assert await bob.hears_nothing_more()
            with nothing_is_stored(place):
                tried = [bob.update("todos", "t", title="y"), bob.delete("todos", "t")]
                assert await refused(bob, *tried) == [VIOLATION] * 2


# one query per operation and session for partial updates


class CountingStore(MemoryStore):
    """Counts how often records are looked up to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[int] = []

    def current_fields(self, keys: Iterable[RecordKey], *, deleted: bool = True) -> dict[RecordKey, dict[str, Any]]:
        asked = list(keys)
        self.looked_up.append(len(asked))
        return super().current_fields(asked, deleted=deleted)


async def test_one_query_per_operation_and_session() -> None:
    store = CountingStore()
    names = [f"user{n}" for n in range(10)]
    users = Users(admin=None, **{name: {"todos": {"userId": name}} for name in names})
    place = Place(RECORD_STORES["memory"], Path(), users)
    place._store = store
    async with place.server() as host, device(host.url, "desk", authToken="admin") as desk:
        await desk.takes(*(desk.insert("todos", f"of {name}", userId=name) for name in names))
        async with trio.open_nursery() as nursery:
            heard: dict[str, int] = {}
            for name in names:
                nursery.start_soon(_hear, host.url, name, heard)
            await eventually(lambda: heard == dict.fromkeys(names, 1))
            store.looked_up.clear()
            for _ in range(5):
                await desk.takes(*(desk.update("todos", f"of {name}", title="x") for name in names))
            await eventually(lambda: heard == dict.fromkeys(names, 6))
            nursery.cancel_scope.cancel()
        assert store.looked_up == [], "live: the stamps say it all"
        async with device(host.url, "late", authToken="user3") as late:
            assert len(late.heard) == 6
        assert store.looked_up == []


async def _hear(url: str, name: str, heard: dict[str, int]) -> None:
    async with device(url, f"node of {name}", authToken=name) as peer:
        while True:
            heard[name] = len(peer.heard)
            await peer.listen()
