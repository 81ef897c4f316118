"""permessage-deflate over real sockets, with wsproto's client: what is compressed, how often, and for whom."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from kora_daemon.http.listener import ListenerOptions
from kora_daemon.server import framing
from kora_daemon.server.deflate import Compression
from kora_daemon.store.memory import MemoryStore
from tests.support.deflating import DeflatingSocket, deflating
from tests.support.devices import ids, inserts, seed
from tests.support.network import PATIENCE_S, Client, eventually, running_server, streaming
from tests.support.process import Daemon


@asynccontextmanager
async def following(port: int, node_id: str) -> AsyncIterator[tuple[Client, DeflatingSocket]]:
    """A device that inflates, past its first download."""
    async with deflating(port) as (client, socket):
        assert (await client.shake_hands(node_id))["accepted"] is True
        await client.download()
        socket.extension.heard.clear()
        yield client, socket


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the payloads that are compressed from now on."""
    sizes: list[int] = []
    deflate = framing.deflate

    def noted(payload: bytes) -> bytes | None:
        sizes.append(len(payload))
        return deflate(payload)

    monkeypatch.setattr(framing, "deflate", noted)
    return sizes


async def test_a_device_downloads_compressed_batches_and_uploads_them() -> None:
    store = MemoryStore()
    seed(store, inserts("old", 1, 150))
    async with running_server(store) as host, deflating(host.port) as (client, socket):
        await client.shake_hands("new")
        batches = await client.download()
        assert ids(*batches) == [f"old/{number}" for number in range(1, 151)]
        [(greeting, _), *heard] = socket.extension.heard
        assert not greeting, "the answer to a handshake is smaller than 1 KiB"
        assert [is_compressed for is_compressed, _ in heard] == [True] * len(batches)
        assert sum(size for _, size in heard) < len(json.dumps(batches)) / 3

        await client.upload(*inserts("new", 1, 100))
        assert (await client.hear())["type"] == "acknowledgment"
        async with streaming(host.url, "reader", watermark=150) as reader:
            await client.upload(*inserts("new", 101, 102))
            assert ids(await reader.hear()) == ["new/101", "new/102"]


@pytest.mark.parametrize("fragments", [2, 300])
async def test_an_upload_may_come_in_compressed_fragments(fragments: int) -> None:
    async with running_server() as host, following(host.port, "a") as (client, socket):
        batch = {"type": "operation-batch", "messageId": "u", "operations": inserts("a", 1, 20), "isFinal": True}
        await socket.send_message(json.dumps({**batch, "batchIndex": 0}), fragments)
        assert (await client.hear())["acknowledgedMessageId"] == "u"
        assert host.server.get_status().total_operations == 20


async def test_what_many_devices_hear_is_compressed_once(compressed: list[int]) -> None:
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(running_server())
        writer = await stack.enter_async_context(streaming(host.url, "writer"))
        plain = await stack.enter_async_context(streaming(host.url, "plain"))
        inflating = [await stack.enter_async_context(following(host.port, f"device-{n}")) for n in range(5)]
        await writer.upload(*inserts("writer", 1, 30))
        heard = await plain.hear()
        assert len(heard["operations"]) == 30
        for client, socket in inflating:
            assert await client.hear() == heard, "one plan, one frame, down to the message id"
            [(is_compressed, size)] = socket.extension.heard
            assert is_compressed
            assert size < compressed[0] / 3
        assert len(compressed) == 1


async def test_nobody_who_inflates_is_nobody_to_compress_for(compressed: list[int]) -> None:
    async with running_server() as host, streaming(host.url, "a") as a, streaming(host.url, "b") as b:
        await a.upload(*inserts("a", 1, 30))
        assert len((await b.hear())["operations"]) == 30
    assert compressed == []


async def test_small_messages_are_left_alone(compressed: list[int]) -> None:
    listening = ListenerOptions(port=0, compression=Compression(min_bytes=3_000))
    async with running_server(listening=listening) as host, streaming(host.url, "writer") as writer:
        async with following(host.port, "reader") as (client, socket):
            await writer.upload(*inserts("writer", 1, 2))
            assert ids(await client.hear()) == ["writer/1", "writer/2"]
            assert [is_compressed for is_compressed, _ in socket.extension.heard] == [False]
            await writer.upload(*inserts("writer", 3, 32))
            assert len((await client.hear())["operations"]) == 30
            assert [is_compressed for is_compressed, _ in socket.extension.heard] == [False, True]
    assert len(compressed) == 1


@pytest.mark.parametrize("parameters", [{"server_max_window_bits": 12}, {"server_max_window_bits": 9}])
async def test_an_offer_that_does_not_suit_leaves_a_plain_connection(
    parameters: dict[str, int], compressed: list[int]
) -> None:
    async with running_server() as host, streaming(host.url, "writer") as writer:
        async with deflating(host.port, **parameters) as (client, socket):
            assert socket.accepted is not None
            assert socket.accepted.extensions == []
            await client.shake_hands("reader")
            await client.download()
            await writer.upload(*inserts("writer", 1, 30))
            assert len((await client.hear())["operations"]) == 30
    assert compressed == []


async def test_switched_off_at_a_reload_it_stays_on_for_those_who_have_it(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        async with following(daemon.port, "before") as (client, socket), AsyncExitStack() as stack:
            daemon.config.write_text('[server]\nhost = "127.0.0.1"\nport = 0\ncompression = false\n')
            daemon.signal(signal.SIGHUP)
            await eventually(lambda: "daemon.reloaded" in daemon.logged())
            writer, after = await stack.enter_async_context(deflating(daemon.port))
            assert after.accepted is not None
            assert after.accepted.extensions == []
            await writer.shake_hands("writer")
            await writer.download()
            await writer.upload(*inserts("writer", 1, 30))
            assert len((await client.hear())["operations"]) == 30
            assert [is_compressed for is_compressed, _ in socket.extension.heard] == [True]


async def test_a_browsers_offer_is_answered_with_what_browsers_accept() -> None:
    request = (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
    async with running_server() as host, await trio.open_tcp_stream("127.0.0.1", host.port) as stream:
        await stream.send_all(request)
        head = b""
        with trio.fail_after(PATIENCE_S):
            while b"\r\n\r\n" not in head:
                head += await stream.receive_some()
        answer = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        assert b"\r\nSec-WebSocket-Extensions: " + answer + b"\r\n" in head


async def test_two_devices_behind_each_other_both_inflate(compressed: list[int]) -> None:
    async with running_server() as host, following(host.port, "a") as (a, _), following(host.port, "b") as (b, _):
        for first in (1, 31, 61):
            await a.upload(*inserts("a", first, first + 29))
            with trio.fail_after(PATIENCE_S):
                batch = await b.hear()
            await b.acknowledge(batch)
            assert len(batch["operations"]) == 30
            assert (await a.hear())["type"] == "acknowledgment"
    assert len(compressed) == 3
