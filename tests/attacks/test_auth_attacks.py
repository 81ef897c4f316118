"""What succeeds against the reference and fails here: the rows of auth.md section 7, over sockets.

Each test has the name of its row. Rows of the TypeScript auth server's own are not here: refresh in spite of a revoked
device, sign-in that answers faster for unknown addresses, sign-ups that share one limit, device ids that a client names
at sign-in (what those are good for here is in `test_a_client_may_name_any_device_id`). Open dashboard, metrics and
backup endpoints belong to the HTTP endpoints, of which there are none yet.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from structlog.testing import capture_logs

from kora_daemon.auth.contract import AuthContext, AuthProvider, Standing
from kora_daemon.auth.jwt import JwtRules
from kora_daemon.auth.jwt_provider import JwtProvider
from kora_daemon.auth.key_sets import FixedKeys
from kora_daemon.auth.keys import secret_key
from kora_daemon.auth.kora import KoraAuthProvider
from kora_daemon.auth.kora_tokens import KoraTokens
from kora_daemon.auth.mixed import MixedAuthProvider
from kora_daemon.auth.revocations import RevocationList
from kora_daemon.auth.scoping import Unrestricted
from kora_daemon.auth.token import TokenAuthProvider
from kora_daemon.http.listener import ListenerOptions
from kora_daemon.server import identification, rechecks, sweep
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.validation import ValidationContext
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from tests.support.app import device
from tests.support.auth import TABLES, UserTables
from tests.support.devices import insert
from tests.support.network import Client, Closed, Host, connected, eventually, running_server
from tests.support.process import Daemon
from tests.support.scoped import KINDS, Place, Users
from tests.support.stock_device import StockDevice
from tests.support.stores import RECORD_STORES
from tests.support.tokens import SECRET

OPEN = AuthRules(revalidate=0, shared_data=True)
LIVE = AuthRules(revalidate=0.05, shared_data=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rechecks, "TICK_S", 0.02)
    monkeypatch.setattr(identification, "TEND_INTERVAL_S", 0.02)
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.02)


@asynccontextmanager
async def serving(auth: AuthProvider, rules: AuthRules = OPEN, **options: Any) -> AsyncIterator[tuple[Host, Store]]:
    store = MemoryStore()
    made = ServerOptions(auth=rules, refusal_delay=0, **options)
    async with running_server(store, auth, made) as host:
        yield host, store


async def answer(host: Host, token: Any, node_id: str = "n", **members: Any) -> dict[str, Any]:
    """What a client hears to its handshake."""
    async with connected(host.url) as client:
        return await client.shake_hands(node_id, authToken=token, **members)


async def all_that_is_said(client: Client) -> tuple[list[str], Closed]:
    """The texts that a client hears until it is closed, and how."""
    texts: list[str] = []
    while True:
        try:
            texts.append(await client.hear_text())
        except Closed as closed:
            return texts, closed


def state(name: str) -> dict[str, Any]:
    return {"user": {"name": name, "color": "#123456"}}


EARLY: dict[str, dict[str, Any]] = {
    "operations": {"type": "operation-batch", "operations": [insert("n", 1)], "isFinal": True, "batchIndex": 0},
    "awareness": {"type": "awareness-update", "clientId": 1, "states": {"1": state("mallory")}},
    "document": {"type": "yjs-doc-update", "collection": "todos", "recordId": "r", "field": "body", "update": "AA=="},
    "blob request": {"type": "blob-chunk-request", "requestId": "q", "hash": "00" * 32},
    "blob response": {"type": "blob-chunk-response", "requestId": "q", "bytes": "AA=="},
    "blob push": {"type": "blob-chunk-push", "hash": "00" * 32, "bytes": "AA=="},
    "acknowledgment": {"type": "acknowledgment", "acknowledgedMessageId": "x", "lastSequenceNumber": 1},
}
HANDSHAKE = {"type": "handshake", "nodeId": "n", "versionVector": {}, "schemaVersion": 1, "lastDeliverySequence": 0}


# messages other than the handshake are handled without authentication, and after a failed one


@pytest.mark.parametrize("message", EARLY.values(), ids=EARLY)
async def test_messages_other_than_the_handshake_are_handled_without_authentication(message: dict[str, Any]) -> None:
    async with serving(TokenAuthProvider({"good": {"userId": "u"}}.get)) as (host, store):
        async with streaming_as(host, "good", "witness") as witness, connected(host.url) as client:
            await client.say(message)
            (text,), closed = await all_that_is_said(client)
            assert '"HANDSHAKE_REQUIRED"' in text
            assert closed.code == 4002
            assert await witness.hears_nothing()
            assert store.count_operations() == 0


@pytest.mark.parametrize("message", EARLY.values(), ids=EARLY)
@pytest.mark.parametrize("delay", [0, 0.1])
async def test_messages_are_handled_after_a_failed_handshake(message: dict[str, Any], delay: float) -> None:
    auth = TokenAuthProvider({"good": {"userId": "u"}}.get)
    made = ServerOptions(auth=OPEN, refusal_delay=delay)
    store = MemoryStore()
    async with running_server(store, auth, made) as host:
        async with streaming_as(host, "good", "witness") as witness, connected(host.url) as client:
            # All at once: what comes behind waits for the verdict, and is thrown away then.
            await client.say({**HANDSHAKE, "authToken": "bad"})
            with suppress(Closed):
                for _ in range(5):
                    await client.say(message)
                await client.say({**HANDSHAKE, "authToken": "good"})
            (text,), closed = await all_that_is_said(client)
            assert '"AUTH_FAILED"' in text
            assert closed.code == 4001
            assert await witness.hears_nothing()
            assert store.count_operations() == 0
            assert host.server.awareness.get_states() == {}


@asynccontextmanager
async def streaming_as(host: Host, token: str, node_id: str) -> AsyncIterator[Client]:
    async with connected(host.url) as client:
        response = await client.shake_hands(node_id, authToken=token)
        assert response.get("accepted") is True, response
        await client.download()
        yield client


# unauthenticated sockets receive Yjs updates and blob requests from the moment they connect; anyone receives awareness


async def test_unauthenticated_sockets_receive_live_traffic() -> None:
    auth = TokenAuthProvider({"good": {"userId": "u"}}.get)
    made = ServerOptions(auth=OPEN, refusal_delay=30)
    async with running_server(MemoryStore(), auth, made) as host:
        async with connected(host.url) as silent, connected(host.url) as waiting:
            await waiting.say({**HANDSHAKE, "authToken": "bad"})
            async with streaming_as(host, "good", "a") as a, streaming_as(host, "good", "b") as b:
                await b.say(EARLY["awareness"])
                await b.was_heard()
                await a.say(EARLY["awareness"] | {"clientId": 2, "states": {"2": state("alice")}})
                for name in ("document", "blob request", "operations"):
                    await a.say(EARLY[name])
                while (await b.hear())["type"] != "operation-batch":
                    pass
                assert await silent.hears_nothing()
                assert await waiting.hears_nothing()


# node ids unbound; forged sequence numbers hide a victims writes; the response vector lists every device


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    tenant = {"todos": {"orgId": 1}}
    users = Users(admin=None, alice=tenant, bob=tenant, mallory={"todos": {"orgId": 2}})
    return Place(RECORD_STORES[request.param], tmp_path, users)


async def test_node_ids_unbound(place: Place) -> None:
    async with place.server(node_binding="enforce") as host:
        async with device(host.url, "phone", authToken="alice") as phone:
            await phone.takes(phone.insert("todos", "t", orgId=1))
        async with device(host.url, "phone", authToken="mallory") as thief:
            thief.count = 1
            assert [one["code"] for one in await thief.send(thief.insert("todos", "u", orgId=2))] == [
                "NODE_ID_MISMATCH"
            ]
        async with device(host.url, "laptop", authToken="mallory") as laptop:
            forged = laptop.insert("todos", "v", orgId=2) | {"nodeId": "phone"}
            assert [one["code"] for one in await laptop.send(forged)] == ["NODE_ID_MISMATCH"]
        assert place.store.count_operations() == 1


@pytest.mark.parametrize("binding", ["warn", "enforce"])
@pytest.mark.parametrize("number", [2**53 - 1, 10**9, 900_000])
async def test_forged_sequence_numbers_hide_a_victims_writes(place: Place, binding: str, number: int) -> None:
    async with place.server(node_binding=binding) as host:
        phone = StockDevice("phone", "alice")
        async with phone.online(host.url):
            await phone.push(phone.insert("todos", "t1", orgId=1))
        async with device(host.url, "laptop", authToken="bob") as laptop:
            forged = laptop.insert("todos", "f", orgId=1) | {"nodeId": "phone", "sequenceNumber": number}
            taken = await laptop.send(forged) == []
            assert taken == (binding == "warn" and number < 1_000_000)
        for written in range(2, 5):
            phone.insert("todos", f"t{written}", orgId=1)
            async with phone.online(host.url):
                pass
        assert place.store.known_ids([f"phone/{n}" for n in range(1, 5)]) == {f"phone/{n}" for n in range(1, 5)}


async def test_the_response_vector_lists_every_device_of_every_tenant(place: Place) -> None:
    async with place.server() as host:
        for user, org in (("alice", 1), ("bob", 1), ("mallory", 2)):
            async with device(host.url, f"phone of {user}", authToken=user) as phone:
                await phone.takes(phone.insert("todos", f"of {user}", orgId=org))
        response = await answer(host, "mallory", "new device")
        assert response["versionVector"] == {"phone of mallory": 1}
        response = await answer(host, "alice", "new device")
        assert response["versionVector"] == {"phone of alice": 1, "phone of bob": 1}
        response = await answer(host, "mallory", "new device", syncScope={"todos": {"title": "nothing has this"}})
        assert response["versionVector"] == {}


# no re-check of live sessions


class Standings(Users):
    """A provider that can be asked again."""

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        return [self.contexts.get(one.user_id) for one in contexts]


async def test_no_recheck_of_live_sessions() -> None:
    users = Standings(alice={"todos": {}}, bob={"todos": {}})
    async with serving(users, LIVE) as (host, store):
        async with streaming_as(host, "alice", "a") as alice, streaming_as(host, "bob", "b") as bob:
            del users.contexts["alice"]
            users.grant("bob", {"notes": {}})
            texts, closed = await all_that_is_said(alice)
            assert (closed.code, ['"AUTH_FAILED"' in text for text in texts]) == (4001, [True])
            texts, closed = await all_that_is_said(bob)
            assert (closed.code, texts) == (1000, [])
        assert (await answer(host, "alice"))["code"] == "AUTH_FAILED"
        assert (await answer(host, "bob"))["acceptedScope"] == {"notes": {}}
        assert store.count_operations() == 0


# device revocation ignored by the sync provider; stamps revoked devices


@pytest.fixture(params=list(TABLES))
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> UserTables:
    made = TABLES[request.param](tmp_path)
    for user in ("ali", "bea"):
        made.user(user)
        made.device(f"{user}-phone", user, last_seen_at=7)
    return made


def access(user: str, device_id: str | None = None) -> str:
    return KoraTokens([SECRET]).issue(user, device_id or f"{user}-phone", "access", time.time(), 900)


async def test_device_revocation_ignored_by_the_sync_provider(tables: UserTables) -> None:
    tables.execute("UPDATE auth_devices SET revoked = (1 = 1) WHERE id = 'ali-phone'")
    async with serving(KoraAuthProvider([SECRET], tables.directory(), touch_interval_s=0)) as (host, _):
        assert (await answer(host, access("ali")))["code"] == "AUTH_FAILED"
        assert (await answer(host, access("bea")))["accepted"] is True
        await eventually(lambda: tables.last_seen()["bea-phone"] > 7)
        assert tables.last_seen()["ali-phone"] == 7, "stamps revoked devices"


# exception text of a provider goes to the client


async def test_exception_text_of_a_provider_goes_to_the_client() -> None:
    def fails(token: str) -> AuthContext:
        raise RuntimeError(f"connection to postgres://kora:hunter2@db refused for {token}")

    with capture_logs() as logged:
        async with serving(TokenAuthProvider(fails)) as (host, _), connected(host.url) as client:
            await client.say({**HANDSHAKE, "authToken": "s3cret"})
            (text,), closed = await all_that_is_said(client)
    assert '"AUTH_UNAVAILABLE"' in text
    assert "Authentication is not available now" in text
    for said in (text, closed.reason or "", repr(logged)):
        assert "hunter2" not in said
        assert "s3cret" not in said
    assert closed.code == 1011


# a failing `last_seen_at` update fails the login


async def test_a_failing_last_seen_update_fails_the_login(tables: UserTables) -> None:
    tables.execute("ALTER TABLE auth_devices RENAME COLUMN last_seen_at TO another_name")
    async with serving(KoraAuthProvider([SECRET], tables.directory(), touch_interval_s=0)) as (host, _):
        for _ in range(2):
            assert (await answer(host, access("ali")))["accepted"] is True
            await trio.sleep(0.05)
    tables.execute("ALTER TABLE auth_devices RENAME COLUMN another_name TO last_seen_at")


# invalid token downgrades to anonymous without a word; guessable anonymous ids


async def test_invalid_token_downgrades_to_anonymous() -> None:
    seen: list[str] = []

    def note(operation: dict[str, Any], context: ValidationContext) -> None:
        seen.append(context.auth.user_id)

    primary = TokenAuthProvider({"good": {"userId": "u"}}.get)
    auth = MixedAuthProvider(primary, {"responses": {}})
    async with serving(auth, validator=note) as (host, store):
        assert (await answer(host, "expired"))["code"] == "AUTH_FAILED"
        assert (await answer(host, 5))["code"] == "AUTH_FAILED"
        assert (await answer(host, ""))["acceptedScope"] == {"responses": {}}
        assert "acceptedScope" not in await answer(host, "good")
        for number in range(3):
            async with device(host.url, f"visitor-{number}") as visitor:
                await visitor.takes(visitor.insert("responses", f"r{number}"))
        assert store.count_operations() == 3
    assert len(set(seen)) == 3, "guessable anonymous ids"
    assert all(re.fullmatch(r"anon-[\w-]{16,}", one) for one in seen)
    assert not any(str(int(time.time()))[:6] in one for one in seen)


# contexts are not validated (empty user id, null or text as scopes)


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"userId": ""},
        {"userId": 5},
        {"userId": None, "scopes": {}},
        {"userId": "u", "scopes": "todos"},
        {"userId": "u", "scopes": []},
        {"userId": "u", "scopes": {"todos": None}},
        {"userId": "u", "scopes": {"todos": "all"}},
        {"userId": "u", "scopes": {"todos": {"userId": ["u", "v"]}}},
        {"userId": "u", "scopes": {"todos": {"userId": {"$in": ["u"]}}}},
        {"userId": "u", "metadata": "text"},
        "u",
        True,
        5,
    ],
)
async def test_contexts_are_not_validated(context: Any) -> None:
    async with serving(TokenAuthProvider(lambda token: context)) as (host, store), connected(host.url) as client:
        await client.say({**HANDSHAKE, "authToken": "t"})
        with suppress(Closed):
            await client.upload(insert("n", 1))
        (text,), closed = await all_that_is_said(client)
        assert '"AUTH_UNAVAILABLE"' in text, "a bad context is an outage: AUTH_FAILED signs people out"
        assert closed.code == 1011
        assert store.count_operations() == 0


# revocation list only in memory


async def test_revocation_list_only_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kora_daemon.auth.revocations.LOOKED_AT_EVERY_S", 0)
    path = tmp_path / "revoked.txt"
    path.write_text("# none\n")
    shown = access("ali")
    jti = jwt.decode(shown, options={"verify_signature": False})["jti"]
    auth = KoraAuthProvider([SECRET], revoked=RevocationList(path))
    async with serving(auth, LIVE) as (host, _):
        async with streaming_as(host, shown, "a") as alive, streaming_as(host, access("bea"), "b") as other:
            path.write_text(f"{jti}\n")
            texts, closed = await all_that_is_said(alive)
            assert (closed.code, ['"AUTH_FAILED"' in text for text in texts]) == (4001, [True])
            assert (await answer(host, shown))["code"] == "AUTH_FAILED"
            path.write_text(f"{jti}\nbea-phone\n")
            assert (await all_that_is_said(other))[1].code == 4001


# external HS256: textual or missing `exp` never expires, `nbf` ignored


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({}, None),
        ({"exp": None}, "AUTH_FAILED"),
        ({"exp": ...}, "AUTH_FAILED"),
        ({"exp": "9999999999"}, "AUTH_FAILED"),
        ({"exp": True}, "AUTH_FAILED"),
        ({"exp": 1}, "AUTH_FAILED"),
        ({"nbf": 99_999_999_999}, "AUTH_FAILED"),
        ({"nbf": "0"}, "AUTH_FAILED"),
        ({"sub": ""}, "AUTH_FAILED"),
        ({"sub": 5}, "AUTH_FAILED"),
    ],
)
@pytest.mark.parametrize("algorithm", ["HS256"])
async def test_external_hs256(claims: dict[str, Any], code: str | None, algorithm: str) -> None:
    content = {"sub": "u", "exp": int(time.time()) + 600} | claims
    content = {name: value for name, value in content.items() if value is not ...}
    shown = jwt.api_jws.encode(json.dumps(content).encode(), SECRET, algorithm)
    auth = JwtProvider(JwtRules((algorithm,)), FixedKeys([secret_key(SECRET.encode())]), Unrestricted())
    async with serving(auth) as (host, _):
        assert (await answer(host, shown)).get("code") == code


# a client may name any device id at sign-in, also somebody else's


async def test_a_client_may_name_any_device_id(place: Place) -> None:
    """It is good for writing as that device, where users of one browser may share one; not for reading anything."""
    place.users.grant("mallory", {"todos": {"orgId": 2}}, device_id="phone")
    for handover, refused in ((False, ["NODE_ID_MISMATCH"]), (True, [])):
        async with place.server(node_binding="enforce", node_handover=handover) as host:
            if not place.store.count_operations():
                async with device(host.url, "phone", authToken="alice") as phone:
                    await phone.takes(phone.insert("todos", "t", orgId=1))
            async with device(host.url, "phone", authToken="mallory") as thief:
                assert thief.heard == [] or [one["recordId"] for one in thief.heard] == ["u"]
                thief.count = 1
                operation = thief.insert("todos", "u", orgId=2)
                assert [one["code"] for one in await thief.send(operation)] == refused


# the client address for those limits is taken from `X-Forwarded-For` of anybody


async def test_the_client_address_is_taken_from_a_header_of_anybody() -> None:
    options = ServerOptions(max_unauthenticated_per_address=1)
    for trusted, admitted in (([], False), ([ip_network("127.0.0.0/8")], True)):
        async with running_server(options=options, listening=ListenerOptions(port=0, trusted_proxies=trusted)) as host:
            async with connected(host.url, extra_headers=[("X-Forwarded-For", "192.0.2.1")]):
                async with connected(host.url, extra_headers=[("X-Forwarded-For", "192.0.2.2")]) as other:
                    heard = await other.hears_nothing()
                    assert heard == admitted


# listens on all addresses with everyone accepted by default


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_listens_on_all_addresses_with_everyone_accepted_by_default(tmp_path: Path, host: str, warned: bool) -> None:
    """So does this server, as its configuration is fixed to (config.md), but not without a word."""
    with Daemon(tmp_path, f'[server]\nhost = "{host}"\nport = 0\n') as daemon:
        assert daemon.stop() == 0
        assert ("daemon.open_to_everybody" in daemon.logged()) == warned
