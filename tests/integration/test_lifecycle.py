"""How a server stops and starts again."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path

import apsw
import pytest
import trio

from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server import hub, websocket
from kora_daemon.server.sync_server import ServerOptions, SyncServer
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore
from tests.support.devices import ids, insert, inserts
from tests.support.network import Client, Closed, Host, connected, eventually, running_server, streaming


async def test_a_server_that_stops_acknowledges_what_it_is_writing_before_it_says_goodbye(tmp_path: Path) -> None:
    path = tmp_path / "kora.db"
    async with running_server(SqliteStore(path)) as host, streaming(host.url, "a") as a:
        lock = apsw.Connection(str(path))
        lock.execute("BEGIN IMMEDIATE")
        sent = await a.upload(insert("a", 1))
        await a.was_heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.server.stop)
            assert await a.hears_nothing()
            lock.execute("ROLLBACK")
            lock.close()
            assert (await a.hear())["acknowledgedMessageId"] == sent
            closed = await a.closed()
            assert closed.code == 1001
    async with running_server(SqliteStore(path)) as host:
        assert host.server.get_status().total_operations == 1


async def test_a_server_that_stops_hears_the_goodbye_of_a_device_that_goes_on_uploading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 60)
    async with running_server() as host, streaming(host.url, "a") as a, trio.open_nursery() as nursery:
        nursery.start_soon(upload_until_closed, a)
        for _ in range(10):
            await a.hear()
        nursery.start_soon(stop_in_time, host)
        assert (await a.closed()).code == 1001


async def test_a_server_that_stops_does_not_wait_for_a_device_over_its_rate_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 60)
    options = ServerOptions(uploads=UploadLimits(max_operations_per_minute=1))
    async with running_server(options=options) as host, streaming(host.url, "a") as a:
        await a.upload(*inserts("a", 1, 10))
        assert (await a.hear())["type"] == "acknowledgment"
        await a.upload(insert("a", 11))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_in_time, host)
            assert (await a.closed()).code == 1001


async def stop_in_time(host: Host) -> None:
    # Well within the grace, at the end of which sessions are cut off.
    with trio.fail_after(ServerOptions().shutdown_grace / 2):
        await host.server.stop()


async def upload_until_closed(client: Client) -> None:
    with suppress(Closed):
        for number in count(1):
            await client.upload(insert("a", number))


async def test_sessions_are_sent_away_one_after_the_other_and_go_on_as_ever_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "FAREWELLS_PER_S", 2)
    monkeypatch.setattr("random.shuffle", lambda peers: None)
    async with running_server() as host, streaming(host.url, "a") as a, streaming(host.url, "b") as b:
        async with streaming(host.url, "c") as c, trio.open_nursery() as nursery:
            nursery.start_soon(host.server.stop)
            assert (await a.closed()).code == 1001
            assert host.server.draining
            await c.upload(insert("c", 1))
            assert (await c.hear())["type"] == "acknowledgment"
            assert ids(await b.hear()) == ["c/1"]
            assert [(await one.closed()).code for one in (b, c)] == [1001, 1001]


async def test_who_comes_in_while_the_server_stops_hears_goodbye_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "FAREWELLS_PER_S", 2)
    async with running_server() as host, streaming(host.url, "a") as a, streaming(host.url, "b") as b:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_in_time, host)
            await eventually(lambda: host.server.draining)
            async with connected(host.url) as late:
                assert (await late.closed()).code == 1001
            assert [(await one.closed()).code for one in (a, b)] == [1001, 1001]


async def test_everything_survives_a_restart_on_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "kora.db"
    async with running_server(SqliteStore(path)) as host, streaming(host.url, "a") as a:
        await a.upload(*inserts("a", 1, 3))
        assert (await a.hear())["type"] == "acknowledgment"
        node_id = host.server.get_status().node_id
    async with running_server(SqliteStore(path)) as host, connected(host.url) as b:
        response = await b.shake_hands("b", 0, versionVector={"a": 0})
        assert response["nodeId"] == node_id
        assert response["versionVector"] == {"a": 3}
        assert response["serverMaxDeliverySequence"] == 3
        assert ids(*await b.download()) == ["a/1", "a/2", "a/3"]
        await b.upload(insert("b", 1))
        await b.hear()
        assert host.server.get_status().frontier == 4


class Nobody:
    """A provider that refuses everybody, and tells when it was asked."""

    def __init__(self) -> None:
        self.asked = trio.Event()

    async def authenticate(self, token: str) -> None:
        """Refuse."""
        del token
        self.asked.set()


async def test_a_refusal_that_is_held_back_does_not_hold_up_the_shutdown() -> None:
    nobody = Nobody()
    options = ServerOptions(refusal_delay=30.0)
    async with running_server(auth=nobody, options=options) as host, connected(host.url) as client:
        await client.say({"type": "handshake", "nodeId": "a", "versionVector": {}, "schemaVersion": 1})
        await nobody.asked.wait()
        with trio.fail_after(5):
            await host.server.stop()
        assert (await client.closed()).code == 1001


async def test_a_server_that_never_started_is_stopped_at_once() -> None:
    with trio.fail_after(5):
        await SyncServer(MemoryStore(), NoAuthProvider()).stop()
