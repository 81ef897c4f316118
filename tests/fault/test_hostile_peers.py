"""Peers that mean harm, beside two that only want to sync. One peer's trouble is never another's."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio

from kora_daemon.auth.contract import AuthContext
from kora_daemon.http.listener import ListenerOptions
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server.framing import MOST_SMALL_FRAGMENTS
from kora_daemon.server.sync_server import ServerOptions
from tests.support.lean_device import UPGRADE
from tests.support.network import PATIENCE_S, Client, Closed, Host, connected, eventually, running_server, streaming
from tests.support.operations import wire_operation

HANDSHAKE = {
    "type": "handshake",
    "messageId": "m",
    "nodeId": "mallory",
    "versionVector": {},
    "schemaVersion": 1,
    "lastDeliverySequence": 0,
}
JUNK = (None, True, -1, 1.5, 10**400, "", "x" * 10_000, "\ud800", [], [1], {}, {"a": {"b": 1}})


@asynccontextmanager
async def two_who_sync(host: Host) -> AsyncIterator[None]:
    """Two devices that sync before, and still do after, whatever happens inside the block."""
    async with streaming(host.url, "alice") as alice, streaming(host.url, "bob") as bob:
        for number in (1, 2):
            marker = f"alice:{number}:{random.random()}"
            message_id = await alice.upload(wire_operation(number, id=marker, nodeId="alice"))
            assert await _answers(alice, message_id) == []
            heard: list[str] = []
            while marker not in heard:
                heard = [one["id"] for one in (await _batch(bob))["operations"]]
            if number == 1:
                yield


async def _answers(client: Client, message_id: str) -> list[str]:
    """The types of what a client hears until its upload is acknowledged, downloads apart."""
    types: list[str] = []
    while True:
        message = await client.hear()
        if message["type"] == "operation-batch":
            await client.acknowledge(message)
        elif message["type"] == "acknowledgment":
            assert message["acknowledgedMessageId"] == message_id
            return types
        else:
            types.append(message["type"])


async def _batch(client: Client) -> dict[str, Any]:
    while True:
        message = await client.hear()
        if message["type"] == "operation-batch":
            await client.acknowledge(message)
            return message


async def _raw(host: Host, data: bytes) -> bytes:
    """Say `data` on a bare connection; what came back until the server had enough, or nothing more comes."""
    heard = b""
    async with await trio.open_tcp_stream("127.0.0.1", host.port) as stream:
        with trio.move_on_after(2):
            await stream.send_all(data)
            await stream.send_eof()
            async for piece in stream:
                heard += piece
                if len(heard) > 1_000_000:
                    break
    return heard


@pytest.mark.parametrize("seed", range(20))
async def test_random_bytes_in_place_of_http_or_frames(seed: int) -> None:
    noise = random.Random(seed)
    async with running_server() as host, two_who_sync(host):
        await _raw(host, noise.randbytes(noise.randint(1, 5_000)))
        await _raw(host, UPGRADE + noise.randbytes(noise.randint(1, 5_000)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "5",
        '"handshake"',
        "{}",
        '{"type":5}',
        '{"type":"handshake"}',
        '{"type":"handshake","messageId":"m"',
        "[" * 100_000 + "]" * 100_000,
        '{"type":"handshake","messageId":"m","x":' + "[" * 50_000 + "]" * 50_000 + "}",
        json.dumps({**HANDSHAKE, "nodeId": ""}),
        json.dumps({**HANDSHAKE, "nodeId": "\ud800"}),
        '{"type":"handshake","messageId":"m","schemaVersion":' + "9" * 5_000 + "}",
        b"\x00\x01\x02",
    ],
    ids=lambda text: repr(text[:30]),
)
async def test_a_frame_that_is_no_handshake_ends_its_own_connection_only(text: str | bytes) -> None:
    async with running_server() as host, two_who_sync(host), connected(host.url) as mallory:
        await mallory.say_text(text)
        error = await mallory.hear()
        assert error["type"] == "error"
        assert error["retriable"] is False
        assert (await mallory.closed()).code == 4002


@pytest.mark.parametrize(
    "field",
    [
        "versionVector",
        "syncScope",
        "syncQueries",
        "deltaCursor",
        "lastDeliverySequence",
        "authToken",
        "supportedWireFormats",
        "schemaVersion",
        "nodeId",
        "messageId",
    ],
)
async def test_wrong_types_in_every_field_of_the_handshake(field: str) -> None:
    options = ServerOptions(refusal_delay=0.01)  # all junk is the same bad token
    async with running_server(options=options) as host, two_who_sync(host):
        for junk in JUNK:
            async with connected(host.url) as mallory:
                await mallory.say_text(json.dumps({**HANDSHAKE, field: junk}))
                try:
                    assert (await mallory.hear())["type"] in ("handshake-response", "error")
                except Closed as closed:
                    assert closed.code in (1000, 4001, 4002)  # noqa: PT017


@pytest.mark.parametrize("field", sorted(wire_operation()))
async def test_wrong_types_in_every_field_of_an_operation(field: str) -> None:
    async with running_server() as host, two_who_sync(host), streaming(host.url, "mallory") as mallory:
        for number, junk in enumerate(JUNK, 1):
            good = wire_operation(number, id=f"good-{number}", nodeId="mallory")
            message_id = await mallory.upload({**wire_operation(900 + number), field: junk}, good)
            assert await _answers(mallory, message_id) in ([], ["operation-rejected"])


@pytest.mark.parametrize(
    "kind",
    [
        "operation-batch",
        "acknowledgment",
        "error",
        "awareness-update",
        "yjs-doc-update",
        "blob-chunk-request",
        "blob-chunk-response",
        "blob-chunk-push",
    ],
)
async def test_nothing_is_handled_before_a_handshake(kind: str) -> None:
    message = {
        "type": kind, "messageId": "m", "operations": [wire_operation()], "isFinal": True, "batchIndex": 0,
        "acknowledgedMessageId": "x", "lastSequenceNumber": 1, "code": "x", "message": "x", "retriable": True,
        "clientId": 1, "states": {"1": {"user": {}}}, "collection": "todos", "recordId": "r", "field": "f",
        "update": "", "requestId": "r", "hash": "h", "bytes": "",
    }  # fmt: skip
    async with running_server() as host, two_who_sync(host), connected(host.url) as mallory:
        await mallory.say_text(json.dumps(message))
        assert (await mallory.hear())["code"] == "HANDSHAKE_REQUIRED"
        assert (await mallory.closed()).code == 4002
        assert host.server.get_status().total_operations == 1


async def test_a_batch_of_countless_nothings_is_not_looked_into() -> None:
    batch = '{"type":"operation-batch","messageId":"m","isFinal":true,"batchIndex":0,"operations":[' + "{}," * 300_000
    async with running_server() as host, two_who_sync(host), connected(host.url) as mallory:
        await mallory.say_text(batch + "{}]}")
        assert (await mallory.hear())["code"] == "BATCH_TOO_LARGE"
        assert (await mallory.closed()).code == 4002


async def test_names_that_would_bloat_everybodys_version_vector_are_refused() -> None:
    async with running_server() as host, two_who_sync(host), streaming(host.url, "mallory") as mallory:
        message_id = await mallory.upload(wire_operation(1, nodeId="n" * 200_000))
        assert await _answers(mallory, message_id) == ["operation-rejected"]
    async with running_server() as host, connected(host.url) as mallory:
        await mallory.say_text(json.dumps({**HANDSHAKE, "nodeId": "n" * 200_000}))
        assert (await mallory.hear())["code"] == "MALFORMED_MESSAGE"


async def test_those_who_were_refused_take_no_place() -> None:
    async with running_server(options=ServerOptions(max_connections=1)) as host:
        async with streaming(host.url, "alice"), connected(host.url) as second, connected(host.url) as third:
            assert (await second.closed()).code == 4029
            assert (await third.closed()).code == 4029
        async with streaming(host.url, "bob"):
            pass


async def test_a_provider_that_grants_nothing_lets_people_in_and_shows_them_nothing() -> None:
    class Scoped:
        async def authenticate(self, token: str) -> AuthContext:
            del token
            return AuthContext("ali", scopes={})

    async with running_server(auth=Scoped()) as host, connected(host.url) as client:
        assert (await client.shake_hands())["acceptedScope"] == {}
        assert [batch["operations"] for batch in await client.download()] == [[]]


async def test_nothing_is_handled_behind_a_refusal() -> None:
    async with running_server() as host, two_who_sync(host), connected(host.url) as mallory:
        await mallory.say_text("garbage")
        await mallory.say_text(json.dumps(HANDSHAKE))
        await mallory.upload(wire_operation(5))
        assert (await mallory.hear())["code"] == "MALFORMED_MESSAGE"
        assert (await mallory.closed()).code == 4002
        assert host.server.get_status().total_operations == 1


async def test_peers_that_say_nothing_are_closed_in_time_and_stop_nobody() -> None:
    options = ServerOptions(handshake_timeout=0.5)
    async with running_server(options=options) as host, two_who_sync(host), connected(host.url) as silent:
        assert (await silent.closed()).code == 4008


async def test_a_message_that_announces_more_than_the_limit_is_not_even_read() -> None:
    listening = ListenerOptions(port=0, max_message_bytes=100_000)
    async with running_server(listening=listening) as host, two_who_sync(host):
        heard = await _raw(host, UPGRADE + b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"mask" + b"x" * 1_000)
        assert b"\x03\xf1" in heard  # close 1009
        await eventually(lambda: host.server.measures.closes.by_name == {"1009": 1})


OFFER = UPGRADE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"


def _deflated(payload: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


BOMB = _deflated(b" " * (32 << 20))


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        pytest.param(b"\xc1\xfe" + len(BOMB).to_bytes(2, "big") + bytes(4) + BOMB, 1009, id="a bomb"),
        pytest.param(b"\xc1\x85\0\0\0\0" + b"\xff" * 5, 1007, id="garbage"),
        pytest.param(b"\xc9\x81\0\0\0\0x", 1002, id="a compressed ping"),
        pytest.param(b"\x01\x81\0\0\0\0x\xc0\x81\0\0\0\0x", 1002, id="compressed later on"),
        pytest.param(b"\xe1\x81\0\0\0\0x", 1002, id="an extension that nobody knows"),
    ],
)
async def test_compressed_nonsense_is_refused_by_its_code(frame: bytes, code: int) -> None:
    async with running_server() as host, two_who_sync(host):
        heard = await _raw(host, OFFER + frame)
        assert b"permessage-deflate" in heard
        assert b"\x88" in heard
        assert code.to_bytes(2, "big") in heard
        await eventually(lambda: host.server.measures.closes.by_name == {str(code): 1})


async def test_what_is_compressed_without_an_agreement_is_refused() -> None:
    async with running_server() as host, two_who_sync(host):
        heard = await _raw(host, UPGRADE + b"\xc1\x81\0\0\0\0\0")
        assert b"\x03\xea" in heard  # close 1002


async def test_a_message_in_a_thousand_compressed_crumbs_is_none() -> None:
    data = _deflated(json.dumps({**HANDSHAKE, "padding": random.randbytes(20_000).hex()}).encode())
    crumbs = [data[index : index + 1] for index in range(MOST_SMALL_FRAGMENTS + 100)]
    later = b"".join(bytes([0, 0x80 | len(crumb)]) + bytes(4) + crumb for crumb in crumbs)
    async with running_server() as host, two_who_sync(host):
        async with await trio.open_tcp_stream("127.0.0.1", host.port) as stream:
            heard = bytearray()
            with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):  # it may close while we write
                await stream.send_all(OFFER + b"\x41\x80" + bytes(4) + later)
                while chunk := await stream.receive_some():
                    heard += chunk
            assert b"\x03\xf0a message comes in fewer" in heard  # 1008


async def test_a_flood_of_operations_is_slowed_down_and_then_refused_without_loss() -> None:
    options = ServerOptions(uploads=UploadLimits(max_operations_per_minute=60))
    # Who is not read is not said goodbye to, either.
    with trio.CancelScope() as at_the_end:
        async with running_server(options=options) as host, streaming(host.url, "mallory") as mallory:
            accepted = [wire_operation(n, nodeId="mallory") for n in range(1, 101)]
            await mallory.upload(*accepted)
            assert (await mallory.hear())["type"] == "acknowledgment"
            await mallory.upload(wire_operation(101, nodeId="mallory"))
            assert await mallory.hears_nothing(0.5), "the session should not be read now"
            assert host.server.get_status().total_operations == 100
            at_the_end.cancel()
    assert at_the_end.cancelled_caught


async def test_five_hundred_peers_that_never_finish_their_request() -> None:
    async with running_server() as host, two_who_sync(host):
        async with trio.open_nursery() as nursery:
            half_open = [await trio.open_tcp_stream("127.0.0.1", host.port) for _ in range(500)]
            for stream in half_open:
                nursery.start_soon(stream.send_all, UPGRADE[:40])
        for stream in half_open:
            await stream.aclose()
