"""Attacks on sessions that are made of requests: somebody else's, too many, too large, never finished."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
import trio

from kora_daemon.auth.contract import AuthContext, token_digest
from kora_daemon.auth.token import StaticToken, StaticTokenProvider
from kora_daemon.http.listener import ListenerOptions
from kora_daemon.server import intake
from kora_daemon.server import polling as transport
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from tests.support.devices import insert
from tests.support.http import Answer, HttpClient
from tests.support.network import PATIENCE_S, Host, eventually, running_server
from tests.support.polling import PollingClient, Requests, closed_as_told, polling

USERS = StaticTokenProvider(
    [StaticToken(token_digest(f"tok-{name}"), AuthContext(name, {"todos": {"title": name}})) for name in ("ann", "eve")]
)
BEHIND_PROXY = ListenerOptions(port=0, trusted_proxies=[ip_network("127.0.0.1")])
BRIEF = PollingOptions(hold_s=0.05)


@pytest.fixture(autouse=True)
def short_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CLOSE_TIMEOUT_S", 0.2)


def handshake(name: str, **members: object) -> str:
    hello = {"type": "handshake", "messageId": f"h-{name}", "nodeId": name, "versionVector": {}, "schemaVersion": 1}
    return json.dumps({**hello, "lastDeliverySequence": 0, **members})


def requests_of(host: Host, client_id: str = "client-1", **headers: str) -> Requests:
    token = headers.pop("token", None)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Requests(f"http://127.0.0.1:{host.port}/?clientId={client_id}", token, named)


@asynccontextmanager
async def victim(host: Host, token: str | None = "tok-ann") -> AsyncIterator[PollingClient]:
    """A device in the middle of its session; at the end it has lost nothing."""
    async with polling(host.url, "client-1", token) as client:
        members = {} if token is None else {"authToken": token}
        assert (await client.shake_hands("ann-1", **members))["accepted"] is True
        await client.download()
        yield client
        message_id = await client.upload(insert("ann-1", 1) | {"data": {"title": "ann"}})
        assert (await client.hear())["acknowledgedMessageId"] == message_id


# Somebody else's session


@pytest.mark.parametrize("token", [None, "tok-eve", "tok-an", "tok-annn", "TOK-ANN", "tok-ann,tok-eve"])
async def test_who_knows_the_client_id_but_not_the_token_gets_nothing(token: str | None) -> None:
    options = ServerOptions(refusal_delay=0, polling=BRIEF)
    async with running_server(auth=USERS, options=options) as host, victim(host) as client:
        told: list[list[object]] = []
        for client_id in ("unknown", "client-1"):
            requests = requests_of(host, client_id, **({} if token is None else {"token": token}))
            polled = await requests.get()
            posted = await requests.post(handshake("eve", authToken=token))
            answer = await until_answered(requests)
            told.append([polled.status, posted.status, answer.status, answer.body.count(b"AUTH_FAILED")])
            await requests.post("garbage")
            requests.close()
        # Nothing tells whether there is such a session, and it has not noticed anything.
        assert told[0] == told[1]
        assert await client.hears_nothing(0.05)


async def test_a_handshake_with_another_token_than_its_request_is_refused() -> None:
    async with running_server(auth=USERS, options=ServerOptions(polling=BRIEF)) as host, victim(host):
        for presented, said in (("tok-eve", "tok-ann"), (None, "tok-ann")):
            requests = requests_of(host, **({} if presented is None else {"token": presented}))
            answer = await requests.post(handshake("ann-1", authToken=said))
            assert answer.status == 401
            assert b"tok-" not in answer.body
            requests.close()


async def test_without_tokens_a_session_belongs_to_an_address() -> None:
    options = ServerOptions(polling=BRIEF)
    async with running_server(options=options, listening=BEHIND_PROXY) as host, victim(host, None) as client:
        stranger = requests_of(host, x_forwarded_for="203.0.113.9")
        assert (await stranger.get()).status == 204
        assert (await stranger.post(handshake("eve"))).status == 202
        assert (await until_answered(stranger)).json["accepted"] is True
        assert (await stranger.post("garbage")).status == 202
        assert await client.hears_nothing(0.05)
        stranger.close()


async def until_answered(requests: Requests) -> Answer:
    with trio.fail_after(PATIENCE_S):
        while (answer := await requests.get()).status == 204:
            pass
    return answer


async def test_a_forged_address_does_not_help_where_no_proxy_is_trusted() -> None:
    async with running_server(options=ServerOptions(max_unauthenticated_per_address=2, polling=BRIEF)) as host:
        for number in range(2):
            requests = requests_of(host, f"c{number}", x_forwarded_for=f"203.0.113.{number}")
            await requests.get()
            requests.close()
        refused = requests_of(host, "c2", x_forwarded_for="203.0.113.2")
        assert (await until_answered(refused)).json["code"] == "MAX_CONNECTIONS"
        refused.close()


# Too many


@pytest.mark.parametrize("limit", ["max_connections", "max_unauthenticated", "max_unauthenticated_per_address"])
async def test_limits_on_connections_hold_for_sessions(limit: str) -> None:
    async with running_server(options=ServerOptions(**{limit: 3}, polling=BRIEF)) as host:
        for number in range(3):
            requests = requests_of(host, f"c{number}")
            assert (await requests.get()).status == 204
            requests.close()
        refused = requests_of(host, "one-more")
        answer = await until_answered(refused)
        assert (answer.status, answer.json["code"]) == (200, "MAX_CONNECTIONS")
        answer = await refused.get()
        assert (answer.status, closed_as_told(answer).code) == (410, 4029)
        refused.close()


async def test_there_is_a_limit_to_sessions() -> None:
    async with running_server(options=ServerOptions(polling=PollingOptions(hold_s=0.05, max_sessions=2))) as host:
        for number, status in enumerate((204, 204, 503, 503)):
            requests = requests_of(host, f"c{number}")
            answer = await requests.get()
            assert answer.status == status
            assert status == 204 or int(answer.headers["retry-after"]) > 0
            requests.close()


async def test_sessions_without_a_handshake_end_and_leave_nothing_behind() -> None:
    options = ServerOptions(handshake_timeout=0.1, polling=PollingOptions(hold_s=0.01, max_sessions=200))
    async with running_server(options=options) as host:
        for number in range(50):
            requests = requests_of(host, f"c{number}")
            await requests.get()
            requests.close()
        await eventually(lambda: host.server.get_connection_count() == 0)


async def test_one_device_can_t_have_any_number_of_messages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MOST_AT_ONCE", 5)
    async with running_server() as host:
        requests = requests_of(host)
        statuses: list[int] = []

        async def post(number: int) -> None:
            text = json.dumps({"type": "acknowledgment", "messageId": str(number)})  # it waits for a handshake
            statuses.append((await requests.post(text)).status)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(post, number)
            await eventually(lambda: len(statuses) == 3)
            nursery.cancel_scope.cancel()
        assert statuses == [429] * 3


# Too large, never finished


async def test_before_its_handshake_a_device_sends_little() -> None:
    async with running_server(options=ServerOptions(polling=BRIEF)) as host:
        async with await trio.open_tcp_stream("127.0.0.1", host.port) as stream:
            client = HttpClient(stream)
            head = b"POST /?clientId=a HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            await client.say(head + b"content-length: 5000000\r\n\r\n")
            assert (await client.hear("POST")).status == 413


async def test_bodies_that_never_end_don_t_outlive_their_session() -> None:
    options = ServerOptions(handshake_timeout=0.1, polling=BRIEF)
    async with running_server(options=options) as host:
        head = b"POST /?clientId=a HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        streams = [await trio.open_tcp_stream("127.0.0.1", host.port) for _ in range(5)]
        for stream in streams:
            await stream.send_all(head + b"content-length: 1000000\r\n\r\n{")
        await eventually(lambda: host.server.get_connection_count() == 1)
        await eventually(lambda: host.server.get_connection_count() == 0)
        for stream in streams:
            async with stream:
                with trio.fail_after(PATIENCE_S):
                    await stream.send_all(b"x")
                    assert b" 410 " in await stream.receive_some()


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", b"{}", 415),
        ("", b"{}", 415),
        ("application/x-www-form-urlencoded", b"{}", 415),
        ("multipart/form-data", b"{}", 415),
        ("application/json", b"\xff\xfe", 400),
        ("application/json", b"", 400),
        ("application/json; charset=utf-8", b"{}", 202),
        ("Application/JSON", b"{}", 202),
    ],
)
async def test_forms_of_other_sites_and_what_is_no_text_are_refused(kind: str, body: bytes, status: int) -> None:
    async with running_server(options=ServerOptions(polling=BRIEF)) as host:
        requests = requests_of(host)
        headers = {"content-type": kind} if kind else {}
        assert (await requests.ask("POST", body, **headers)).status == status
        requests.close()


async def test_nobody_s_token_is_in_an_answer() -> None:
    async with running_server(auth=USERS, options=ServerOptions(refusal_delay=0, polling=BRIEF)) as host:
        requests = requests_of(host, token="secret-token")
        await requests.post(handshake("eve", authToken="secret-token"))
        heard = b""
        with trio.fail_after(PATIENCE_S):
            while (answer := await requests.get()).status != 410:
                heard += answer.body
        assert b"AUTH_FAILED" in heard
        assert b"secret-token" not in heard + answer.body
        requests.close()


async def test_garbage_of_one_device_ends_no_other_s_session() -> None:
    options = ServerOptions(handshake_timeout=0.3, polling=BRIEF)
    async with running_server(auth=USERS, options=options) as host, victim(host) as client:
        for body in ("", "[]", "{}", "\0", "9" * 5_000, '{"type":"operation-batch","batchIndex":1e999}'):
            requests = requests_of(host, f"eve-{len(body)}")
            await requests.post(body)
            requests.close()
        assert await client.hears_nothing(0.05)
