"""Two servers on one PostgreSQL database: what is said to one is heard at the other."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.model.schema import Schema
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.schema_file import load_schema
from kora_daemon.server import neighbours
from kora_daemon.server.sync_server import ServerOptions
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.postgres.channel import PostgresChannel
from tests.support import postgres, tenants
from tests.support.devices import insert
from tests.support.network import Client, Host, eventually, running_server, streaming

RACES = int(os.environ.get("KORA_RACES", "30"))


@pytest.fixture
def url() -> str:
    server = postgres.server()
    return server.url(server.database())


@asynccontextmanager
async def two_servers(url: str, options: ServerOptions | None = None) -> AsyncIterator[tuple[Host, Host]]:
    async with running_server(PostgresStore(url), options=options) as one:
        async with running_server(PostgresStore(url), options=options) as other:
            await both_listen(one, other)
            yield one, other


async def both_listen(*hosts: Host) -> None:
    """Wait until no word between the servers is lost any more."""
    for host in hosts:
        channel = host.server._channel
        assert isinstance(channel, PostgresChannel)
        await eventually(lambda channel=channel: channel._hearing is not None)  # type: ignore[misc]


async def hear(client: Client, kind: str) -> dict[str, Any]:
    """The next message of a kind; batches on the way are acknowledged."""
    while True:
        message = await client.hear()
        if message["type"] == "operation-batch" and kind != "operation-batch":
            await client.acknowledge(message)
        if message["type"] == kind:
            return message


def presence(name: str, client_id: int = 1) -> dict[str, Any]:
    state = {"user": {"name": name, "color": "#123456"}}
    return {"type": "awareness-update", "clientId": client_id, "states": {str(client_id): state}}


def names(message: dict[str, Any]) -> dict[str, str | None]:
    return {number: state and state["user"]["name"] for number, state in message["states"].items()}


async def test_edits_reach_the_devices_of_the_other_server_live_and_in_one_order(url: str) -> None:
    async with two_servers(url) as (one, other):
        async with streaming(one.url, "a") as a, streaming(other.url, "b") as b, streaming(other.url, "c") as c:
            for number in range(1, 21):
                await (a if number % 2 else b).upload(insert("a" if number % 2 else "b", number))
            seen: list[tuple[int, str]] = []
            while len(seen) < 20:
                batch = await hear(c, "operation-batch")
                await c.acknowledge(batch)
                seen += [(batch["maxDeliverySequence"], one["id"]) for one in batch["operations"]]
            assert sorted(identity for _, identity in seen) == sorted(
                f"{'a' if number % 2 else 'b'}/{number}" for number in range(1, 21)
            )
            assert [sequence for sequence, _ in seen] == sorted(sequence for sequence, _ in seen)
            log = [entry.operation.id for entry in PostgresStoreReader(url).entries()]
            assert [identity for _, identity in seen] == log


class PostgresStoreReader:
    """A third look at the database."""

    def __init__(self, url: str) -> None:
        self._store = PostgresStore(url)

    def entries(self) -> list[Any]:
        self._store.open()
        try:
            return self._store.entries_after(0, 10_000)
        finally:
            self._store.close()


async def test_a_device_is_not_sent_its_own_operations_by_its_own_server(url: str) -> None:
    async with two_servers(url) as (one, other):
        async with streaming(one.url, "a", watermark=None) as a, streaming(other.url, "b") as b:
            await b.upload(insert("b", 1))
            await hear(a, "operation-batch")
            await a.upload(insert("a", 1))
            assert (await hear(a, "acknowledgment"))["lastSequenceNumber"] == 1
            assert await a.hears_nothing(0.5)


async def test_either_server_counts_what_comes_in_at_the_other(url: str) -> None:
    async with two_servers(url) as (one, other):
        async with streaming(one.url, "a") as a, streaming(other.url, "b") as b:
            for number in range(1, 21):
                await (a if number % 3 else b).upload(insert("a" if number % 3 else "b", number))
        for host in (one, other):
            await eventually(lambda host=host: host.server.get_status().total_operations == 20)  # type: ignore[misc]
            await eventually(lambda host=host: host.server.get_status().frontier == 20)  # type: ignore[misc]


async def test_presence_crosses_over_both_ways_and_newcomers_are_told(url: str) -> None:
    async with two_servers(url) as (one, other), streaming(one.url, "a") as a, streaming(other.url, "b") as b:
        await a.say(presence("Ann"))
        await eventually(lambda: len(other.server.awareness.get_states()) == 1)
        await b.say(presence("Bob"))
        assert list(names(await hear(b, "awareness-update")).values()) == ["Ann"]
        heard = names(await hear(a, "awareness-update"))
        assert list(heard.values()) == ["Bob"]
        assert "1" not in heard, "clients that gave themselves the same number can be told apart"
        await b.go()
        assert list(names(await hear(a, "awareness-update")).values()) == [None]


async def test_a_server_that_was_not_listening_catches_up_with_who_is_present(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "WHOLE_INTERVAL_S", 0.2)
    async with running_server(PostgresStore(url)) as one, streaming(one.url, "a") as a:
        await a.say(presence("Ann"))
        await a.was_heard()
        async with running_server(PostgresStore(url)) as other:
            await eventually(lambda: len(other.server.awareness.get_states()) == 1)


async def test_users_of_a_server_that_falls_silent_disappear(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "WHOLE_INTERVAL_S", 0.1)
    monkeypatch.setattr(neighbours, "SILENT_AFTER_S", 3.0)
    async with two_servers(url) as (one, other), streaming(one.url, "a") as a, streaming(other.url, "b") as b:
        await a.say(presence("Ann"))
        await eventually(lambda: len(other.server.awareness.get_states()) == 1)
        await b.say(presence("Bob"))
        assert list(names(await hear(b, "awareness-update")).values()) == ["Ann"]
        # As if its process had been killed: not a word from now on.
        monkeypatch.setattr(one.server._running.side.awareness, "abroad", None)
        channel = neighbours.Neighbours._say
        monkeypatch.setattr(neighbours.Neighbours, "_say", _mute(one, channel))
        assert list(names(await hear(b, "awareness-update")).values()) == [None]


def _mute(muted: Host, say: Any) -> Any:
    async def say_unless_muted(self: neighbours.Neighbours, text: bytes) -> None:
        if self._side is not muted.server._running.side:
            await say(self, text)

    return say_unless_muted


@pytest.mark.parametrize("length", [100, 60_000])
async def test_document_updates_cross_over_whatever_their_length(url: str, length: int) -> None:
    update = {"type": "yjs-doc-update", "collection": "notes", "recordId": "n", "field": "body", "update": "A" * length}
    async with two_servers(url) as (one, other):
        async with streaming(one.url, "a") as a, streaming(one.url, "b") as b, streaming(other.url, "c") as c:
            await a.say(update)
            for client in (b, c):
                heard = await hear(client, "yjs-doc-update")
                assert {name: heard[name] for name in update} == update
            assert await a.hears_nothing(0.2)


@asynccontextmanager
async def two_tenants(url: str) -> AsyncIterator[tuple[Host, Host]]:
    """Two servers, a note of Ali's and one of Bea's."""
    options = tenants.options()
    async with running_server(PostgresStore(url), tenants.tokens(), options) as one:
        async with tenants.signed_in(one.url, "admin") as admin:
            await tenants.has_uploaded(admin, tenants.note(1, "ali"), tenants.note(2, "bea"))
        async with running_server(PostgresStore(url), tenants.tokens(), options) as other:
            await both_listen(one, other)
            yield one, other


async def test_presence_of_a_tenant_crosses_over_to_that_tenant_alone(url: str) -> None:
    async with (
        two_tenants(url) as (one, other),
        tenants.signed_in(one.url, "ali") as ali,
        tenants.signed_in(other.url, "viewer") as viewer,
        tenants.signed_in(other.url, "bea") as bea,
        tenants.signed_in(other.url, "admin") as admin,
    ):
        for client, name in ((bea, "Bea"), (admin, "Admin")):
            await client.say(tenants.presence(name))
        await ali.say(tenants.presence("Ali", 1, 1))
        await viewer.say(tenants.presence("Viewer", 1, 2))
        (state,) = (await hear(viewer, "awareness-update"))["states"].values()
        assert state == {"user": {"name": "Ali", "color": "#123456"}, "cursor": tenants.cursor("n1")}
        (state,) = (await hear(ali, "awareness-update"))["states"].values()
        assert state == {"user": {"name": "Viewer", "color": "#123456"}}
        for client in (bea, admin):
            assert await client.hears_nothing()


async def test_typing_crosses_over_to_those_who_may_see_the_note(url: str) -> None:
    async with (
        two_tenants(url) as (one, other),
        tenants.signed_in(one.url, "ali") as ali,
        tenants.signed_in(one.url, "viewer") as here,
        tenants.signed_in(other.url, "viewer") as viewer,
        tenants.signed_in(other.url, "bea") as bea,
        tenants.signed_in(other.url, "admin") as admin,
    ):
        await bea.say(tenants.typed("Zm9yZ2Vk", 1))
        await viewer.say(tenants.typed("Zm9yZ2Vk", 1))
        await viewer.was_heard()
        await ali.say(tenants.typed("YQ==", 1))
        for client in (here, viewer, admin):
            assert (await hear(client, "yjs-doc-update"))["update"] == "YQ=="
        assert await bea.hears_nothing()


async def test_a_note_that_changes_hands_at_one_server_does_so_at_the_other(url: str) -> None:
    async with (
        two_tenants(url) as (one, other),
        tenants.signed_in(one.url, "admin") as admin,
        tenants.signed_in(other.url, "ali") as ali,
        tenants.signed_in(other.url, "bea") as bea,
    ):
        await admin.say(tenants.typed("YQ==", 1))
        assert (await hear(ali, "yjs-doc-update"))["update"] == "YQ=="
        await tenants.has_uploaded(admin, tenants.handed_over(3, 1, "bea"))
        await eventually(lambda: other.server.get_status().frontier == one.server.get_status().frontier)
        await admin.say(tenants.typed("Yg==", 1))
        assert (await hear(bea, "yjs-doc-update"))["update"] == "Yg=="
        assert await tenants.hears_no(ali, "yjs-doc-update")


@pytest.mark.parametrize(
    "word",
    [
        {"presence": {"1": {"user": {"name": "Old"}}}, "documents": [["notes", "n1", "body", "YQ=="]]},
        {"version": 2, "here": {"1": ["", {"user": {"name": "New"}}]}, "updates": [["notes", "n1", "body", "YQ=="]]},
    ],
)
async def test_words_of_another_version_are_not_taken_for_something_else(url: str, word: dict[str, Any]) -> None:
    async with running_server(PostgresStore(url)) as host, streaming(host.url, "a") as a:
        await a.say(presence("Ann"))
        await both_listen(host)
        channel = host.server._channel
        assert channel is not None
        for text in (word, {"version": 1, "here": {"2": ["", {"user": {"name": "Same"}}]}}):
            channel.send(json.dumps({"speaker": "stranger", **text}).encode())
        assert list(names(await hear(a, "awareness-update")).values()) == ["Same"]
        assert await a.hears_nothing()


async def test_a_lost_connection_to_the_neighbours_is_made_again(url: str) -> None:
    async with two_servers(url) as (one, other), streaming(one.url, "a") as a, streaming(other.url, "b") as b:
        with postgres.server().connect() as operator:
            operator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
            )
        await a.upload(insert("a", 1))
        assert [one["id"] for one in (await hear(b, "operation-batch"))["operations"]] == ["a/1"]
        await trio.sleep(0)
        await a.say(presence("Ann"))
        await eventually(lambda: len(other.server.awareness.get_states()) == 1)


async def test_only_one_of_two_devices_at_two_servers_gets_a_unique_value(url: str, workspace: Schema) -> None:
    async with two_servers(url, racing(workspace)) as (one, other):
        async with streaming(one.url, "a") as a, streaming(other.url, "b") as b:
            refused = 0
            for number in range(1, RACES + 1):
                data = {"email": f"{number}@example.test", "name": "n"}
                for client, node in ((a, "a"), (b, "b")):
                    await client.upload(insert(node, number) | {"collection": "users", "data": data})
                refused += sum([await refusals(client) for client in (a, b)])
            assert refused == RACES
            assert await one.server.count_collection("users") == RACES


async def test_an_operation_that_both_servers_receive_is_stored_and_delivered_once(url: str, workspace: Schema) -> None:
    async with two_servers(url, racing(workspace)) as (one, other):
        async with (
            streaming(one.url, "a") as a,
            streaming(other.url, "b") as b,
            streaming(one.url, "c") as c,
        ):
            for number in range(1, RACES + 1):
                for client in (a, b):
                    await client.upload(insert("both", number))
                assert [await refusals(client) for client in (a, b)] == [0, 0]
            heard: list[str] = []
            watermark = 0
            while len(heard) < RACES:
                batch = await hear(c, "operation-batch")
                # What comes again, since nothing was acknowledged for a while, a device does not take again.
                if batch["baseDeliverySequence"] == watermark:
                    watermark = batch["maxDeliverySequence"]
                    heard += [operation["id"] for operation in batch["operations"]]
                await c.acknowledge(batch)
            assert heard == [f"both/{number}" for number in range(1, RACES + 1)]
            assert one.server._store.count_operations() == RACES


def racing(schema: Schema) -> ServerOptions:
    return ServerOptions(apply=ApplyRules(schema), uploads=UploadLimits(max_operations_per_minute=0))


async def refusals(client: Client) -> int:
    """How many operations were refused until the next batch is acknowledged."""
    refused = 0
    while True:
        message = await client.hear()
        refused += message["type"] == "operation-rejected"
        if message["type"] == "acknowledgment":
            return refused
        if message["type"] == "operation-batch":
            await client.acknowledge(message)


@pytest.fixture
def workspace() -> Schema:
    return load_schema(Path(__file__).parents[1] / "conformance" / "data" / "vectors" / "schemas" / "workspace.json")


def test_words_are_json() -> None:
    word = neighbours.Word("me", neighbours.VERSION, {"1": ("room", neighbours._NULL)}, True)
    said = {"speaker": "me", "version": 1, "here": {"1": ["room", None]}, "whole": True}
    assert json.loads(neighbours._encode(word)) == said
