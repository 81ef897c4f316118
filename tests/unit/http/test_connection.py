"""One connection: bodies in, pieces out, and who hangs up meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from kora_daemon.errors import StoreUnavailable
from kora_daemon.http import connection as module
from kora_daemon.http.connection import Caller, HttpConnection
from kora_daemon.http.messages import HttpError, Request, Response, text_response
from tests.support.http import HttpClient

Answer = Callable[[Request], Awaitable[Response]]


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[tuple[HttpClient, trio.abc.Stream]]:
    """A client of somebody who answers like this."""
    ours, theirs = trio.testing.memory_stream_pair()
    caller = Caller(lambda headers: headers.get("x-from", "somewhere"))

    async def serve() -> None:
        async with theirs:
            await HttpConnection(theirs, caller, answer, lambda request: False).serve()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield HttpClient(ours), ours
        nursery.cancel_scope.cancel()


async def echo(request: Request) -> Response:
    return Response(200, await request.body.read(10))


@pytest.mark.parametrize(("body", "status"), [(b"", 200), (b"0123456789", 200), (b"0123456789x", 413)])
async def test_a_body_has_a_limit(body: bytes, status: int) -> None:
    async with served(echo) as (client, _):
        answer = await client.ask("/", "POST", body)
        assert answer.status == status
        assert status != 200 or answer.body == body


async def test_a_body_in_chunks_has_the_same_limit() -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    async with served(echo) as (client, _):
        await client.say(head + b"4\r\n0123\r\n2\r\n45\r\n0\r\n\r\n")
        assert (await client.hear("POST")).body == b"012345"
        await client.say(head + b"8\r\n01234567\r\n8\r\n01234567\r\n")
        answer = await client.hear("POST")
        assert (answer.status, answer.headers["connection"]) == (413, "close")


async def refuse(request: Request) -> Response:
    del request
    return text_response(405, "GET only")


@pytest.mark.parametrize(
    ("answer", "head", "body", "status"),
    [
        (echo, "transfer-encoding: chunked", b"zz\r\n", 400),
        (refuse, "content-length: 5", b"12345", 405),
        (refuse, "content-length: 99999999999", b"", 405),
    ],
)
async def test_who_sends_a_body_that_is_not_read_is_told_that_the_connection_ends(
    answer: Answer, head: str, body: bytes, status: int
) -> None:
    async with served(answer) as (client, _):
        await client.say(f"POST / HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode() + body)
        said = await client.hear("POST")
        assert (said.status, said.headers["connection"]) == (status, "close")
        assert b"bytearray" not in said.body
        assert await client.rest() == b""
    async with served(refuse) as (client, _):
        for _ in range(2):
            assert "connection" not in (await client.ask("/", "POST")).headers


@pytest.mark.parametrize(
    ("head", "status", "said"),
    [
        (b"x-long: " + b"x" * 17_000, 431, b"The head of this request is too large, expected at most 16384 bytes"),
        (b"transfer-encoding: gzip\r\n\r\n", 501, b"This Transfer-Encoding is not supported"),
        (b"content-length: many\r\n\r\n", 400, b"This is not an HTTP/1.1 request"),
    ],
)
async def test_what_is_wrong_with_a_head_is_said(head: bytes, status: int, said: bytes) -> None:
    async with served(echo) as (client, _):
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n" + head)
        answer = await client.rest()
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert said in answer


async def test_who_waits_to_be_told_to_send_its_body_is_told() -> None:
    async with served(echo) as (client, stream):
        await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert await stream.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.say(b"ab")
        assert (await client.hear("POST")).body == b"ab"


async def test_a_body_that_does_not_come_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_TIMEOUT_S", 0.01)
    async with served(echo) as (client, _):
        await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
        assert (await client.hear("POST")).status == 408


async def test_pieces_are_sent_as_they_come() -> None:
    go_on = trio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b""
        await go_on.wait()
        yield b"two"

    async def answer(_request: Request) -> Response:
        return Response(200, pieces(), "text/event-stream")

    async with served(answer) as (client, stream):
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        heard = b""
        while b"one" not in heard:
            heard += await stream.receive_some()
        assert b"two" not in heard
        go_on.set()
        while b"0\r\n\r\n" not in heard:
            heard += await stream.receive_some()
        assert b"two" in heard


async def test_the_connection_goes_on_behind_an_answer_in_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b"):
            yield piece

    async def answer(_request: Request) -> Response:
        return Response(200, pieces())

    async with served(answer) as (client, _):
        assert [(await client.ask("/")).body for _ in range(3)] == [b"ab"] * 3
        assert (await client.ask("/", "HEAD")).body == b""
        assert (await client.ask("/")).body == b"ab"


@pytest.mark.parametrize("streaming", [False, True])
async def test_who_hangs_up_is_not_waited_for(streaming: bool) -> None:
    begun, ended = trio.Event(), trio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            begun.set()
            yield b"one"
            await trio.sleep_forever()
        finally:
            ended.set()

    async def answer(_request: Request) -> Response:
        if streaming:
            return Response(200, pieces())
        try:
            begun.set()
            await trio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError

    async with served(answer) as (client, stream):
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await begun.wait()
        await stream.aclose()
        with trio.fail_after(5):
            await ended.wait()


async def test_the_next_request_may_come_while_the_answer_is_held() -> None:
    go_on = trio.Event()

    async def answer(request: Request) -> Response:
        await go_on.wait()
        return text_response(200, request.path)

    async with served(answer) as (client, _):
        await client.say(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await client.say(b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        assert [(await client.hear("GET")).body for _ in range(2)] == [b"/a\n", b"/b\n"]


async def test_what_goes_wrong_is_answered_and_tells_nothing() -> None:
    async def answer(request: Request) -> Response:
        if request.path == "/store":
            raise StoreUnavailable("postgresql://secret")
        if request.path == "/error":
            raise HttpError(418, "a teapot", **{"x-kind": "pot"})
        raise RuntimeError("secret")

    async with served(answer) as (client, _):
        found = [await client.ask(path) for path in ("/store", "/error", "/crash")]
        assert [one.status for one in found] == [503, 418, 500]
        assert found[0].headers["retry-after"] == "2"
        assert found[1].headers["x-kind"] == "pot"
        assert not any(b"secret" in one.body for one in found)


async def test_the_address_is_told_by_whoever_accepted_the_connection() -> None:
    async def answer(request: Request) -> Response:
        return text_response(200, f"{request.address} {request.is_local} {request.first('a')} {request.first('b')}")

    async with served(answer) as (client, _):
        assert (await client.ask("/?a=1&a=2", headers={"x-from": "10.0.0.7"})).body == b"10.0.0.7 False 1 None\n"


async def test_sent_is_told_once_it_was_written() -> None:
    told: list[str] = []

    async def answer(request: Request) -> Response:
        return Response(200, b"x" * 1000, sent=lambda: told.append(request.path))

    async with served(answer) as (client, _):
        await client.ask("/a")
        assert told == ["/a"]


async def test_who_is_lost_in_the_middle_of_a_body_is_no_failure_of_ours() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    pieces = [b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab"]

    async def lose() -> None:
        if not pieces:
            raise trio.BrokenResourceError
        theirs.receive_stream.put_data(pieces.pop())

    theirs.receive_stream.receive_some_hook = lose
    with capture_logs() as logs:
        await HttpConnection(theirs, Caller(lambda headers: "there"), echo, lambda request: False).serve()
    assert logs == []
    assert (await ours.receive_some()).startswith(b"HTTP/1.1 400 ")
