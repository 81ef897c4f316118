"""A server without a network: connections over whatever transport they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio

from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.server.services import Origin
from kora_daemon.server.sync_server import ServerOptions, SyncServer
from kora_daemon.server.transport import MemoryPeer, MemoryTransport, Receiver, memory_transport
from kora_daemon.store.memory import MemoryStore
from kora_daemon.wire.frame import Frame
from tests.support.devices import ids, insert
from tests.support.network import PATIENCE_S, eventually, nothing_crashes, running_server, streaming
from tests.support.protobuf import from_binary


@asynccontextmanager
async def started(options: ServerOptions | None = None) -> AsyncIterator[tuple[SyncServer, trio.Nursery]]:
    """A server without a listener, and a nursery for its connections."""
    server = SyncServer(MemoryStore(), NoAuthProvider(), options)
    with trio.fail_after(PATIENCE_S), nothing_crashes():
        async with trio.open_nursery() as nursery:
            await server.start(nursery)
            yield server, nursery
            await server.stop()


async def say(peer: MemoryPeer, kind: str, **members: Any) -> None:
    await peer.send(json.dumps({"type": kind, "messageId": f"{kind}-1", **members}))


async def hear(peer: MemoryPeer) -> dict[str, Any]:
    message = json.loads(await peer.receive())
    assert isinstance(message, dict)
    return message


async def shake_hands(peer: MemoryPeer, node_id: str) -> None:
    """Past the handshake and an empty first download."""
    await say(peer, "handshake", nodeId=node_id, versionVector={}, schemaVersion=1, lastDeliverySequence=0)
    assert (await hear(peer))["accepted"] is True
    batch = await hear(peer)
    assert batch["isFinal"] is True
    await acknowledge(peer, batch)


async def acknowledge(peer: MemoryPeer, batch: dict[str, Any]) -> None:
    position = batch["maxDeliverySequence"]
    await say(
        peer,
        "acknowledgment",
        acknowledgedMessageId=batch["messageId"],
        lastSequenceNumber=1,
        deliverySequence=position,
    )


async def upload(peer: MemoryPeer, *operations: dict[str, Any]) -> None:
    await say(peer, "operation-batch", operations=list(operations), isFinal=True, batchIndex=0)


async def test_two_devices_in_the_same_process_sync() -> None:
    async with started() as (server, nursery):
        (to_a, a), (to_b, b) = memory_transport(), memory_transport()
        nursery.start_soon(server.handle_connection, to_a)
        nursery.start_soon(server.handle_connection, to_b, Origin("the other one"))
        await shake_hands(a, "a")
        await shake_hands(b, "b")
        assert server.get_connection_count() == 2
        await upload(a, insert("a", 1))
        assert (await hear(a))["type"] == "acknowledgment"
        assert ids(await hear(b)) == ["a/1"]
        status = server.get_status()
        assert (status.connected_clients, status.total_operations, status.frontier) == (2, 1, 1)
        assert status.store_failure is None


async def test_a_device_in_the_process_meets_one_on_a_socket() -> None:
    async with running_server() as host, streaming(host.url, "b") as b, trio.open_nursery() as nursery:
        transport, a = memory_transport()
        nursery.start_soon(host.server.handle_connection, transport)
        await shake_hands(a, "a")
        await b.upload(insert("b", 1))
        assert ids(await hear(a)) == ["b/1"]
        await upload(a, insert("a", 1))
        assert (await b.hear())["type"] == "acknowledgment"
        assert ids(await b.hear()) == ["a/1"]
        await a.close()


async def test_a_peer_that_vanishes_ends_its_connection() -> None:
    async with started() as (server, _):
        transport, peer = memory_transport()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.handle_connection, transport)
            await shake_hands(peer, "a")
            await peer.close()
        assert server.get_connection_count() == 0


async def test_a_connection_can_be_cancelled_from_outside() -> None:
    async with started() as (server, _):
        transport, peer = memory_transport()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.handle_connection, transport)
            await shake_hands(peer, "a")
            nursery.cancel_scope.cancel()
        assert server.get_connection_count() == 0
        with pytest.raises(trio.EndOfChannel):
            await peer.receive()


async def test_a_malformed_binary_frame_is_answered_in_kind_and_closes() -> None:
    async with started() as (server, _):
        transport, peer = memory_transport()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.handle_connection, transport)
            await peer.send(b"\x0a\x09handshake")
            assert from_binary(await peer.receive())["code"] == "MALFORMED_MESSAGE"
            with pytest.raises(trio.EndOfChannel):
                await peer.receive()
        assert peer.closed_with == (4002, "MALFORMED_MESSAGE")


async def test_a_peer_that_does_not_read_is_closed_and_disturbs_nobody() -> None:
    async with started() as (server, nursery):
        (to_a, a), (to_b, b), (to_stalled, stalled) = memory_transport(), memory_transport(), memory_transport(frames=5)
        for transport in (to_a, to_b, to_stalled):
            nursery.start_soon(server.handle_connection, transport)
        await shake_hands(a, "a")
        await shake_hands(b, "b")
        await shake_hands(stalled, "stalled")
        with suppress(trio.BrokenResourceError):
            for _ in range(10):
                await upload(stalled)
        await say(a, "yjs-doc-update", collection="notes", recordId="r", field="f", update="AA==")
        assert (await hear(b))["update"] == "AA=="
        await eventually(lambda: server.get_connection_count() == 2)
        assert stalled.closed_with == (4013, "too much unread")


class Lingering(MemoryTransport):
    """Takes its time to close."""

    async def close(self, code: int, reason: str) -> None:
        await trio.sleep(0.3)
        await super().close(code, reason)


async def test_a_peer_that_is_being_closed_hears_of_nothing_any_more() -> None:
    async with started() as (server, nursery):
        to_a, a = memory_transport()
        to_server, from_client = trio.open_memory_channel[Frame](10)
        to_client, from_server = trio.open_memory_channel[Frame](10)
        leaving = Lingering(from_client, to_client)
        b = MemoryPeer(leaving, to_server, from_server)
        for transport in (to_a, leaving):
            nursery.start_soon(server.handle_connection, transport)
        await shake_hands(a, "a")
        await shake_hands(b, "b")
        await b.send("garbage")
        assert (await hear(b))["code"] == "MALFORMED_MESSAGE"
        await say(a, "yjs-doc-update", collection="notes", recordId="r", field="f", update="AA==")
        with pytest.raises(trio.EndOfChannel):
            await hear(b)


async def test_a_server_that_stops_says_goodbye_to_all() -> None:
    async with started() as (server, nursery):
        transport, peer = memory_transport()
        nursery.start_soon(server.handle_connection, transport)
        await shake_hands(peer, "a")
        await upload(peer, insert("a", 1))
        assert (await hear(peer))["type"] == "acknowledgment"
        await server.stop()
        assert peer.closed_with == (1001, "server is shutting down")


async def test_one_connection_more_than_allowed_is_refused() -> None:
    async with started(ServerOptions(max_connections=1)) as (server, nursery):
        (to_a, a), (to_b, b) = memory_transport(), memory_transport()
        nursery.start_soon(server.handle_connection, to_a)
        await shake_hands(a, "a")
        await server.handle_connection(to_b)
        assert (await hear(b))["code"] == "MAX_CONNECTIONS"
        assert b.closed_with == (4029, "max connections reached")


async def test_no_connection_is_handled_before_the_start() -> None:
    server = SyncServer(MemoryStore(), NoAuthProvider())
    transport, _ = memory_transport()
    with pytest.raises(RuntimeError, match="start"):
        await server.handle_connection(transport)


class BrokenTransport(MemoryTransport):
    """A transport with a bug."""

    async def serve(self, receiver: Receiver) -> None:
        receiver.opened()
        raise ZeroDivisionError


async def test_a_transport_that_breaks_takes_only_its_own_connection_down() -> None:
    server = SyncServer(MemoryStore(), NoAuthProvider())
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        transport, peer = memory_transport()
        nursery.start_soon(server.handle_connection, transport)
        await shake_hands(peer, "a")
        (_, from_client), (to_client, _) = trio.open_memory_channel[Frame](0), trio.open_memory_channel[Frame](0)
        await server.handle_connection(BrokenTransport(from_client, to_client))
        assert server.get_connection_count() == 1
        await upload(peer, insert("a", 1))
        assert (await hear(peer))["type"] == "acknowledgment"
        await server.stop()
