"""TLS on the one port, with a certificate for tests."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.http import connection as http
from kora_daemon.http.listener import ListenerOptions, tls_context
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server import websocket
from kora_daemon.server.options import ServerOptions
from tests.support.devices import ids, insert
from tests.support.http import http_client
from tests.support.network import PATIENCE_S, Closed, connected, running_server, streaming

CERTIFICATE = Path(__file__).parents[1] / "unit" / "data" / "tls"
"""A throw-away certificate for 127.0.0.1, and its key."""
NONSENSE: list[dict[str, Any]] = [{"id": "no operation"}] * 1_000
"""Each is answered, at some 250 bytes."""


@pytest.fixture
def listening() -> ListenerOptions:
    tls = tls_context(str(CERTIFICATE / "cert.pem"), str(CERTIFICATE / "key.pem"))
    return ListenerOptions(port=0, tls=tls, max_buffered_bytes=1 << 20)


@pytest.fixture
def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE / "cert.pem"))


async def test_devices_sync_over_tls(listening: ListenerOptions, trusting: ssl.SSLContext) -> None:
    async with running_server(listening=listening) as host:
        url = f"wss://127.0.0.1:{host.port}/"
        async with streaming(url, "a", ssl_context=trusting) as a, streaming(url, "b", ssl_context=trusting) as b:
            for number in range(1, 4):
                await a.upload(insert("a", number, text="x" * 200_000))
                assert (await a.hear())["type"] == "acknowledgment"
                batch = await b.hear()
                assert ids(batch) == [f"a/{number}"]
                await b.acknowledge(batch)


async def test_the_server_says_goodbye_over_tls(listening: ListenerOptions, trusting: ssl.SSLContext) -> None:
    async with (
        running_server(listening=listening) as host,
        connected(f"wss://127.0.0.1:{host.port}/", ssl_context=trusting) as client,
    ):
        await client.say_text("no JSON")
        assert (await client.hear())["code"] == "MALFORMED_MESSAGE"
        assert (await client.closed()).code == 4002


async def test_a_reader_that_stalls_is_closed_over_tls_too(
    listening: ListenerOptions, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", PATIENCE_S)
    options = ServerOptions(uploads=UploadLimits(max_operations_per_minute=0))
    async with (
        running_server(listening=listening, options=options) as host,
        streaming(f"wss://127.0.0.1:{host.port}/", "stalled", ssl_context=trusting) as stalled,
    ):
        with suppress(Closed):
            for _ in range(60):  # more than the kernel keeps for a socket
                await stalled.upload(*NONSENSE)
        assert (await stalled.closed()).code == 4013


async def test_health_answers_over_tls(listening: ListenerOptions, trusting: ssl.SSLContext) -> None:
    async with running_server(listening=listening) as host, http_client(host.port, tls=trusting) as client:
        for _ in range(2):
            assert (await client.ask("/health")).status == 200


async def test_a_peer_without_tls_is_dropped(listening: ListenerOptions, trusting: ssl.SSLContext) -> None:
    async with running_server(listening=listening) as host:
        async with http_client(host.port) as client:
            await client.say(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"HTTP" not in await client.rest()
        async with http_client(host.port, tls=trusting) as client:
            assert (await client.ask("/health")).status == 200


async def test_a_tls_handshake_that_never_comes_is_given_up(
    listening: ListenerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.05)
    async with running_server(listening=listening) as host, http_client(host.port) as client:
        assert await client.rest() == b""
