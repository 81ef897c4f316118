"""What costs a peer little to send, and would cost the daemon a lot: memory, time of the one event loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.server.luggage import MOST_BYTES
from kora_daemon.server.options import ServerOptions
from kora_daemon.store.sqlite import SqliteStore
from kora_daemon.wire.lenient import MAX_STATES
from tests.support.app import Sent, device
from tests.support.network import Closed, Host, connected, eventually, running_server
from tests.support.polling import Requests
from tests.support.records import schema_of

TRY_AGAIN = 1013


def handshake(devices: int) -> dict[str, Any]:
    vector = {f"device-{number:06}": number for number in range(devices)}
    return {
        "type": "handshake",
        "messageId": "m-1",
        "nodeId": "n",
        "versionVector": vector,
        "schemaVersion": 1,
        "lastDeliverySequence": 0,
    }


async def welcomed(host: Host, devices: int) -> bool:
    """Whether a device that knows so many others gets an answer to its handshake; else it is to come again."""
    async with connected(host.url) as client:
        try:
            await client.say(handshake(devices))
            answer = await client.hear()
        except Closed as closed:
            if closed.code == TRY_AGAIN:
                return False
            raise
        return bool(answer["accepted"])


async def test_strangers_hold_only_so_much_memory_together() -> None:
    async with running_server() as host:
        others = host.server.luggage()
        assert others.fits(MOST_BYTES)
        assert not await welcomed(host, 10_000)
        assert await welcomed(host, 1_000)
        others.leave()
        assert await welcomed(host, 10_000)


async def test_an_unfinished_handshake_counts_as_well() -> None:
    async with running_server() as host:
        others = host.server.luggage()
        assert others.fits(MOST_BYTES)
        async with connected(host.url) as client:
            raw = client._websocket._stream
            await raw.send_all(b"\x81\xff\0\0\0\0\0\x30\0\0\0\0\0\0" + b" " * 100_000)
            assert (await client.closed()).code == TRY_AGAIN


async def test_who_is_known_or_gone_takes_nothing_from_strangers() -> None:
    async with running_server() as host:
        others = host.server.luggage()
        async with connected(host.url) as client:
            await client.say(handshake(10_000))
            assert (await client.hear())["accepted"]
            assert others.fits(MOST_BYTES)
            others.leave()
        async with connected(host.url) as client:
            await client.say({**handshake(10_000), "versionVector": {}, "authToken": ["x"] * 100_000, "nodeId": 5})
            await client.closed()
        await eventually(lambda: others.fits(MOST_BYTES))


async def test_a_device_that_polls_brings_as_little() -> None:
    async with running_server() as host:
        others = host.server.luggage()
        assert others.fits(MOST_BYTES)
        url = f"http://127.0.0.1:{host.port}/?clientId="
        assert (await Requests(f"{url}a").post(json.dumps(handshake(10_000)))).status == 503
        assert (await Requests(f"{url}b").post(json.dumps(handshake(1_000)))).status == 202
        others.leave()
        assert (await Requests(f"{url}c").post(json.dumps(handshake(10_000)))).status == 202
        await eventually(lambda: others.fits(MOST_BYTES))


async def test_states_without_number_are_not_looked_at_one_by_one() -> None:
    async with running_server() as host, connected(host.url) as client:
        states = {str(number): number for number in range(MAX_STATES + 1)}
        await client.say({"type": "awareness-update", "clientId": "no number", "states": states})
        assert "at most" in (await client.hear())["message"]


@pytest.mark.parametrize("way", ["new fields", "append"])
async def test_a_record_does_not_grow_for_ever(way: str) -> None:
    """Whatever is written to a record costs as much as it is large, in the transaction that all wait for."""
    rules = ApplyRules(schema_of(1, todos={"tags": "array", "title": "string"}), max_record_bytes=10_000)
    options = ServerOptions(apply=rules)
    async with running_server(options=options) as host, device(host.url, "a") as peer:

        def grown(number: int) -> Sent:
            text = "x" * 1_000
            if way == "append":
                intent = {"tags": {"type": "append", "value": text}}
                return peer.write("update", "todos", "t", {"tags": ["short"]}, atomicOps=intent)
            return peer.update("todos", "t", **{f"field{number}": text})

        assert await peer.send(peer.insert("todos", "t", tags=[])) == []
        told = await peer.send(*map(grown, range(50)))
        assert {one["code"] for one in told} == {"OPERATION_TOO_LARGE"}
        assert 40 <= len(told) < 45
        (one,) = await peer.send(grown(50))
        assert one["code"] == "OPERATION_TOO_LARGE"
        assert await peer.send(peer.update("todos", "t", title="short")) == []
        assert await peer.send(peer.delete("todos", "t"), peer.insert("todos", "t", tags=[]), grown(51)) == []


async def test_a_record_that_is_too_large_already_can_become_smaller(tmp_path: Path) -> None:
    schema = schema_of(1, todos={"title": "string", "text": "string"})
    generous, strict = ApplyRules(schema), ApplyRules(schema, max_record_bytes=1_000)
    async with running_server(SqliteStore(tmp_path / "kora.db"), options=ServerOptions(apply=generous)) as host:
        async with device(host.url, "a") as peer:
            await peer.takes(peer.insert("todos", "t", title="x" * 5_000, text="y" * 5_000))
    async with running_server(SqliteStore(tmp_path / "kora.db"), options=ServerOptions(apply=strict)) as host:
        async with device(host.url, "b") as peer:
            await peer.takes(peer.update("todos", "t", text="y" * 4_000))
            await peer.takes(peer.update("todos", "t", text="z" * 4_000))
            assert len(await peer.send(peer.update("todos", "t", text="z" * 4_001))) == 1
            await peer.takes(peer.update("todos", "t", text="", title=""), peer.update("todos", "t", text="z" * 900))
