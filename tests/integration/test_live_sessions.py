"""Live sessions over real sockets: users go, devices are revoked, roles change, tokens expire, databases are away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from structlog.testing import capture_logs

from kora_daemon.auth.contract import AuthContext, AuthProvider, Standing, token_digest
from kora_daemon.auth.kora import KoraAuthProvider
from kora_daemon.auth.kora_tokens import KoraTokens
from kora_daemon.auth.token import StaticToken, StaticTokenProvider, TokenAuthProvider
from kora_daemon.server import identification, rechecks, sweep
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.validation import ValidationContext
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.postgres.users import PostgresUsers
from kora_daemon.store.sqlite import SqliteStore
from tests.support.auth import TABLES, PostgresTables, SqliteTables, UserTables
from tests.support.devices import insert
from tests.support.network import Client, Closed, Host, connected, eventually, running_server
from tests.support.postgres import PostgresServer
from tests.support.tokens import SECRET

OFTEN = AuthRules(revalidate=0.05, shared_data=True)
NEVER = AuthRules(revalidate=0, shared_data=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rechecks, "TICK_S", 0.02)
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.02)


@pytest.fixture(params=list(TABLES))
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UserTables]:
    made = TABLES[request.param](tmp_path)
    yield _populated(made)
    made.connection.close()  # type: ignore[attr-defined]


def _populated(made: UserTables) -> UserTables:
    for user in ("ali", "bea"):
        made.user(user)
        made.device(f"{user}-phone", user)
    return made


def token(user: str, lifetime_s: float = 900) -> str:
    return KoraTokens([SECRET]).issue(user, f"{user}-phone", "access", time.time(), lifetime_s)


@asynccontextmanager
async def serving(
    auth: AuthProvider, rules: AuthRules = OFTEN, store: Store | None = None, **options: Any
) -> AsyncIterator[Host]:
    made = ServerOptions(auth=rules, refusal_delay=0, **options)
    async with running_server(store or MemoryStore(), auth, made) as host:
        yield host


@asynccontextmanager
async def signed_in(host: Host, shown: str, node_id: str = "phone") -> AsyncIterator[Client]:
    async with connected(host.url) as client:
        response = await client.shake_hands(node_id, authToken=shown)
        assert response["type"] == "handshake-response", response
        await client.download()
        yield client


async def syncs(client: Client, node_id: str, number: int) -> None:
    """Upload something and hear that it is stored."""
    sent = await client.upload(insert(node_id, number))
    while (message := await client.hear())["type"] != "acknowledgment":
        assert message["type"] == "operation-batch", message
        await client.acknowledge(message)
    assert message["acknowledgedMessageId"] == sent


async def goodbye(client: Client) -> tuple[list[dict[str, Any]], Closed]:
    """The errors that a client hears until it is closed, and how it is."""
    errors: list[dict[str, Any]] = []
    while True:
        try:
            message = await client.hear()
        except Closed as closed:
            return errors, closed
        if message["type"] == "error":
            errors.append(message)


async def sent_off(client: Client) -> None:
    """The client hears that it may not be here any more."""
    (error,), closed = await goodbye(client)
    assert (error["code"], error["message"], error["retriable"]) == ("AUTH_FAILED", "Authentication failed", False)
    assert (closed.code, closed.reason) == (4001, "authentication failed")


async def asked_to_come_again(client: Client) -> str:
    """The client is closed without an error; the reason."""
    errors, closed = await goodbye(client)
    assert (errors, closed.code) == ([], 1000)
    return closed.reason or ""


async def refusal(host: Host, shown: str) -> dict[str, Any]:
    """What a client hears instead of a handshake's response."""
    async with connected(host.url) as client:
        error = await client.shake_hands(authToken=shown)
        assert error["type"] == "error"
        return error


# Users and devices


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE auth_devices SET revoked = (1 = 1) WHERE id = 'ali-phone'",
        "DELETE FROM auth_users WHERE id = 'ali'",
    ],
    ids=["revoked device", "deleted user"],
)
async def test_who_may_not_be_here_any_more_is_sent_off_and_the_others_stay(tables: UserTables, statement: str) -> None:
    async with serving(KoraAuthProvider([SECRET], tables.directory())) as host:
        async with signed_in(host, token("ali"), "a") as ali, signed_in(host, token("bea"), "b") as bea:
            await syncs(ali, "a", 1)
            tables.execute(statement)
            await sent_off(ali)
            await syncs(bea, "b", 1)
            assert (await refusal(host, token("ali")))["code"] == "AUTH_FAILED"
            await syncs(bea, "b", 2)
        assert host.server.get_status().total_operations == 3


async def test_what_comes_behind_the_verdict_is_not_taken(tables: UserTables) -> None:
    async with serving(KoraAuthProvider([SECRET], tables.directory())) as host:
        async with signed_in(host, token("ali"), "a") as ali:
            await syncs(ali, "a", 1)
            tables.execute("DELETE FROM auth_users WHERE id = 'ali'")
            while (await ali.hear())["type"] != "error":
                pass
            with suppress(Closed):
                while True:
                    await ali.upload(insert("a", 2))
                    await ali.hear()
        assert host.server.get_status().total_operations == 1


async def test_what_the_writer_holds_when_a_device_is_revoked_is_stored_anyway(tmp_path: Path) -> None:
    tables = _populated(SqliteTables(tmp_path))
    path = tmp_path / "kora.db"
    async with serving(KoraAuthProvider([SECRET], tables.directory()), store=SqliteStore(path)) as host:
        async with signed_in(host, token("ali"), "a") as ali:
            lock = apsw.Connection(str(path))
            lock.execute("BEGIN IMMEDIATE")
            await ali.upload(insert("a", 1))
            await ali.was_heard()
            tables.execute("UPDATE auth_devices SET revoked = 1")
            await sent_off(ali)
            lock.execute("ROLLBACK")
            lock.close()
        await eventually(lambda: host.server.get_status().total_operations == 1)


async def test_a_role_that_changes_brings_the_client_back_for_its_new_view(tables: UserTables) -> None:
    role = {"ali": {"todos": {"ownerId": "ali"}}, "bea": {"todos": {}}}
    auth = KoraAuthProvider([SECRET], tables.directory(), lambda user, claims: role[user])
    async with serving(auth) as host:
        async with signed_in(host, token("ali"), "a") as ali, signed_in(host, token("bea"), "b") as bea:
            role["ali"] = {"todos": {"ownerId": "ali"}, "notes": {}}
            assert await asked_to_come_again(ali) == "what you may see has changed, please connect again"
            await syncs(bea, "b", 1)
        async with connected(host.url) as ali:
            response = await ali.shake_hands("a", authToken=token("ali"))
            assert response["acceptedScope"] == {"todos": {"ownerId": "ali"}, "notes": {}}


async def test_a_session_that_stays_knows_what_has_changed_about_its_user(tables: UserTables) -> None:
    names: list[Any] = []

    def note(operation: dict[str, Any], context: ValidationContext) -> None:
        names.append((context.auth.metadata or {})["name"])

    async with serving(KoraAuthProvider([SECRET], tables.directory()), validator=note) as host:
        async with signed_in(host, token("ali"), "a") as ali:
            await syncs(ali, "a", 1)
            tables.execute("UPDATE auth_users SET name = 'Alia' WHERE id = 'ali'")
            number = 1
            with trio.fail_after(10):
                while names[-1] != "Alia":
                    number += 1
                    await syncs(ali, "a", number)


async def test_the_last_stamps_are_written_when_the_server_stops(
    tables: UserTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identification, "TEND_INTERVAL_S", 3600)
    before_ms = time.time() * 1000
    async with serving(KoraAuthProvider([SECRET], tables.directory())) as host:
        async with signed_in(host, token("ali")):
            assert tables.last_seen()["ali-phone"] == 0
    assert tables.last_seen()["ali-phone"] >= before_ms - 1000
    assert tables.last_seen()["bea-phone"] == 0


# Outages


class Outage:
    """A user database that can be away."""

    tables: UserTables

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def over(self) -> None:
        """Leave nothing behind."""

    def auth(self) -> AuthProvider:
        return KoraAuthProvider([SECRET], self.tables.directory())


class LostFile(Outage):
    def __init__(self, folder: Path) -> None:
        self.sqlite = SqliteTables(folder)
        self.tables = _populated(self.sqlite)

    def begin(self) -> None:
        self.sqlite.path.rename(self.sqlite.path.with_suffix(".away"))

    def end(self) -> None:
        self.sqlite.path.with_suffix(".away").rename(self.sqlite.path)


class StoppedServer(Outage):
    def __init__(self, folder: Path) -> None:
        self.server = PostgresServer()
        self.url = self.server.schema()
        self.postgres = PostgresTables(folder, self.url)
        self.tables = _populated(self.postgres)

    def begin(self) -> None:
        self.server.kill()

    def end(self) -> None:
        self.server.start()
        self.postgres.connect()

    def over(self) -> None:
        self.server.remove()

    def auth(self) -> AuthProvider:
        return KoraAuthProvider([SECRET], PostgresUsers(self.url, connect_timeout_s=2.0))


@pytest.mark.parametrize("kind", [LostFile, StoppedServer], ids=["sqlite", "postgres"])
async def test_while_the_user_database_is_away_nobody_is_sent_off_and_nobody_gets_in(
    kind: type[Any], tmp_path: Path
) -> None:
    outage: Outage = kind(tmp_path)
    async with serving(outage.auth()) as host:
        async with signed_in(host, token("ali"), "a") as ali, signed_in(host, token("bea"), "b") as bea:
            with capture_logs() as lines:
                outage.begin()
                error = await refusal(host, token("ali"))
                assert (error["code"], error["retriable"]) == ("AUTH_UNAVAILABLE", True)
                await eventually(lambda: "auth.recheck_unavailable" in [line["event"] for line in lines])
                await syncs(ali, "a", 1)
                await syncs(bea, "b", 1)
            outage.end()
            outage.tables.execute("DELETE FROM auth_users WHERE id = 'ali'")
            await sent_off(ali)
            await syncs(bea, "b", 2)
    outage.over()


class Moody:
    """A provider whose re-checks do what a test tells it to."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.asked = 0
        self.mood = "good"

    async def authenticate(self, token: str) -> AuthContext | None:
        await self._think()
        return AuthContext(token)

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        self.asked += 1
        await self._think()
        return list(contexts) if self.mood == "good" else self.answer  # type: ignore[no-any-return]

    async def _think(self) -> None:
        if self.mood == "hangs":
            await trio.sleep_forever()
        if self.mood == "raises":
            raise RuntimeError("s3cret")


@pytest.mark.parametrize(
    ("mood", "answer"),
    [("hangs", None), ("raises", None), ("odd", None), ("odd", "s3cret"), ("odd", []), ("odd", [{"userId": "s3cret"}])],
)
async def test_a_provider_out_of_its_mind_sends_nobody_off(
    mood: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identification, "RECHECK_PATIENCE_S", 0.1)
    monkeypatch.setattr(identification, "LEAST_PATIENCE_S", 0.1)
    provider = Moody()
    rules = AuthRules(timeout=0.1, revalidate=0.05, shared_data=True)
    with capture_logs() as lines:
        async with serving(provider, rules) as host, signed_in(host, "s3cret-ali", "a") as ali:
            provider.answer, provider.mood = answer, mood
            if mood != "odd":
                error = await refusal(host, "s3cret-bea")
                assert (error["code"], error["retriable"]) == ("AUTH_UNAVAILABLE", True)
                assert "s3cret" not in repr(error)
            asked = provider.asked
            await eventually(lambda: provider.asked > asked + 2)
            await syncs(ali, "a", 1)
    assert "auth.recheck_unavailable" in [line["event"] for line in lines]
    assert "s3cret" not in repr([line for line in lines if line["event"] != "session.joined"])


# Expiry


def expiring(after_s: float) -> AuthProvider:
    ends_at = time.time() + after_s
    return TokenAuthProvider(lambda token: {"userId": token, "expiresAt": ends_at}, shared_data=True)


async def test_a_session_outlives_its_token_unless_told_otherwise() -> None:
    async with serving(expiring(1.0)) as host, signed_in(host, "ali", "a") as ali:
        await trio.sleep(1.2)
        await syncs(ali, "a", 1)


@pytest.mark.parametrize("revalidate", [0.0, 0.05])
async def test_a_session_that_ends_with_its_token_ends_without_an_error(revalidate: float) -> None:
    rules = AuthRules(revalidate=revalidate, shared_data=True, close_on_expiry=True)
    async with serving(expiring(1.0), rules) as host, signed_in(host, "ali", "a") as ali:
        await syncs(ali, "a", 1)
        assert await asked_to_come_again(ali) == "the token has expired, please connect again"


async def test_an_end_that_a_recheck_brings_is_kept_by_a_session_that_was_quiet() -> None:
    provider, rules = Moody(), AuthRules(revalidate=0.05, shared_data=True, close_on_expiry=True)
    async with serving(provider, rules) as host, signed_in(host, "ali", "a") as ali:
        await eventually(lambda: all(one.quiet_until for one in host.server._reception.connections))
        provider.answer, provider.mood = [AuthContext("ali", expires_at=time.time() + 0.3)], "odd"
        assert await asked_to_come_again(ali) == "the token has expired, please connect again"


# Other providers


def static(**users: str) -> AuthProvider:
    """Token -> user."""
    return StaticTokenProvider(StaticToken(token_digest(one), AuthContext(user)) for one, user in users.items())


async def test_a_reconfiguration_is_about_live_sessions_too() -> None:
    async with serving(static(t1="ali", t2="bea", t3="cas"), NEVER) as host:
        async with (
            signed_in(host, "t1", "a") as ali,
            signed_in(host, "t2", "b") as bea,
            signed_in(host, "t3", "c") as cas,
        ):
            host.server.reconfigure(static(t1="ali", t3="dan"), ServerOptions(auth=NEVER, refusal_delay=0))
            await sent_off(bea)
            assert await asked_to_come_again(cas) == "please connect again"
            await syncs(ali, "a", 1)
            host.server.reconfigure(expiring(60), ServerOptions(auth=NEVER, refusal_delay=0))
            assert await asked_to_come_again(ali) == "please connect again"
