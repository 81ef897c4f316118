"""Server-sent events, and following the log."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from kora_daemon.http import connection, events, status, tail
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.store.memory import MemoryStore
from tests.support.devices import insert, inserts, seed
from tests.support.event_stream import EventSource
from tests.support.http import HttpClient, http_client
from tests.support.network import PATIENCE_S, Host, connected, eventually, running_server, streaming


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "KEPT_S", 0.0)
    monkeypatch.setattr(events, "STATUS_INTERVAL_S", 0.05)
    monkeypatch.setattr(tail, "LOOK_INTERVAL_S", 0.01)


# Events


async def test_status_comes_again_and_again() -> None:
    async with running_server() as host, http_client(host.port) as client:
        source = await EventSource(client).open("/__kora/events")
        seen = [await source.until("status", draining=False) for _ in range(3)]
        assert source.retry_ms == 2_000
        assert seen[0].data["uptime"] < seen[1].data["uptime"] < seen[2].data["uptime"]


async def test_what_happens_is_told_at_once() -> None:
    async with running_server() as host, http_client(host.port) as client:
        source = await EventSource(client).open("/__kora/events")
        async with streaming(host.url, "a"):
            joined = await source.until("event", kind="session.joined")
            assert (joined.data["node"], joined.data["user"], joined.data["transport"]) == (
                "a",
                "anonymous",
                "websocket",
            )
        closed = await source.until("event", kind="session.closed")
        assert (closed.data["session"], closed.data["code"]) == (joined.data["session"], None)
        async with streaming(host.url, "b") as b:
            await b.upload(insert("b", 1), {**insert("b", 2), "type": "upsert"})
            rejected = await source.until("event", kind="operation.rejected")
            assert (rejected.data["code"], rejected.data["node"], rejected.data["count"]) == (
                "INVALID_OPERATION",
                "b",
                1,
            )
        async with connected(host.url) as rude:
            await rude.say_text("nonsense")
            assert (await source.until("event", kind="session.error")).data["code"] == "MALFORMED_MESSAGE"


async def test_a_listener_that_comes_back_hears_what_it_has_missed() -> None:
    async with running_server() as host:
        async with http_client(host.port) as client:
            source = await EventSource(client).open("/__kora/events")
            async with streaming(host.url, "a"):
                joined = await source.until("event", kind="session.joined")
        await eventually(lambda: host.server.journal.last == 2)
        async with http_client(host.port) as client:
            source = await EventSource(client).open("/__kora/events", last_event_id=joined.last_id)
            first = await source.until("event")
            assert (first.data["kind"], first.data["number"]) == ("session.closed", joined.data["number"] + 1)


@pytest.mark.parametrize("made_up", ["", "7", "x-1", "0-1", "{life}-999", "{life}-", "{life}-x", "{life}-1-1"])
async def test_an_event_of_another_life_is_no_place_to_begin(made_up: str) -> None:
    async with running_server() as host, http_client(host.port) as client:
        journal = host.server.journal
        for _ in range(60):
            journal.record("x")
        identity = made_up.format(life=f"{journal.begun_ms:x}")
        source = await EventSource(client).open("/__kora/events", last_event_id=identity)
        assert (await source.until("event")).data["number"] == 11


async def test_only_as_much_of_the_past_is_told_as_is_asked_for() -> None:
    async with running_server() as host:
        for _ in range(60):
            host.server.journal.record("x")
        for recent, first in [(3, 58), (500, 1)]:
            async with http_client(host.port) as client:
                source = await EventSource(client).open(f"/__kora/events?recent={recent}")
                assert (await source.until("event")).data["number"] == first
        async with http_client(host.port) as client:
            assert (await client.ask("/__kora/events?recent=501")).status == 400


async def test_a_slow_listener_is_told_how_much_it_has_missed() -> None:
    async with running_server() as host, http_client(host.port) as client:
        journal = host.server.journal
        source = await EventSource(client).open("/__kora/events")
        journal.record("first")
        first = await source.until("event", kind="first")
        for _ in range(700):
            journal.record("x")
        assert (await source.until("missed")).data == {"events": 200}
        assert (await source.until("event")).data["number"] == first.data["number"] + 201


async def test_one_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(events, "STATUS_INTERVAL_S", 0.0001)
    monkeypatch.setattr(events, "MAX_LISTENERS", 1)
    async with running_server() as host:
        async with http_client(host.port) as stalled:
            await stalled.follow("/__kora/events")
            with trio.fail_after(PATIENCE_S):
                while True:
                    async with http_client(host.port) as other:
                        if (await other.follow("/__kora/events")).status == 200:
                            return
                    await trio.sleep(0.05)


@pytest.mark.parametrize(
    ("path", "most"), [("/__kora/events", events.MAX_LISTENERS), ("/__kora/tail", tail.MAX_FOLLOWERS)]
)
async def test_only_so_many_may_listen(path: str, most: int) -> None:
    async with running_server() as host:
        async with AsyncExitStack() as stack:
            for _ in range(most):
                client = await stack.enter_async_context(http_client(host.port))
                assert (await client.follow(path)).status == 200
            async with http_client(host.port) as late:
                answer = await late.ask(path)
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) > 0
        await until_admitted(host, path)


async def until_admitted(host: Host, path: str) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:
            async with http_client(host.port) as client:
                if (await client.follow(path)).status == 200:
                    return
            await trio.sleep(0.01)


@pytest.mark.parametrize("path", ["/__kora/events", "/__kora/tail"])
async def test_head_takes_no_seat(path: str) -> None:
    async with running_server() as host:
        for _ in range(20):
            async with http_client(host.port) as client:
                assert (await client.ask(path, "HEAD")).status == 200


async def test_a_server_that_stops_tells_its_listeners_and_lets_them_go() -> None:
    async with running_server() as host, http_client(host.port) as client:
        source = await EventSource(client).open("/__kora/events")
        await source.until("status")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.server.stop)
            assert (await source.until("event", kind="server.draining")).data["sessions"] == 0
        with pytest.raises(AssertionError, match="the stream has ended"):
            await source.until("never")


# Following the log


class Tail:
    """Reads lines."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._text = b""

    async def open(self, query: str = "") -> Tail:
        answer = await self._client.follow(f"/__kora/tail{query}")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
        return self

    async def line(self) -> Any:
        while b"\n" not in self._text:
            self._text += await self._client.piece()
        line, _, self._text = self._text.partition(b"\n")
        return json.loads(line)


async def test_operations_are_told_as_they_are_committed_without_their_data() -> None:
    async with running_server() as host, http_client(host.port) as client, streaming(host.url, "a") as a:
        follower = await Tail(client).open()
        sent = insert("a", 1, secret="do not tell")
        await a.upload(sent)
        assert await follower.line() == {
            "sequence": 1,
            "session": 1,
            "id": "a/1",
            "node": "a",
            "type": "insert",
            "collection": "todos",
            "record": "record-a-1",
            "timestamp": sent["timestamp"],
            "sequenceNumber": 1,
        }
        await a.upload(insert("a", 2))
        assert (await follower.line())["id"] == "a/2"


async def test_with_data_they_are_told_with_what_is_in_them() -> None:
    async with running_server() as host, http_client(host.port) as client, streaming(host.url, "a") as a:
        follower = await Tail(client).open("?data=1")
        update = {
            **insert("a", 1),
            "type": "update",
            "data": {"n": 2},
            "previousData": {"n": 1},
            "atomicOps": {"n": {"type": "increment", "value": 1}},
        }
        await a.upload(update)
        line = await follower.line()
        assert {name: line[name] for name in ("data", "previousData", "atomicOps")} == {
            name: update[name] for name in ("data", "previousData", "atomicOps")
        }


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("collection=notes", ["a/2"]),
        ("type=delete", ["a/3"]),
        ("node=b", ["b/1"]),
        ("record=record-a-1", ["a/1"]),
        ("collection=todos&node=a", ["a/1", "a/3"]),
        ("collection=", ["a/1", "a/2", "a/3", "b/1"]),
    ],
)
async def test_only_what_is_asked_for_is_told(query: str, told: list[str]) -> None:
    async with running_server() as host, http_client(host.port) as client, streaming(host.url, "a") as a:
        follower = await Tail(client).open(f"?{query}")
        await a.upload(
            insert("a", 1),
            {**insert("a", 2), "collection": "notes"},
            {**insert("a", 3), "type": "delete", "data": None},
            insert("b", 1),
        )
        await a.hear()
        assert [(await follower.line())["id"] for _ in told] == told


async def test_they_can_be_followed_from_a_point_that_is_still_in_memory() -> None:
    async with running_server() as host, streaming(host.url, "a") as a:
        await a.upload(*inserts("a", 1, 5))
        await a.hear()
        async with http_client(host.port) as client:
            follower = await Tail(client).open("?after=3")
            assert [(await follower.line())["sequence"] for _ in range(2)] == [4, 5]


async def test_what_can_not_be_told_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    seed(store, inserts("a", 1, 3))
    monkeypatch.setattr(tail, "MOST_AT_ONCE", 10)
    async with running_server(store) as host, streaming(host.url, "a") as a, http_client(host.port) as client:
        follower = await Tail(client).open("?after=0")
        assert await follower.line() == {"gap": {"after": 0, "upto": 3}}  # it is in the store only
        await a.upload(*inserts("a", 4, 23))
        await a.hear()
        assert await follower.line() == {"gap": {"after": 3, "upto": 23}}  # more than is told in passing
        await a.upload(insert("a", 24))
        assert (await follower.line())["sequence"] == 24


async def test_of_what_was_asked_for_all_that_is_in_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    seed(store, inserts("a", 1, 3))
    monkeypatch.setattr(tail, "MOST_AT_ONCE", 10)
    async with running_server(store) as host, streaming(host.url, "a") as a, http_client(host.port) as client:
        await a.upload(*inserts("a", 4, 28))
        await a.hear()
        follower = await Tail(client).open("?after=1")
        assert await follower.line() == {"gap": {"after": 1, "upto": 3}}
        assert [(await follower.line())["sequence"] for _ in range(25)] == list(range(4, 29))


async def test_a_follower_that_is_too_slow_is_told_so_and_holds_nobody_up() -> None:
    async with running_server() as host, streaming(host.url, "a") as a, http_client(host.port) as client:
        host.server.log_tail._max_bytes = 20_000
        follower = await Tail(client).open("?data=1")
        for number in range(1, 400):
            await a.upload(insert("a", number, text="x" * 20_000))
            await a.hear()
        last = 0
        gaps = 0
        while last < 399:
            line = await follower.line()
            if "gap" in line:
                gaps += 1
                assert line["gap"]["after"] == last
            last = line["gap"]["upto"] if "gap" in line else line["sequence"]
        assert gaps > 0


async def test_browsers_get_events() -> None:
    async with running_server() as host, http_client(host.port) as client, streaming(host.url, "a") as a:
        source = await EventSource(client).open("/__kora/tail")
        await a.upload(insert("a", 1))
        assert (await source.until("operation")).data["id"] == "a/1"
    async with running_server() as host, http_client(host.port) as client:
        source = await EventSource(client).open("/__kora/tail?after=5")
        assert (await source.until("gap")).data == {"after": 5, "upto": 0}


async def test_a_silent_connection_gets_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "SILENCE_S", 0.02)
    async with running_server() as host, http_client(host.port) as client:
        await client.follow("/__kora/tail")
        assert await client.piece() == b"\n"


async def test_a_new_log_in_place_of_this_one_is_a_gap() -> None:
    async with running_server() as host, http_client(host.port) as client, streaming(host.url, "a") as a:
        follower = await Tail(client).open()
        await a.upload(insert("a", 1))
        assert (await follower.line())["sequence"] == 1
        host.server._running.hub.begin_anew(1_000)
        assert await follower.line() == {"gap": {"after": 1, "upto": 1_000}}
        assert (await a.closed()).code == 1001


def test_a_server_that_is_not_running_is_over() -> None:
    from kora_daemon.auth.none import NoAuthProvider

    server = SyncServer(MemoryStore(), NoAuthProvider(), ServerOptions())
    assert (server.is_over, server.draining) == (True, True)
    with pytest.raises(RuntimeError, match="call start first"):
        _ = server.oversight
