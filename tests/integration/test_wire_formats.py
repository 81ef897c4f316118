"""Clients of both wire formats on one server: each is answered in the form it speaks (wire.md sections 1 and 8)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server.options import ServerOptions
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore
from tests.support.devices import ids, insert, inserts
from tests.support.network import Client, Host, connected, running_server
from tests.support.protobuf import chunk

OFFER = ["json", "protobuf"]
BYTES = b"\x00\x01 a picture"
HASH = hashlib.sha256(BYTES).hexdigest()


@asynccontextmanager
async def joined(url: str, node_id: str, *, binary: bool = False) -> AsyncIterator[Client]:
    """A client past its handshake. One that speaks protobuf says so from its first word on."""
    async with connected(url, binary=binary) as client:
        response = await client.shake_hands(node_id, supportedWireFormats=OFFER)
        assert response["accepted"] is True
        await client.download()
        yield client


async def hears(client: Client, kind: str) -> dict[str, Any]:
    message = await client.hear()
    assert message["type"] == kind
    return message


async def has_uploaded(client: Client, *operations: dict[str, Any]) -> None:
    message_id = await client.upload(*operations)
    assert (await hears(client, "acknowledgment"))["acknowledgedMessageId"] == message_id


class TestNegotiation:
    """The frame that came last decides, not what was selected."""

    @pytest.mark.parametrize(
        ("offered", "selected"),
        [
            (OFFER, "protobuf"),
            (["protobuf"], "protobuf"),
            (["json"], "json"),
            (None, "json"),
            ("protobuf", "json"),
            ([{}], "json"),
        ],
    )
    async def test_protobuf_is_selected_for_whoever_offers_it(self, offered: object, selected: str) -> None:
        async with running_server() as host, connected(host.url) as client:
            response = await client.shake_hands("a", supportedWireFormats=offered)
            assert response["selectedWireFormat"] == selected
            assert not client.heard_binary

    async def test_a_client_that_stays_with_text_hears_text(self) -> None:
        async with running_server() as host, joined(host.url, "a") as client:
            await has_uploaded(client, insert("a", 1))
            assert not client.heard_binary

    async def test_a_client_changes_over_behind_the_response_and_back(self) -> None:
        async with running_server() as host, joined(host.url, "a") as client:
            for client.binary in (True, False, True):
                await has_uploaded(client)
                assert client.heard_binary is client.binary

    async def test_a_client_may_speak_protobuf_from_its_first_word_on(self) -> None:
        async with running_server() as host, connected(host.url, binary=True) as client:
            response = await client.shake_hands("a", supportedWireFormats=OFFER)
            assert client.heard_binary
            assert (response["selectedWireFormat"], response["serverMaxDeliverySequence"]) == ("protobuf", 0)
            assert len(await client.download()) == 1
            assert client.heard_binary

    async def test_a_client_of_the_older_generation_may_speak_it_too(self) -> None:
        async with running_server() as host, joined(host.url, "a") as writer:
            await has_uploaded(writer, *inserts("a", 1, 3))
            async with connected(host.url, binary=True) as client:
                response = await client.shake_hands("b", None)
                assert "serverMaxDeliverySequence" not in response
                [batch] = await client.download()
                assert ids(batch) == ["a/1", "a/2", "a/3"]
                assert not {"baseDeliverySequence", "totalBatches", "cursor"} & batch.keys()
                await has_uploaded(writer, insert("a", 4))
                assert ids(await hears(client, "operation-batch")) == ["a/4"]
                assert client.heard_binary


class TestErrors:
    """What goes wrong is said in the same form."""

    async def test_a_second_handshake(self) -> None:
        async with running_server() as host, joined(host.url, "a", binary=True) as client:
            assert (await client.shake_hands("a"))["code"] == "DUPLICATE_HANDSHAKE"
            assert client.heard_binary
            await has_uploaded(client, insert("a", 1))

    async def test_a_batch_before_the_handshake(self) -> None:
        async with running_server() as host, connected(host.url, binary=True) as client:
            await client.upload(insert("a", 1))
            assert (await client.hear())["code"] == "HANDSHAKE_REQUIRED"
            assert client.heard_binary
            assert (await client.closed()).code == 4002

    async def test_a_batch_of_too_many(self) -> None:
        options = ServerOptions(uploads=UploadLimits(max_operations_per_batch=2))
        async with running_server(options=options) as host, joined(host.url, "a", binary=True) as client:
            await client.upload(*inserts("a", 1, 3))
            assert (await client.hear())["code"] == "BATCH_TOO_LARGE"
            assert (await client.closed()).code == 4002
            assert host.server.get_status().total_operations == 0

    async def test_a_refused_operation_costs_the_others_nothing(self) -> None:
        options = ServerOptions(uploads=UploadLimits(max_operation_bytes=2_000))
        async with running_server(options=options) as host, joined(host.url, "a", binary=True) as client:
            large, odd = insert("a", 2, text="x" * 2_000), insert("a", 3) | {"schemaVersion": 0}
            await client.upload(insert("a", 1), large, odd, insert("a", 4))
            refused = [await hears(client, "operation-rejected") for _ in range(2)]
            assert {(one["operationId"], one["code"]) for one in refused} == {
                ("a/2", "OPERATION_TOO_LARGE"),
                ("a/3", "INVALID_OPERATION"),
            }
            assert (await hears(client, "acknowledgment"))["lastSequenceNumber"] == 4
            assert client.heard_binary
            assert host.server.get_status().total_operations == 2

    async def test_an_envelope_inside_out(self) -> None:
        async with running_server() as host, joined(host.url, "a", binary=True) as client:
            await client.say_text(chunk(1, b"handshake")[:-1])
            assert (await client.hear())["code"] == "MALFORMED_MESSAGE"
            assert client.heard_binary
            assert (await client.closed()).code == 4002


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "kora.db")


@asynccontextmanager
async def mixed_room(store: Store | None = None) -> AsyncIterator[tuple[Host, Client, Client]]:
    """A server, a client that speaks JSON, and one that speaks protobuf."""
    async with (
        running_server(store) as host,
        joined(host.url, "text") as text,
        joined(host.url, "binary", binary=True) as binary,
    ):
        yield host, text, binary


def of_every_kind(node_id: str) -> list[dict[str, Any]]:
    """Operations with everything in them that travels inside of the data in one form and beside them in the other."""
    first = insert(node_id, 1, note="ü世🚀\u2028", nothing=None, nested={"a": [1, 2.5, {"b": []}]})
    return [
        first,
        insert(node_id, 2)
        | {
            "type": "update",
            "data": {"count": 5},
            "previousData": {"count": 2},
            "atomicOps": {"count": {"type": "increment", "value": 3}},
            "causalDeps": [first["id"]],
        },
        insert(node_id, 3) | {"transactionId": "tx", "mutationName": "make"},
        insert(node_id, 4) | {"type": "delete", "data": None, "transactionId": "tx", "mutationName": "drop"},
        insert(node_id, 5, blob={"__kora_bytes__": "AAEC/w=="}),
        insert(node_id, 6, half="\ud800"),
    ]


class TestMixedRoom:
    """Nobody can tell what the others speak."""

    async def test_operations_are_relayed_both_ways_unchanged(self, store: Store) -> None:
        async with mixed_room(store) as (host, text, binary):
            for author, other, name in ((text, binary, "text"), (binary, text, "binary")):
                operations = of_every_kind(name)
                await has_uploaded(author, *operations)
                heard = await other.download()
                assert [operation for batch in heard for operation in batch["operations"]] == operations
                assert other.heard_binary is other.binary
            everything = of_every_kind("text") + of_every_kind("binary")
            for late_binary in (False, True):
                async with connected(host.url, binary=late_binary) as late:
                    await late.shake_hands("late")
                    found = [operation for batch in await late.download() for operation in batch["operations"]]
                    assert [one["data"] for one in found] == [one["data"] for one in everything]
                    assert late.heard_binary is late_binary

    async def test_numbers_that_have_no_place_in_protobuf_keep_nobody_from_the_rest(self) -> None:
        async with mixed_room() as (_, text, binary):
            await has_uploaded(text, insert("text", 1) | {"schemaVersion": 2**40}, insert("text", 2))
            [batch] = await binary.download()
            assert ids(batch) == ["text/1", "text/2"]

    async def test_presence_reaches_a_client_of_protobuf_as_text(self) -> None:
        async with mixed_room() as (_, text, binary):
            mine = {"user": {"name": "B", "color": "#fff"}}
            binary.binary = False
            await binary.say({"type": "awareness-update", "clientId": 1, "states": {"1": mine}})
            binary.binary = True
            await has_uploaded(binary)
            await text.say({"type": "awareness-update", "clientId": 2, "states": {"2": mine}})
            assert (await hears(text, "awareness-update"))["states"] == {"1": mine}
            assert (await hears(binary, "awareness-update"))["states"] == {"2": mine}
            assert not binary.heard_binary

    async def test_document_updates_reach_it_as_text_unless_it_knows_nothing_but_protobuf(self) -> None:
        async with mixed_room() as (host, text, binary), joined(host.url, "changed") as changed:
            changed.binary = True
            await has_uploaded(changed)
            update = {"collection": "todos", "recordId": "r", "field": "body", "update": "AAA="}
            await text.say({"type": "yjs-doc-update", **update})
            heard = await hears(changed, "yjs-doc-update")
            assert heard | update == heard
            assert not changed.heard_binary
            await has_uploaded(text, insert("text", 1))
            assert ids(await hears(binary, "operation-batch")) == ["text/1"]

    async def test_what_is_left_of_them_in_an_envelope_is_passed_over(self) -> None:
        async with mixed_room() as (host, text, binary):
            await binary.say({"type": "awareness-update"})
            await binary.say({"type": "yjs-doc-update"})
            await has_uploaded(binary, insert("binary", 1))
            assert ids(await hears(text, "operation-batch")) == ["binary/1"]
            assert host.server.awareness.get_states() == {}

    @pytest.mark.parametrize("asks_binary", [False, True])
    async def test_blobs_cross_over(self, asks_binary: bool) -> None:
        content = base64.b64encode(BYTES).decode()
        async with mixed_room() as (host, text, binary):
            async with joined(host.url, "third", binary=asks_binary) as third:
                await third.say({"type": "blob-chunk-request", "requestId": "mine", "hash": HASH})
                questions = [await hears(client, "blob-chunk-request") for client in (text, binary)]
                assert (text.heard_binary, binary.heard_binary) == (False, True)
                assert [one["hash"] for one in questions] == [HASH, HASH]
                without, holder = (text, binary) if not asks_binary else (binary, text)
                answer = {"type": "blob-chunk-response", "requestId": questions[0]["requestId"]}
                await without.say(answer | {"bytes": None})
                await holder.say(answer | {"bytes": content})
                heard = await hears(third, "blob-chunk-response")
                assert (heard["requestId"], heard["bytes"]) == ("mine", content)
                assert third.heard_binary is asks_binary
