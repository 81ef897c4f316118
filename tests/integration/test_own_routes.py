"""Requests that are answered by callables of the app's own."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from kora_daemon import ConditionalWrite, Mutation, RecordKey, RecordQuery
from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.errors import StoreUnavailable
from kora_daemon.http import own_routes
from kora_daemon.http.own_routes import OwnRoute, RouteRequest
from kora_daemon.server.options import ServerOptions
from tests.support.http import Answer, HttpClient, http_client
from tests.support.network import PATIENCE_S, Host, eventually, running_server, streaming
from tests.support.records import schema_of

OPTIONS = ServerOptions(apply=ApplyRules(schema_of(1, todos={"title": "string", "owner": "string"})))


@asynccontextmanager
async def served(handle: Callable[..., Any], **limits: Any) -> AsyncIterator[tuple[HttpClient, Host]]:
    """A client of a server with this callable at /api."""
    route = OwnRoute("/api", handle, **limits)
    async with running_server(options=OPTIONS, routes=[route]) as host, http_client(host.port) as client:
        yield client, host


def both(handle: Callable[[RouteRequest, Any], Any]) -> list[Callable[..., Any]]:
    """The callable, and one that is async."""

    async def awaited(request: RouteRequest, data: Any) -> Any:
        return handle(request, data)

    return [handle, awaited]


def echo(request: RouteRequest, _data: Any) -> Any:
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "header": request.headers.get("x-some"),
        "body": request.body.decode("latin-1"),
        "address": request.address,
    }


async def test_a_status_may_have_no_name() -> None:
    async with served(lambda _request, _data: (299, "fine")) as (client, _):
        answer = await client.ask("/api")
        assert (answer.status, answer.body) == (299, b"fine")


@pytest.mark.parametrize("handle", both(echo))
async def test_a_callable_gets_the_request_and_its_answer_is_sent(handle: Callable[..., Any]) -> None:
    async with served(handle) as (client, _):
        answer = await client.ask("/api/a%2Fb?x=1&x=2&y=", "POST", b"\xff{}", {"X-Some": "value"})
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json == {
            "method": "POST",
            "path": "/api/a%2Fb",
            "query": {"x": ["1", "2"], "y": [""]},
            "header": "value",
            "body": "ÿ{}",
            "address": "127.0.0.1",
        }
        assert (await client.ask("/api")).json["body"] == ""
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
            assert (await client.ask("/api", method)).json["method"] == method
        assert (await client.ask("/api", "HEAD")).body == b""
        assert (await client.ask("/api", "TRACE")).status == 405
        for path in ("/apix", "/ap", "/API", "/x/api"):
            assert (await client.ask(path)).status == 404


class Handler:
    """An object that can be called."""

    async def __call__(self, request: RouteRequest, data: Any) -> Any:
        return await data.count("todos")


async def test_whatever_can_be_called_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def partial(word: str, request: RouteRequest, data: Any) -> Any:
        return word

    for handle, body in ((Handler(), b""), (functools.partial(partial, "word"), b"word")):
        async with served(handle if body else wrapped(handle)) as (client, _):
            assert (await client.ask("/api")).body == (body or b'{"count": 0}')


def wrapped(handle: Any) -> Any:
    class Counting:
        async def __call__(self, request: RouteRequest, data: Any) -> Any:
            return {"count": await handle(request, data)}

    return Counting()


# -- the data plane


def in_thread(request: RouteRequest, data: Any) -> Any:
    made = data.apply(Mutation("insert", "todos", "t1", {"title": "Paint", "owner": "alice"}))
    refused = data.apply(Mutation("insert", "todos", "t2", {"title": 5}))
    only_if = ConditionalWrite(RecordKey("todos", "t1"), {"title": {"$eq": "Paint"}}, {"title": "Painted"})
    results = [data.apply_conditional(only_if).result for _ in range(2)]
    alice, bob = (data.within({"todos": {"owner": name}}) for name in ("alice", "bob"))
    return {
        "made": made.record_ids,
        "refused": refused.rejection.code,
        "results": results,
        "found": data.find_record("todos", "t1")["title"],
        "asked": [one["id"] for one in data.query("todos", RecordQuery({"owner": "alice"}))],
        "counts": [data.count("todos"), alice.count("todos"), bob.count("todos")],
        "bobs": bob.apply(Mutation("delete", "todos", "t1")).rejection.code,
    }


async def in_loop(request: RouteRequest, data: Any) -> Any:
    made = await data.apply(Mutation("insert", "todos", "t1", {"title": "Paint", "owner": "alice"}))
    refused = await data.apply(Mutation("insert", "todos", "t2", {"title": 5}))
    only_if = ConditionalWrite(RecordKey("todos", "t1"), {"title": {"$eq": "Paint"}}, {"title": "Painted"})
    results = [(await data.apply_conditional(only_if)).result for _ in range(2)]
    alice, bob = (data.within({"todos": {"owner": name}}) for name in ("alice", "bob"))
    return {
        "made": made.record_ids,
        "refused": refused.rejection.code,
        "results": results,
        "found": (await data.find_record("todos", "t1"))["title"],
        "asked": [one["id"] for one in await data.query("todos", RecordQuery({"owner": "alice"}))],
        "counts": [await data.count("todos"), await alice.count("todos"), await bob.count("todos")],
        "bobs": (await bob.apply(Mutation("delete", "todos", "t1"))).rejection.code,
    }


@pytest.mark.parametrize("handle", [in_thread, in_loop])
async def test_a_callable_reads_and_writes_and_devices_hear_of_it(handle: Callable[..., Any]) -> None:
    async with served(handle) as (client, host), streaming(host.url, "device") as device:
        assert (await client.ask("/api", "POST")).json == {
            "made": ["t1"],
            "refused": "INVALID_VALUE",
            "results": ["applied", "skipped"],
            "found": "Painted",
            "asked": ["t1"],
            "counts": [1, 1, 0],
            "bobs": "SCOPE_VIOLATION",
        }
        heard: list[Any] = []
        while len(heard) < 2:
            heard += (await device.hear())["operations"]
        assert [one["data"]["title"] for one in heard] == ["Paint", "Painted"]


async def test_a_thread_runs_with_a_name(tmp_path: Any) -> None:
    def handle(request: RouteRequest, data: Any) -> str:
        return threading.current_thread().name

    async with served(handle) as (client, _):
        assert (await client.ask("/api")).body == b"kora-route"


# -- what goes wrong


class Strange(BaseException):
    """Neither an error nor an exit."""


def raising(error: BaseException) -> Callable[..., Any]:
    def handle(request: RouteRequest, data: Any) -> Any:
        raise error

    return handle


@pytest.mark.parametrize(
    "error",
    [RuntimeError("SECRET"), SystemExit("SECRET"), KeyboardInterrupt("SECRET"), StoreUnavailable("SECRET"), Strange()],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_callable_raises_is_500_and_in_the_log(error: BaseException) -> None:
    for handle in both(raising(error)):
        with capture_logs() as logged:
            async with served(handle) as (client, _):
                answer = await client.ask("/api")
                assert (answer.status, b"SECRET" in answer.body) == (500, False)
                assert (await client.ask("/health")).status == 200
        assert [one["path"] for one in logged if one["event"] == "routes.failed"] == ["/api"]


async def test_a_group_of_exceptions_is_500(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(request: RouteRequest, data: Any) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            sys.exit(3)

    async with served(handle) as (client, _):
        assert (await client.ask("/api")).status == 500
        assert (await client.ask("/health")).status == 200


@pytest.mark.parametrize("returned", [5, (200, "x", {"a": "b\r\nc: d"}), (99, "x"), ("x",)])
async def test_what_is_no_answer_is_500(returned: Any) -> None:
    for handle in both(lambda request, data: returned):
        async with served(handle) as (client, _):
            answer = await client.ask("/api")
            assert (answer.status, "c" in answer.headers) == (500, False)


async def test_a_function_that_returns_a_coroutine_is_500() -> None:
    async def answer() -> str:
        return "late"

    async with served(lambda request, data: answer()) as (client, _):
        assert (await client.ask("/api")).status == 500


@pytest.mark.parametrize(("size", "status"), [(0, 200), (10, 200), (11, 413)])
async def test_a_body_has_a_limit(size: int, status: int) -> None:
    async with served(echo, max_body_bytes=10) as (client, _):
        assert (await client.ask("/api", "POST", b"x" * size)).status == status


# -- time and room


async def test_who_takes_too_long_is_not_waited_for_and_changes_nothing_any_more() -> None:
    go_on, done = threading.Event(), threading.Event()
    hung: list[str] = []

    def handle(request: RouteRequest, data: Any) -> Any:
        if request.path == "/api/quick":
            return "quick"
        try:
            go_on.wait(PATIENCE_S)
            data.apply(Mutation("insert", "todos", "late", {}))
        except trio.Cancelled:
            hung.append("cut off")
            raise
        finally:
            done.set()

    async with served(handle, timeout_s=0.05, concurrency=2) as (client, host):
        with capture_logs() as logged:
            assert (await client.ask("/api/hang")).status == 504
        assert [one["event"] for one in logged if one["log_level"] == "error"] == ["routes.hangs"]
        assert (await client.ask("/api/quick")).body == b"quick"
        go_on.set()
        await eventually(done.is_set)
        await eventually(lambda: hung == ["cut off"])
        assert await host.server.find_record("todos", "late") is None


async def test_an_async_call_that_takes_too_long_is_cancelled() -> None:
    cancelled = trio.Event()

    async def handle(request: RouteRequest, data: Any) -> Any:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with served(handle, timeout_s=0.05) as (client, _):
        assert (await client.ask("/api")).status == 504
        assert cancelled.is_set()


@pytest.mark.parametrize("is_async", [False, True])
async def test_calls_that_hang_hold_their_own_places_and_nothing_else(
    is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_routes, "ROOM_S", 0.02)
    go_on, begun = threading.Event(), 0

    def hang(request: RouteRequest, data: Any) -> Any:
        nonlocal begun
        begun += 1
        go_on.wait(PATIENCE_S)
        return "at last"

    async def hang_async(request: RouteRequest, data: Any) -> Any:
        nonlocal begun
        begun += 1
        while not go_on.is_set():
            await trio.sleep(0.005)
        return "at last"

    answers: list[Answer] = []
    routes = [OwnRoute("/hangs", hang_async if is_async else hang, concurrency=2), OwnRoute("/works", echo)]
    async with running_server(routes=routes) as host, http_client(host.port) as client:

        async def ask() -> None:
            async with http_client(host.port) as one:
                answers.append(await one.ask("/hangs"))

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(ask)
            await eventually(lambda: begun == 2)
            refused = await client.ask("/hangs")
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert (await client.ask("/works")).status == 200
            assert (await client.ask("/health")).status == 200
            go_on.set()
        assert [(one.status, one.body) for one in answers] == [(200, b"at last")] * 2
        assert begun == 2
        assert (await client.ask("/hangs")).body == b"at last"


async def test_more_requests_than_places_wait_a_moment() -> None:
    running, most = 0, 0

    async def handle(request: RouteRequest, data: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(0.001)
        running -= 1

    async with served(handle, concurrency=2) as (_, host):

        async def ask() -> None:
            async with http_client(host.port) as client:
                assert (await client.ask("/api")).status == 204

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert most == 2


async def test_bodies_that_do_not_come_hold_no_call_and_have_a_limit() -> None:
    async with served(echo, concurrency=1, timeout_s=0.2) as (client, host):
        async with http_client(host.port) as slow:
            await slow.say(b"POST /api HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
            assert (await client.ask("/api")).status == 200
            assert (await slow.hear("POST")).status == 408
    async with served(echo, concurrency=1) as (client, host):
        slow_ones = [await trio.open_tcp_stream("127.0.0.1", host.port) for _ in range(own_routes.BODIES_PER_CALL)]
        for stream in slow_ones:
            await stream.send_all(b"POST /api HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
            assert b"100 Continue" in await stream.receive_some()
        async with http_client(host.port) as late:
            assert (await late.ask("/api", "POST", b"x")).status == 503
        assert (await client.ask("/api")).status == 200
        for stream in slow_ones:
            await stream.aclose()
        await until_200(host)


async def until_200(host: Host) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:
            async with http_client(host.port) as client:
                if (await client.ask("/api", "POST", b"x")).status == 200:
                    return


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_call_goes_on_when_its_caller_has_hung_up(is_async: bool) -> None:
    """A webhook is not done by half because its sender is impatient."""
    begun, go_on = threading.Event(), threading.Event()

    def handle(request: RouteRequest, data: Any) -> Any:
        begun.set()
        go_on.wait(PATIENCE_S)
        data.apply(Mutation("insert", "todos", "done", {}))

    async def handle_async(request: RouteRequest, data: Any) -> Any:
        begun.set()
        while not go_on.is_set():
            await trio.sleep(0.005)
        await data.apply(Mutation("insert", "todos", "done", {}))

    async with served(handle_async if is_async else handle) as (_, host):
        stream = await trio.open_tcp_stream("127.0.0.1", host.port)
        await stream.send_all(b"GET /api HTTP/1.1\r\nhost: x\r\n\r\n")
        await eventually(begun.is_set)
        await stream.aclose()
        go_on.set()
        with trio.fail_after(PATIENCE_S):
            while await host.server.find_record("todos", "done") is None:
                await trio.sleep(0.005)


# -- the end


@pytest.mark.parametrize("is_async", [False, True])
async def test_calls_that_have_begun_are_finished_before_the_server_stops(is_async: bool) -> None:
    begun, stopping = threading.Event(), threading.Event()
    answers: list[Answer] = []

    def handle(request: RouteRequest, data: Any) -> Any:
        begun.set()
        stopping.wait(PATIENCE_S)
        return data.apply(Mutation("insert", "todos", "last", {})).result

    async def handle_async(request: RouteRequest, data: Any) -> Any:
        begun.set()
        while not stopping.is_set():
            await trio.sleep(0.005)
        return (await data.apply(Mutation("insert", "todos", "last", {}))).result

    async with trio.open_nursery() as nursery:
        async with served(handle_async if is_async else handle) as (_, host):

            async def ask() -> None:
                async with http_client(host.port) as client:
                    answers.append(await client.ask("/api"))

            nursery.start_soon(ask)
            await eventually(begun.is_set)
            stopping.set()
        with trio.fail_after(PATIENCE_S):
            while not answers:
                await trio.sleep(0.005)
    assert [(one.status, one.body) for one in answers] == [(200, b"applied")]


async def test_a_call_that_hangs_does_not_keep_the_server_from_stopping() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def handle(request: RouteRequest, data: Any) -> Any:
        begun.set()
        go_on.wait(PATIENCE_S)

    with trio.fail_after(PATIENCE_S):
        async with served(handle) as (client, _):
            await client.say(b"GET /api HTTP/1.1\r\nhost: x\r\n\r\n")
            await eventually(begun.is_set)
    assert not go_on.is_set()
    go_on.set()
