"""What a running server tells of itself: status, sessions, readiness; and sessions that are sent away."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from kora_daemon.config import Settings
from kora_daemon.config.settings import LimitSettings
from kora_daemon.http import ready, status
from kora_daemon.options import server_options
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server import oversight, writer
from kora_daemon.server.options import ServerOptions
from kora_daemon.store.sqlite import SqliteStore
from tests.support.devices import insert, inserts
from tests.support.http import Answer, HttpClient, http_client
from tests.support.network import PATIENCE_S, Host, connected, eventually, running_server, streaming
from tests.support.stock_device import StockDevice


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to wait until what is kept is old."""
    monkeypatch.setattr(status, "KEPT_S", 0.0)
    monkeypatch.setattr(oversight, "SIZE_KEPT_S", 0.0)
    monkeypatch.setattr(ready, "PROVED_WITHIN_S", 0.0)


async def told(client: HttpClient, path: str = "status") -> Any:
    answer = await client.ask(f"/__kora/{path}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json


async def until_answered(client: HttpClient, path: str, code: int) -> Answer:
    with trio.fail_after(PATIENCE_S):
        while (answer := await client.ask(path)).status != code:
            await trio.sleep(0.01)
    return answer


async def all_closed(host: Host, connections: int) -> None:
    """Return when so many have come to their end."""
    await eventually(lambda: sum(host.server.measures.closes.by_name.values()) == connections)


# Status


async def test_status_counts_what_was_done(tmp_path: Path) -> None:
    async with running_server(SqliteStore(tmp_path / "kora.db")) as host, http_client(host.port) as client:
        async with streaming(host.url, "a") as a, streaming(host.url, "b") as b, connected(host.url) as stranger:
            await a.upload(*inserts("a", 1, 3))
            await a.hear()
            await b.hear()
            await eventually(lambda: host.server.get_connection_count() == 3)
            found = await told(client)
            assert found["log"] == {"frontier": 3, "operations": 3, "lastMinute": 3, "lastHour": 3}
            assert found["sessions"]["total"] == 3
            assert found["sessions"]["unauthenticated"] == 1
            assert found["sessions"]["byPhase"] == {"connected": 1, "streaming": 2}
            assert found["sessions"]["byTransport"] == {"websocket": 3}
            assert [(one["node"], one["lag"]) for one in found["sessions"]["slowest"]] == [("b", 3)]
            totals = found["totals"]
            assert (totals["uploadedOperations"], totals["deliveredOperations"]) == (3, 3)
            assert totals["uploadedBytes"] > 500
            assert totals["deliveredBytes"] > 500
            assert totals["auth"] == {"accepted": 2}
            assert totals["connections"] == {"websocket": {"joined": 2}}
            assert found["store"]["kind"] == "sqlite"
            assert found["store"]["failure"] is None
            assert found["store"]["bytes"] > (tmp_path / "kora.db").stat().st_size > 0
            assert found["writer"]["lastCommit"]["operations"] == 3
            assert found["latency"]["writeToAck"]["count"] == 1
            assert found["latency"]["writeToDeliver"]["count"] == 1
            assert found["latency"]["firstSync"]["count"] == 2
            assert found["process"]["rssBytes"] > 1_000_000
            assert found["process"]["threads"] >= 1
            await stranger.go()
        await all_closed(host, 3)
        totals = (await told(client))["totals"]
        assert totals["closes"] == {"peer": 3}
        assert totals["connections"] == {"websocket": {"joined": 2, "unfinished": 1}}


async def test_status_counts_refusals_by_their_codes() -> None:
    options = ServerOptions(uploads=UploadLimits(max_operation_bytes=1_000))
    async with running_server(options=options) as host, http_client(host.port) as client:
        async with streaming(host.url, "a") as a:
            await a.upload(insert("a", 1, text="x" * 2_000), insert("a", 2))
            assert (await a.hear())["code"] == "OPERATION_TOO_LARGE"
            await a.hear()
        async with streaming(host.url, "old", watermark=None) as old:
            await old.upload(insert("old", 1, text="x" * 2_000))
            assert (await old.hear())["code"] == "OPERATION_TOO_LARGE"
        async with connected(host.url) as rude:
            await rude.say({"type": "acknowledgment", "acknowledgedMessageId": "x", "lastSequenceNumber": 0})
            await rude.closed()
        await all_closed(host, 3)
        totals = (await told(client))["totals"]
        assert totals["rejections"] == {"OPERATION_TOO_LARGE": 2}
        assert totals["errors"] == {"HANDSHAKE_REQUIRED": 1}
        assert totals["closes"] == {"peer": 2, "4002": 1}


async def test_status_tells_every_limit_of_the_configuration() -> None:
    given = {one.name: one.default + 1 for one in fields(LimitSettings)}
    options = server_options(Settings(limits=LimitSettings(**given)))
    async with running_server(options=options) as host, http_client(host.port) as client:
        told_of = (await told(client))["limits"]
    named = {re.sub("_(.)", lambda found: found[1].upper(), name): value for name, value in given.items()}
    assert {name: told_of.get(name) for name in named} == named
    assert (told_of["maxConnections"], told_of["batchSize"]) == (options.max_connections, options.batch_size)


async def test_status_knows_who_comes_for_the_first_time() -> None:
    async with running_server() as host, http_client(host.port) as client:
        async with streaming(host.url, "a") as a:
            await a.upload(insert("a", 1))
            await a.hear()
        async with streaming(host.url, "b"), streaming(host.url, "c", watermark=1), streaming(host.url, "d", None):
            latency = (await told(client))["latency"]
            assert latency["firstSync"]["count"] == 3
            assert host.server.measures.resync_seconds.count == 1


async def test_a_device_that_has_confirmed_everything_is_not_behind() -> None:
    async with running_server() as host, http_client(host.port) as client:
        async with streaming(host.url, "a") as a, streaming(host.url, "b") as b, streaming(host.url, "c", None) as c:
            await a.upload(*inserts("a", 1, 5))
            await a.hear()
            for one in (b, c):
                batch = await one.hear()
                assert [
                    state["lag"] for state in (await told(client, f"sessions?node={'bc'[one is c]}"))["sessions"]
                ] == [5]
                await one.acknowledge(batch)
                await one.was_heard()
            assert (await told(client))["sessions"]["slowest"] == []


async def test_what_is_made_for_one_is_made_for_all_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "KEPT_S", 60.0)
    async with running_server() as host, http_client(host.port) as client:
        first = await told(client)
        async with streaming(host.url, "a"):
            assert await told(client) == first


# Sessions


async def test_sessions_are_listed_by_page_and_by_what_they_are() -> None:
    async with running_server() as host, http_client(host.port) as client:
        async with streaming(host.url, "a"), streaming(host.url, "b"), streaming(host.url, "b"):
            everybody = (await told(client, "sessions"))["sessions"]
            assert [(one["session"], one["node"], one["phase"]) for one in everybody] == [
                (1, "a", "streaming"),
                (2, "b", "streaming"),
                (3, "b", "streaming"),
            ]
            page = await told(client, "sessions?limit=2")
            assert ([one["session"] for one in page["sessions"]], page["matching"], page["next"]) == ([1, 2], 3, 2)
            page = await told(client, "sessions?limit=2&after=2")
            assert ([one["session"] for one in page["sessions"]], page["next"]) == ([3], None)
            assert [one["session"] for one in (await told(client, "sessions?node=b"))["sessions"]] == [2, 3]
            assert (await told(client, "sessions?node=b&address=10.0.0.1"))["sessions"] == []
            assert len((await told(client, "sessions?address=127.0.0.1&user=anonymous"))["sessions"]) == 3


@pytest.mark.parametrize(
    "query", ["limit=x", "limit=-1", "limit=1001", "after=1e3", "after=" + "9" * 30, "limit=%C2%B2"]
)
async def test_a_number_that_is_none_is_said_to_be_none(query: str) -> None:
    async with running_server() as host, http_client(host.port) as client:
        assert (await client.ask(f"/__kora/sessions?{query}")).status == 400


async def test_a_device_that_is_kicked_comes_again_with_everything_it_has() -> None:
    async with running_server() as host, http_client(host.port) as client:
        device = StockDevice("a")
        async with device.connecting(host.url):
            await device.until(lambda: device.is_synced)
            device.insert("todos", "one", title="first")
            await device.push()
            (session,) = (await told(client, "sessions"))["sessions"]
            answer = await client.ask(f"/__kora/sessions/{session['session']}/kick", "POST")
            assert (answer.status, answer.json) == (200, {"kicked": 1})
            await eventually(lambda: host.server.get_connection_count() == 0)
        device.insert("todos", "two", title="second")
        async with device.online(host.url):
            await device.push()
            assert set(device.records("todos")) == {"one", "two"}
        await all_closed(host, 2)
        assert host.server.get_status().total_operations == 2
        assert host.server.measures.closes.by_name == {"1000": 1, "peer": 1}
        closed = [one.about["reason"] for one in host.server.journal.after(0) if one.kind == "session.closed"]
        assert closed[0] == "closed by an operator, please connect again"


async def test_who_is_kicked_is_told_no_error_unless_it_is_refused() -> None:
    async with running_server() as host, http_client(host.port) as client:
        async with streaming(host.url, "a") as a, streaming(host.url, "b") as b, connected(host.url) as stranger:
            await eventually(lambda: host.server.get_connection_count() == 3)
            assert (await client.ask("/__kora/kick?node=a", "POST")).json == {"kicked": 1}
            assert (await a.closed()).code == 1000
            assert (await client.ask("/__kora/kick?node=b&refuse=true", "POST")).json == {"kicked": 1}
            assert (await b.hear())["code"] == "AUTH_FAILED"
            assert (await b.closed()).code == 4001
            assert (await client.ask("/__kora/kick?address=127.0.0.1", "POST")).json == {"kicked": 1}
            assert (await stranger.closed()).code == 1000


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/__kora/kick", 400),
        ("/__kora/kick?node=", 400),
        ("/__kora/kick?node=a&refuse=perhaps", 400),
        ("/__kora/kick?node=nobody", 200),
        ("/__kora/sessions/7/kick", 404),
        ("/__kora/sessions/one/kick", 404),
        ("/__kora/sessions/1", 404),
        ("/__kora/sessions//kick", 404),
        ("/__kora/sessions", 404),
        ("/__kora/sessions/" + "1" * 100 + "/kick", 404),
    ],
)
async def test_nobody_is_kicked_by_mistake(target: str, code: int) -> None:
    async with running_server() as host, http_client(host.port) as client, streaming(host.url, "a"):
        assert (await client.ask(target, "POST")).status == code
        assert host.server.get_connection_count() == 1


async def test_a_session_is_kicked_by_post_only() -> None:
    async with running_server() as host, http_client(host.port) as client, streaming(host.url, "a"):
        assert (await client.ask("/__kora/sessions/1/kick")).status == 405
        assert (await client.ask("/__kora/kick?node=a")).status == 405


# Readiness


async def test_a_daemon_is_ready_while_its_store_takes_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PROBE_INTERVAL_S", 0.02)
    path = tmp_path / "kora.db"
    async with running_server(SqliteStore(path, busy_timeout_ms=20)) as host, http_client(host.port) as client:
        answer = await client.ask("/ready")
        assert (answer.status, answer.json) == (200, {"status": "ready"})
        lock = apsw.Connection(str(path))
        lock.execute("BEGIN IMMEDIATE")
        answer = await client.ask("/ready")
        assert (answer.status, answer.json["reason"]) == (503, "the store does not take writes")
        assert int(answer.headers["retry-after"]) > 0
        lock.close()
        await until_answered(client, "/ready", 200)
        kinds = [one.kind for one in host.server.journal.after(0)]
        assert kinds == ["store.failed", "store.recovered"]
        assert host.server.measures.outages == 1


async def test_a_store_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "PROOF_TIMEOUT_S", 0.05)
    path = tmp_path / "kora.db"
    async with running_server(SqliteStore(path, busy_timeout_ms=60_000)) as host, http_client(host.port) as client:
        lock = apsw.Connection(str(path))
        lock.execute("BEGIN IMMEDIATE")
        answer = await client.ask("/ready")
        assert (answer.status, answer.json["reason"]) == (503, "the store does not answer")
        lock.close()
        await until_answered(client, "/ready", 200)


async def test_readiness_is_not_proved_more_often_than_it_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "PROVED_WITHIN_S", 60.0)
    async with running_server() as host, http_client(host.port) as client:
        probes = []
        probe = host.server.writer._store.probe
        monkeypatch.setattr(host.server.writer._store, "probe", lambda: probes.append(probe()))
        for _ in range(5):
            assert (await client.ask("/ready")).status == 200
        assert len(probes) == 1
        async with trio.open_nursery() as nursery:
            host.server.writer._proved_at = -1e9
            for _ in range(20):
                nursery.start_soon(host.server.writer.prove, 1.0)
        assert len(probes) == 2


async def test_a_daemon_that_stops_is_not_ready_but_alive(tmp_path: Path) -> None:
    path = tmp_path / "kora.db"
    async with (
        running_server(SqliteStore(path)) as host,
        streaming(host.url, "a") as a,
        http_client(host.port) as client,
    ):
        lock = apsw.Connection(str(path))
        lock.execute("BEGIN IMMEDIATE")
        await a.upload(insert("a", 1))
        await a.was_heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.server.stop)
            await eventually(lambda: host.server.draining)
            answer = await client.ask("/ready")
            assert (answer.status, answer.json["reason"]) == (503, "it is shutting down")
            assert (await told(client))["draining"] is True
            lock.close()
        assert (await client.ask("/ready")).status == 503
