"""What devices tell each other beside their operations stays among those who may see the record it is about."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.http.listener import ListenerOptions
from kora_daemon.model import limits
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.sync_server import ServerOptions
from tests.support.devices import wall_ms
from tests.support.network import Client, Closed, Host, connected, eventually, running_server
from tests.support.tenants import (
    ALI,
    cursor,
    handed_over,
    has_uploaded,
    hears,
    hears_no,
    note,
    options,
    presence,
    signed_in,
    tokens,
    typed,
)

ALIS, BEAS = 1, 2
"""Numbers of the notes that are there."""


@asynccontextmanager
async def serving(
    grants: dict[str, ScopeMap | None] | None = None, server_options: ServerOptions | None = None
) -> AsyncIterator[tuple[Host, Client]]:
    """A server with a note of Ali's and one of Bea's, and an unrestricted session."""
    auth = tokens() if grants is None else tokens({"admin": None, **grants})
    async with running_server(auth=auth, options=server_options or options()) as host:
        async with signed_in(host.url, "admin") as admin:
            await has_uploaded(admin, note(ALIS, "ali"), note(BEAS, "bea"))
            yield host, admin


async def sees(client: Client) -> list[tuple[str, str | None]]:
    """Who is here, as the next message says, and in which record."""
    return people(await hears(client, "awareness-update"))


async def comes_to_see(client: Client, *people: tuple[str, str | None]) -> None:
    """Wait until these are here, each as it was last heard of."""
    seen: dict[str, str | None] = {}
    while seen != dict(people):
        seen |= dict(await sees(client))


def people(message: dict[str, Any]) -> list[tuple[str, str | None]]:
    states = [state for state in message["states"].values() if state is not None]
    return sorted((state["user"]["name"], state.get("cursor", {}).get("recordId")) for state in states)


class TestPresence:
    """Who is here is told to those who see the same."""

    async def test_tenants_and_the_unrestricted_do_not_hear_of_each_other(self) -> None:
        async with serving() as (host, admin):
            async with (
                signed_in(host.url, "ali") as ali,
                signed_in(host.url, "bea") as bea,
                signed_in(host.url, "nobody") as nobody,
                signed_in(host.url, "ali") as other,
            ):
                await bea.say(presence("Bea"))
                await nobody.say(presence("Nobody"))
                await admin.say(presence("Admin"))
                await ali.say(presence("Ali"))
                await other.say(presence("Other", 2))
                assert await sees(other) == [("Ali", None)]
                assert await sees(ali) == [("Other", None)]
                for client in (admin, bea, nobody):
                    assert await client.hears_nothing()
            assert [*host.server.awareness.get_states()] == [1]

    async def test_who_may_only_read_is_one_of_them(self) -> None:
        async with serving() as (host, _):
            async with signed_in(host.url, "ali") as ali, signed_in(host.url, "viewer") as viewer:
                await ali.say(presence("Ali", 1, ALIS))
                await viewer.say(presence("Viewer", 2, ALIS))
                assert await sees(viewer) == [("Ali", "n1")]
                assert await sees(ali) == [("Viewer", "n1")]

    async def test_the_unrestricted_join_a_tenant_by_asking_for_its_scope(self) -> None:
        async with serving() as (host, _):
            async with signed_in(host.url, "ali") as ali, signed_in(host.url, "admin", syncScope=ALI) as admin:
                await ali.say(presence("Ali", 1, ALIS))
                await admin.say(presence("Admin", 2, BEAS))
                assert await sees(admin) == [("Ali", "n1")]
                assert await sees(ali) == [("Admin", None)]

    @pytest.mark.parametrize("place", [cursor("n2"), cursor("n9"), cursor("n1", "todos"), {"field": "body"}, "n1"])
    async def test_a_cursor_where_nobody_in_the_room_can_see_it_is_left_out(self, place: object) -> None:
        async with serving() as (host, _):
            async with signed_in(host.url, "ali") as ali, signed_in(host.url, "ali") as other:
                state = {"user": {"name": "Ali"}, "cursor": place, "more": 1}
                await other.say(presence("Other", 2))
                await ali.say({"type": "awareness-update", "clientId": 1, "states": {"1": state}})
                heard = await hears(other, "awareness-update")
                assert heard["states"] == {"1": {"user": {"name": "Ali"}, "more": 1}}

    async def test_a_cursor_is_judged_by_the_record_as_it_is_now(self) -> None:
        async with serving() as (host, admin):
            async with signed_in(host.url, "ali") as ali, signed_in(host.url, "ali") as other:
                await ali.say(presence("Ali", 1, ALIS))
                await other.say(presence("Other", 2))
                assert await sees(other) == [("Ali", "n1")]
                await has_uploaded(admin, handed_over(3, ALIS, "bea"))
                await ali.say(presence("Ali", 1, ALIS))
                assert await sees(other) == [("Ali", None)]
                await has_uploaded(admin, handed_over(4, ALIS, "ali"))
                await ali.say(presence("Ali", 1, ALIS))
                assert await sees(other) == [("Ali", "n1")]
                await has_uploaded(admin, handed_over(5, ALIS, "bea"))
                async with signed_in(host.url, "ali") as newcomer:
                    await newcomer.say(presence("New", 3))
                    await comes_to_see(newcomer, ("Ali", None), ("Other", None))

    async def test_nobody_speaks_for_somebody_else(self) -> None:
        async with serving() as (host, _):
            async with (
                signed_in(host.url, "ali") as ali,
                signed_in(host.url, "ali") as other,
                signed_in(host.url, "bea") as bea,
            ):
                await ali.say(presence("Ali"))
                await other.say(presence("Other", 2))
                assert await sees(ali) == [("Other", None)]
                for client in (other, bea):
                    forged = presence("Forged")
                    forged["states"]["2"] = None
                    await client.say(forged | {"clientId": 1 if client is bea else 2})
                await bea.was_heard()
                async with signed_in(host.url, "ali") as newcomer:
                    await newcomer.say(presence("New", 3))
                    assert people(await hears(newcomer, "awareness-update")) == [("Ali", None)]


class TestGroups:
    """`group_by`: presence is shared by those whose grants name the same group."""

    GRANTS: dict[str, ScopeMap | None] = {  # noqa: RUF012
        "ann": {"notes": {"ownerId": "ali"}, "todos": {"orgId": "acme"}},
        "ben": {"notes": {"ownerId": "bea"}, "todos": {"orgId": "acme"}},
        "eve": {"notes": {"ownerId": "bea"}, "todos": {"orgId": "evil"}},
        "form": {"notes": {"ownerId": "bea"}, "todos": {}},
        "both": {"notes": {"orgId": "evil"}, "todos": {"orgId": "acme"}},
    }

    async def test_each_hears_of_the_cursors_in_what_it_may_see(self) -> None:
        async with serving(self.GRANTS, options(awareness_group_by=("orgId",))) as (host, _):
            async with (
                signed_in(host.url, "ann") as ann,
                signed_in(host.url, "ben") as ben,
                signed_in(host.url, "admin", syncScope={"notes": {}, "todos": {"orgId": "acme"}}) as boss,
            ):
                await boss.say(presence("Boss", 7))
                await ann.say(presence("Ann", 1, ALIS))
                await ben.say(presence("Ben", 2, BEAS))
                await comes_to_see(ann, ("Boss", None), ("Ben", None))
                await comes_to_see(ben, ("Boss", None), ("Ann", None))
                await comes_to_see(boss, ("Ann", "n1"), ("Ben", "n2"))

    async def test_nobody_says_where_the_speaker_can_not_be(self) -> None:
        async with serving(self.GRANTS, options(awareness_group_by=("orgId",))) as (host, _):
            async with signed_in(host.url, "ann") as ann, signed_in(host.url, "ben") as ben:
                await ben.say(presence("Ben", 2))
                await ann.say(presence("Ann", 1, BEAS))
                assert await sees(ben) == [("Ann", None)]

    @pytest.mark.parametrize(
        ("name", "asked"),
        [
            ("eve", {}),
            ("both", {}),
            ("form", {"todos": {"orgId": "acme"}}),
            ("form", {"notes": {"orgId": "acme"}, "todos": {"orgId": "acme"}}),
            ("eve", {"notes": {"orgId": "acme"}, "todos": {"orgId": "acme"}}),
            ("admin", {}),
        ],
    )
    async def test_what_a_client_asks_for_takes_it_into_no_group(self, name: str, asked: ScopeMap) -> None:
        async with serving(self.GRANTS, options(awareness_group_by=("orgId",))) as (host, _):
            async with signed_in(host.url, "ann") as ann, signed_in(host.url, name, syncScope=asked) as stranger:
                await ann.say(presence("Ann"))
                await stranger.say(presence("Stranger", 2))
                assert await stranger.hears_nothing()
                assert await ann.hears_nothing()


class TestDocuments:
    """What is typed goes from those who may edit the record to those who may see it."""

    async def test_typing_reaches_who_may_see_the_note_and_nobody_else(self) -> None:
        async with serving() as (host, admin):
            async with (
                signed_in(host.url, "ali") as ali,
                signed_in(host.url, "ali") as other,
                signed_in(host.url, "viewer") as viewer,
                signed_in(host.url, "bea") as bea,
                signed_in(host.url, "nobody") as nobody,
            ):
                sent = typed("YQ==", ALIS)
                await ali.say(sent)
                for client in (other, viewer, admin):
                    heard = await hears(client, "yjs-doc-update")
                    assert {name: heard[name] for name in sent} == sent
                await admin.say(typed("Yg==", ALIS))
                for client in (ali, other, viewer):
                    assert (await hears(client, "yjs-doc-update"))["update"] == "Yg=="
                for client in (bea, nobody):
                    await client.was_heard()
                    assert await client.hears_nothing()

    @pytest.mark.parametrize(
        ("who", "what"),
        [
            ("bea", {}),
            ("nobody", {}),
            ("viewer", {}),
            ("ali", {"recordId": "n2"}),
            ("ali", {"recordId": "nowhere"}),
            ("ali", {"recordId": ""}),
            ("ali", {"recordId": "n\x00"}),
            ("ali", {"recordId": "n" * 300}),
            ("ali", {"collection": "todos"}),
            ("ali", {"collection": "nowhere"}),
        ],
    )
    async def test_who_may_not_edit_the_note_is_not_heard(self, who: str, what: dict[str, Any]) -> None:
        async with serving() as (host, admin):
            async with signed_in(host.url, "ali") as ali, signed_in(host.url, who) as client:
                await client.say(typed("Zm9yZ2Vk", ALIS, **what))
                await client.was_heard()
                await eventually(lambda: not host.server._running.side.documents._held)
                await admin.say(typed("YQ==", ALIS))
                assert (await hears(ali, "yjs-doc-update"))["update"] == "YQ=="
                assert await admin.hears_nothing()

    async def test_a_note_that_changes_hands_takes_its_hearers_with_it(self) -> None:
        async with serving() as (host, admin):
            async with signed_in(host.url, "ali") as ali, signed_in(host.url, "bea") as bea:
                await admin.say(typed("MQ==", ALIS))
                assert (await hears(ali, "yjs-doc-update"))["update"] == "MQ=="
                await has_uploaded(admin, handed_over(3, ALIS, "bea"))
                await admin.say(typed("Mg==", ALIS))
                assert (await hears(bea, "yjs-doc-update"))["update"] == "Mg=="
                await ali.say(typed("Mw==", ALIS))
                await ali.was_heard()
                await bea.say(typed("NA==", ALIS))
                assert (await hears(admin, "yjs-doc-update"))["update"] == "NA=="
                await has_uploaded(admin, handed_over(4, ALIS, "ali"))
                await admin.say(typed("NQ==", ALIS))
                assert (await hears(ali, "yjs-doc-update"))["update"] == "NQ=="

    async def test_updates_keep_their_order_while_the_record_is_looked_up(self) -> None:
        async with serving() as (host, admin):
            async with signed_in(host.url, "ali") as ali, signed_in(host.url, "ali") as other:
                for number in range(100):
                    await ali.say(typed(str(number), ALIS))
                    if number % 20 == 10:  # so that it has to be looked up again
                        await admin.upload(handed_over(10 + number, ALIS, "ali"))
                for client in (other, admin):
                    heard = [(await hears(client, "yjs-doc-update"))["update"] for _ in range(100)]
                    assert heard == [str(number) for number in range(100)]

    async def test_where_all_see_everything_no_record_is_needed(self) -> None:
        grants: dict[str, ScopeMap | None] = {"open": {"notes": {}}}
        async with serving(grants) as (host, admin):
            async with signed_in(host.url, "open") as one, signed_in(host.url, "open") as other:
                await one.say(typed("YQ==", 77))
                for client in (other, admin):
                    assert (await hears(client, "yjs-doc-update"))["update"] == "YQ=="


class TestBlobs:
    """The bytes of a file go between those who see a record that refers to it."""

    ALIS, BEAS = b"the file of ali", b"the file of bea"
    PART = b"a part"
    GRANTS: dict[str, ScopeMap | None] = {  # noqa: RUF012
        "ali": {"things": {"label": "ali"}},
        "bea": {"things": {"label": "bea"}},
    }

    @property
    def manifest(self) -> bytes:
        return json.dumps({"blobHash": hashed(self.ALIS), "size": 15, "chunkHashes": [hashed(self.PART)]}).encode()

    @asynccontextmanager
    async def serving(self, schema: bool = True) -> AsyncIterator[tuple[Host, Client]]:
        """A server with a thing of Ali's and one of Bea's, each with a file."""
        changes = {} if schema else {"apply": ApplyRules()}
        async with serving(self.GRANTS, options(**changes)) as (host, admin):
            await has_uploaded(
                admin,
                thing(3, "ali", file=reference(self.ALIS, manifestHash=hashed(self.manifest))),
                thing(4, "bea", file=reference(self.BEAS)),
            )
            yield host, admin

    @pytest.mark.parametrize("schema", [True, False])
    async def test_a_file_is_passed_on_among_those_who_see_the_record(self, schema: bool) -> None:
        async with self.serving(schema) as (host, _):
            async with (
                signed_in(host.url, "ali") as ali,
                signed_in(host.url, "ali") as other,
                signed_in(host.url, "bea") as bea,
            ):
                for content in (self.ALIS, self.manifest, self.PART):
                    assert await pulls(ali, other, content) == content
                assert await hears_no(bea, "blob-chunk-request")

    async def test_the_file_of_somebody_else_is_not_asked_for(self) -> None:
        async with self.serving() as (host, admin):
            async with (
                signed_in(host.url, "ali") as ali,
                signed_in(host.url, "ali") as other,
                signed_in(host.url, "bea") as bea,
            ):
                for content in (self.BEAS, self.PART, b"nobody has this"):
                    await asks(bea if content == self.PART else ali, content)
                for client in (ali, other, bea, admin):
                    assert await hears_no(client, "blob-chunk-request")
                await has_uploaded(admin, thing(5, "ali", file=reference(self.BEAS)))
                assert await pulls(ali, other, self.BEAS) == self.BEAS

    async def test_bytes_of_something_else_are_not_passed_on(self) -> None:
        async with self.serving() as (host, admin):
            async with signed_in(host.url, "ali") as ali, signed_in(host.url, "ali") as liar:
                await asks(ali, self.ALIS)
                for client, content in ((liar, b"a lie"), (admin, self.ALIS)):
                    await answers(client, await hears(client, "blob-chunk-request"), content)
                assert bytes_of(await hears(ali, "blob-chunk-response")) == self.ALIS

    async def test_guessing_of_hashes_ends_with_a_number_of_questions(self) -> None:
        async with self.serving() as (host, admin):
            async with signed_in(host.url, "ali") as ali:
                for number in range(500):
                    await asks(ali, f"guess {number}".encode())
                await ali.was_heard()
                await eventually(lambda: not host.server._running.side.blobs._requests)
                assert await hears_no(admin, "blob-chunk-request")
                await asks(ali, self.ALIS)
                assert (await hears(admin, "blob-chunk-request"))["hash"] == hashed(self.ALIS)


class TestStrangers:
    """Who has not signed in is not there."""

    async def test_they_hear_of_nothing_and_nothing_of_theirs_is_heard(self) -> None:
        messages = (presence("Stranger", 5), typed("Zm9yZ2Vk", ALIS))
        async with serving() as (host, admin):
            async with connected(host.url) as silent, connected(host.url) as refused, connected(host.url) as rude:
                await refused.shake_hands("stranger", authToken="wrong")
                for message in messages:
                    with suppress(Closed):
                        await refused.say(message)
                        await rude.say(message)
                async with signed_in(host.url, "admin") as other:
                    for message in (presence("Admin", 6), typed("YQ==", ALIS)):
                        await admin.say(message)
                    await asks(admin, b"anything")
                    await hears(other, "blob-chunk-request")
                    assert await silent.hears_nothing()
                    assert await hears_no(admin, "awareness-update")
                assert await hears_no(admin, "yjs-doc-update")


class TestFloods:
    """One that says too much harms nobody, and gets nobody closed."""

    @pytest.mark.parametrize("kind", ["documents", "presence", "blobs"])
    async def test_what_is_beyond_the_rate_is_dropped_and_operations_go_on(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "LIVE_MESSAGES_PER_MINUTE", 60)
        async with serving() as (host, admin):
            async with signed_in(host.url, "admin") as mallory, signed_in(host.url, "admin") as hearer:
                await hearer.say(presence("Hearer", 9))
                says = {
                    "documents": lambda number: mallory.say(typed(str(number), ALIS)),
                    "presence": lambda number: mallory.say(presence(f"{number}")),
                    "blobs": lambda number: asks(mallory, f"{number}".encode()),
                }[kind]
                for number in range(300):
                    await says(number)
                await mallory.was_heard()
                assert 200 < host.server.measures.unheard_messages <= 240
                await has_uploaded(mallory, note(3, "ali"))
                heard = 0
                while not await hears_no(hearer, SAID_AS[kind], 0.3):
                    heard += 1
                assert heard <= 100
                await admin.say(typed("last", ALIS))
                assert (await hears(hearer, "yjs-doc-update"))["update"] == "last"

    async def test_who_reads_slowly_misses_typing_and_is_not_closed(self) -> None:
        listening = ListenerOptions(port=0, max_buffered_bytes=1 << 20)
        async with (
            running_server(auth=tokens(), options=options(), listening=listening) as host,
            signed_in(host.url, "admin") as admin,
            signed_in(host.url, "admin") as reader,
            signed_in(host.url, "admin") as slow,
        ):
            await slow.say(presence("Slow", 1))
            await reader.say(presence("Reader", 2))
            for number in range(100):  # more than the kernel keeps for a socket
                await admin.say(typed("A" * 250_000, number))
                assert (await hears(reader, "yjs-doc-update"))["recordId"] == f"n{number}"
            await reader.say(presence("Reader, later", 2))
            await has_uploaded(admin, note(1, "ali"))
            heard: dict[str, list[dict[str, Any]]] = {
                "operation-batch": [],
                "awareness-update": [],
                "yjs-doc-update": [],
            }
            here: list[tuple[str, str | None]] = []
            while here != [("Reader, later", None)] or not heard["operation-batch"]:
                message = await slow.hear()
                heard[message["type"]].append(message)
                here = people(message) if message["type"] == "awareness-update" else here
            assert [one["recordId"] for one in heard["operation-batch"][0]["operations"]] == ["n1"]
            assert len(heard["yjs-doc-update"]) < 90


SAID_AS = {
    "documents": "yjs-doc-update",
    "presence": "awareness-update",
    "blobs": "blob-chunk-request",
}


def hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def reference(content: bytes, **more: Any) -> dict[str, Any]:
    return {"hash": hashed(content), "size": len(content), "mimeType": "text/plain", **more}


def thing(number: int, label: str, **data: Any) -> dict[str, Any]:
    fields = {"label": label, "priority": "medium", "scores": [], "createdOn": wall_ms(), **data}
    return note(number, "") | {"collection": "things", "recordId": f"t{number}", "data": fields}


async def asks(client: Client, content: bytes) -> None:
    await client.say({"type": "blob-chunk-request", "requestId": "mine", "hash": hashed(content)})


async def answers(client: Client, request: dict[str, Any], content: bytes) -> None:
    text = base64.b64encode(content).decode()
    await client.say({"type": "blob-chunk-response", "requestId": request["requestId"], "bytes": text})


async def pulls(client: Client, holder: Client, content: bytes) -> bytes:
    """What a client gets when it asks, and another has it."""
    await asks(client, content)
    await answers(holder, await hears(holder, "blob-chunk-request"), content)
    return bytes_of(await hears(client, "blob-chunk-response"))


def bytes_of(response: dict[str, Any]) -> bytes:
    return base64.b64decode(response["bytes"])
