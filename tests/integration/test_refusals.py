"""What a server does not put up with, and how it says so."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
import trio

from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.auth.token import StaticTokenProvider
from kora_daemon.http.listener import ListenerOptions
from kora_daemon.server import sweep
from kora_daemon.server.options import ServerOptions
from tests.support.devices import insert
from tests.support.network import Host, connected, eventually, running_server, streaming


async def test_one_connection_more_than_allowed_is_refused_until_another_has_gone() -> None:
    async with running_server(options=ServerOptions(max_connections=1)) as host:
        async with streaming(host.url, "a"), connected(host.url) as refused:
            error = await refused.hear()
            assert (error["code"], error["retriable"]) == ("MAX_CONNECTIONS", True)
            closed = await refused.closed()
            assert (closed.code, closed.reason) == (4029, "max connections reached")
        await eventually(lambda: host.server.get_connection_count() == 0)
        async with streaming(host.url, "b"):
            pass


async def _refused(host: Host, **options: Any) -> bool:
    """Whether one more connection is refused for want of room."""
    async with connected(host.url, **options) as client:
        with trio.move_on_after(0.2) as silence:
            error = await client.hear()
        if silence.cancelled_caught:
            return False
        assert (error["code"], error["retriable"]) == ("MAX_CONNECTIONS", True)
        assert (await client.closed()).code == 4029
        return True


async def test_connections_that_nobody_knows_yet_are_limited_and_those_that_are_known_do_not_count() -> None:
    async with running_server(options=ServerOptions(max_unauthenticated=2)) as host:
        async with streaming(host.url, "a"), streaming(host.url, "b"), streaming(host.url, "c") as c:
            async with connected(host.url), connected(host.url) as idle:
                assert await _refused(host)
                await idle.shake_hands("d")
                assert not await _refused(host)
            await eventually(lambda: host.server.get_connection_count() == 3)
            assert not await _refused(host)
            await c.upload(insert("c", 1))


async def test_connections_that_are_held_back_for_their_bad_token_count_until_they_are_gone() -> None:
    options = ServerOptions(max_unauthenticated=2, refusal_delay=30)
    async with running_server(auth=StaticTokenProvider([]), options=options) as host:
        async with connected(host.url) as one, connected(host.url) as other:
            for client in (one, other):
                await client.say({"type": "handshake", "nodeId": "a", "versionVector": {}, "schemaVersion": 1})
            assert await one.hears_nothing()
            assert await _refused(host)
        await eventually(lambda: host.server.get_connection_count() == 0)
        assert not await _refused(host)


async def test_one_address_does_not_keep_the_others_out() -> None:
    options = ServerOptions(max_unauthenticated_per_address=2)
    listening = ListenerOptions(port=0, trusted_proxies=[ip_network("127.0.0.0/8")])
    crowd = {"extra_headers": [("X-Forwarded-For", "192.0.2.1")]}
    async with running_server(options=options, listening=listening) as host:
        async with connected(host.url, **crowd), connected(host.url, **crowd):
            assert await _refused(host, **crowd)
            assert not await _refused(host, extra_headers=[("X-Forwarded-For", "192.0.2.2")])
            assert not await _refused(host)
            host.server.reconfigure(NoAuthProvider(), ServerOptions(max_unauthenticated_per_address=3))
            assert not await _refused(host, **crowd)


async def test_an_unsupported_schema_version_is_refused_with_the_range() -> None:
    options = ServerOptions(schema_version=3, supported_schema_versions=(2, 3))
    async with running_server(options=options) as host:
        async with connected(host.url) as client:
            response = await client.shake_hands("a", 0, schemaVersion=1)
            assert response["accepted"] is False
            assert response["rejectReason"].startswith("SCHEMA_MISMATCH")
            assert (response["supportedSchemaMin"], response["supportedSchemaMax"]) == (2, 3)
            assert (await client.closed()).code == 1000
        async with connected(host.url) as client:
            assert (await client.shake_hands("a", 0, schemaVersion=2))["accepted"] is True


@pytest.mark.parametrize("frame", ["no JSON at all", "[]", '{"type":"handshake"}', b"\x0a\x09handshake"])
async def test_a_frame_that_is_no_message_is_answered_and_ends_the_connection(frame: str | bytes) -> None:
    async with running_server() as host, connected(host.url) as client:
        await client.say_text(frame)
        error = await client.hear()
        assert (error["type"], error["code"], error["retriable"]) == ("error", "MALFORMED_MESSAGE", False)
        assert (await client.closed()).code == 4002


async def test_a_binary_frame_while_streaming_is_answered_too() -> None:
    async with running_server() as host, streaming(host.url) as client:
        await client.say_text(b"\x0a\x0foperation")
        assert (await client.hear())["code"] == "MALFORMED_MESSAGE"
        assert (await client.closed()).code == 4002


async def test_a_message_of_an_unknown_type_is_passed_over() -> None:
    async with running_server() as host, streaming(host.url, "a") as a:
        await a.say({"type": "heartbeat", "sentAt": 1})
        await a.upload(insert("a", 1))
        assert (await a.hear())["type"] == "acknowledgment"


async def test_a_batch_before_the_handshake_is_refused_and_not_stored() -> None:
    async with running_server() as host, connected(host.url) as client:
        await client.upload(insert("a", 1))
        assert (await client.hear())["code"] == "HANDSHAKE_REQUIRED"
        assert (await client.closed()).code == 4002
        assert host.server.get_status().total_operations == 0


async def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.02)
    async with running_server(options=ServerOptions(handshake_timeout=0.05)) as host, connected(host.url) as client:
        assert (await client.closed()).code == 4008


async def test_a_ping_behind_a_refused_frame_does_not_spoil_the_goodbye() -> None:
    async with running_server() as host:
        for _ in range(20):
            async with connected(host.url) as client, trio.open_nursery() as nursery:
                await client.say_text("no JSON")
                nursery.start_soon(client.was_heard)
                assert (await client.closed()).code == 4002
