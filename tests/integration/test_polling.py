"""Devices that poll beside those with a WebSocket, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from kora_daemon.auth.contract import AuthContext, token_digest
from kora_daemon.auth.token import StaticToken, StaticTokenProvider
from kora_daemon.config.rules import STREAM_BYTES
from kora_daemon.config.settings import LimitSettings
from kora_daemon.http.listener import ListenerOptions
from kora_daemon.server import intake, read_ahead
from kora_daemon.server import polling as transport
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from kora_daemon.store.memory import MemoryStore
from tests.support.devices import ids, insert, inserts, seed
from tests.support.http import HttpClient
from tests.support.network import PATIENCE_S, Closed, Host, eventually, running_server, streaming
from tests.support.polling import Requests, closed_as_told, polling

PATH = "/kora-sync"


@pytest.fixture(autouse=True)
def short_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices of these tests are gone when a test is over, with messages unread."""
    monkeypatch.setattr(transport, "CLOSE_TIMEOUT_S", 0.2)


QUICK = ServerOptions(polling=PollingOptions(hold_s=0.05))


def requests_to(host: Host, client_id: str = "client-1", token: str | None = None) -> Requests:
    return Requests(f"http://127.0.0.1:{host.port}{PATH}?clientId={client_id}", token)


def handshake(node_id: str, message_id: str = "h1", watermark: int = 0, **members: Any) -> str:
    return json.dumps(
        {
            "type": "handshake",
            "messageId": message_id,
            "nodeId": node_id,
            "versionVector": {},
            "schemaVersion": 1,
            "lastDeliverySequence": watermark,
            **members,
        }
    )


def upload(message_id: str, operations: list[dict[str, Any]], index: int = 0, total: int | None = None) -> str:
    batch = {"type": "operation-batch", "messageId": message_id, "operations": operations, "batchIndex": index}
    said = {} if total is None else {"totalBatches": total}
    return json.dumps({**batch, "isFinal": total is None or index == total - 1, **said})


def acknowledgment(batch: dict[str, Any]) -> str:
    ack = {"type": "acknowledgment", "messageId": "a", "acknowledgedMessageId": batch["messageId"]}
    return json.dumps({**ack, "lastSequenceNumber": 0, "deliverySequence": batch["maxDeliverySequence"]})


async def until_message(requests: Requests) -> dict[str, Any]:
    """Poll until there is a message."""
    with trio.fail_after(PATIENCE_S):
        while (answer := await requests.get()).status == 204:
            await trio.sleep(0.005)
    assert answer.status == 200, answer
    return answer.json  # type: ignore[no-any-return]


async def begun(requests: Requests, node_id: str, **members: Any) -> None:
    """A session whose first download is fetched and acknowledged, and which has uploaded what it had: nothing."""
    assert (await requests.post(handshake(node_id, f"h-{node_id}", **members))).status == 202
    assert (await until_message(requests))["accepted"] is True
    await requests.post(upload("nothing", [], total=1))
    assert (await until_message(requests))["acknowledgedMessageId"] == "nothing"
    batch = await until_message(requests)
    assert batch["isFinal"] is True
    await requests.post(acknowledgment(batch))


# Live


async def test_a_device_that_polls_and_one_with_a_websocket_are_in_step() -> None:
    async with running_server(path=PATH) as host, streaming(host.url, "w") as w, polling(host.url) as p:
        assert (await p.shake_hands("p"))["accepted"] is True
        await p.download()
        for number in range(1, 6):
            await w.upload(insert("w", number))
            assert (await w.hear())["type"] == "acknowledgment"
            assert ids(*await p.download()) == [f"w/{number}"]
            message_id = await p.upload(insert("p", number))
            assert (await p.hear())["acknowledgedMessageId"] == message_id
            assert ids(*await w.download()) == [f"p/{number}"]


async def test_two_devices_that_poll_are_in_step() -> None:
    async with running_server(path=PATH) as host, polling(host.url, "one") as a, polling(host.url, "two") as b:
        for client, node in ((a, "a"), (b, "b")):
            await client.shake_hands(node)
            await client.download()
        await a.upload(insert("a", 1))
        assert ids(*await b.download()) == ["a/1"]


@pytest.mark.parametrize("binary", [False, True])
async def test_a_device_hears_the_form_that_it_speaks(binary: bool) -> None:
    async with running_server(path=PATH) as host, streaming(host.url, "w") as w:
        async with polling(host.url, binary=binary) as p:
            assert (await p.shake_hands("p"))["accepted"] is True
            assert p.heard_binary is binary
            await p.download()
            message_id = await p.upload(insert("p", 1))
            assert (await p.hear())["acknowledgedMessageId"] == message_id
            assert ids(*await w.download()) == ["p/1"]
            await w.upload(insert("w", 1))
            assert ids(*await p.download()) == ["w/1"]
            assert p.heard_binary is binary
            # Presence has no other form than text.
            state = {"user": {"name": "Ann", "color": "#fff"}}
            await p.say_text(json.dumps({"type": "awareness-update", "messageId": "m", "clientId": 1, "states": {}}))
            await w.say({"type": "awareness-update", "clientId": 1, "states": {"1": state}})
            while (message := await p.hear())["type"] != "awareness-update":
                pass
            assert state in message["states"].values()
            assert not p.heard_binary


async def test_a_held_poll_is_answered_as_soon_as_there_is_something() -> None:
    async with running_server(path=PATH) as host, streaming(host.url, "w") as w:
        requests = requests_to(host)
        await begun(requests, "p")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.upload, insert("w", 1))
            with trio.fail_after(PATIENCE_S):  # it would be held for 25 s
                answer = await requests.get()
        assert ids(answer.json) == ["w/1"]
        requests.close()


async def test_a_poll_before_the_handshake_gets_its_answer() -> None:
    async with running_server(path=PATH) as host:
        first, second = requests_to(host), requests_to(host)
        async with trio.open_nursery() as nursery:

            async def poll() -> None:
                assert (await first.get()).json["type"] == "handshake-response"
                nursery.cancel_scope.cancel()

            nursery.start_soon(poll)
            await eventually(lambda: host.server.get_connection_count() == 1)
            await second.post(handshake("p"))
            await trio.sleep(PATIENCE_S)
        assert nursery.cancel_scope.cancelled_caught


async def test_a_large_first_sync_comes_in_batches() -> None:
    async with running_server(path=PATH) as host, streaming(host.url, "w") as w, polling(host.url) as p:
        for first in range(1, 2_001, 500):
            await w.upload(*inserts("w", first, first + 499))
            await w.hear()
        await p.shake_hands("p")
        assert len(ids(*await p.download())) == 2_000


async def test_presence_reaches_and_leaves_a_device_that_polls() -> None:
    state = {"user": {"name": "Ann", "color": "#fff"}}
    options = ServerOptions(polling=PollingOptions(idle_s=1))
    async with running_server(path=PATH, options=options) as host, streaming(host.url, "w") as w:
        async with polling(host.url) as p:
            await p.shake_hands("p")
            await p.download()
            await w.say({"type": "awareness-update", "clientId": 1, "states": {"1": state}})
            await p.say({"type": "awareness-update", "clientId": 1, "states": {"1": state}})
            assert state in (await p.hear())["states"].values()
            assert state in (await w.hear())["states"].values()
        assert list((await w.hear())["states"].values()) == [None]


# Order


async def test_uploads_that_overtake_each_other_and_the_handshake_are_put_in_order() -> None:
    async with running_server(path=PATH) as host:
        requests = requests_to(host)
        posts = [upload(f"b{index}", inserts("p", 2 * index + 1, 2 * index + 2), index, 5) for index in range(5)]
        posts.append(upload("live", inserts("p", 11, 11)))
        acknowledged: list[str] = []
        async with trio.open_nursery() as nursery:
            for text in (*reversed(posts), handshake("p")):
                nursery.start_soon(requests.post, text)
                await trio.sleep(0.02)
            while len(acknowledged) < len(posts):
                message = await until_message(requests)
                if message["type"] == "acknowledgment":
                    acknowledged.append(message["acknowledgedMessageId"])
        assert acknowledged == ["b0", "b1", "b2", "b3", "b4", "live"]
        requests.close()


async def test_nothing_is_taken_behind_an_upload_that_broke_off() -> None:
    async with running_server(path=PATH) as host:
        requests = requests_to(host)
        await requests.post(handshake("p"))
        first, second = (upload(f"b{index}", inserts("p", index + 1, index + 1), index, 2) for index in range(2))
        stream = await trio.open_tcp_stream("127.0.0.1", host.port)
        head = f"POST {requests.target} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        await stream.send_all(f"{head}content-length: {len(first)}\r\n\r\n{first[:-5]}".encode())
        answers = []
        async with trio.open_nursery() as nursery:

            async def post() -> None:
                answers.append(await requests.post(second))

            nursery.start_soon(post)
            await trio.sleep(0.05)
            assert not answers
            await stream.aclose()
        assert answers[0].status == 410
        assert closed_as_told(answers[0]).reason == "a message broke off"
        assert host.server.get_status().total_operations == 0
        requests.close()


async def test_an_upload_whose_forerunner_never_comes_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "ORDER_PATIENCE_S", 0.05)
    async with running_server(path=PATH) as host:
        requests = requests_to(host)
        await requests.post(handshake("p"))
        answer = await requests.post(upload("b1", inserts("p", 2, 2), 1, 2))
        assert (answer.status, closed_as_told(answer).code) == (410, 4002)
        assert host.server.get_status().total_operations == 0
        requests.close()


async def test_a_repeated_upload_is_acknowledged_once() -> None:
    async with running_server(path=PATH, options=QUICK) as host:
        requests = requests_to(host)
        await begun(requests, "p")
        text = upload("b", inserts("p", 1, 1))
        for _ in range(3):
            assert (await requests.post(text)).status == 202
        assert (await until_message(requests))["acknowledgedMessageId"] == "b"
        assert (await requests.get()).status == 204
        requests.close()


# Answers that get lost


async def test_an_answer_that_could_not_be_written_comes_again() -> None:
    async with running_server(path=PATH) as host, streaming(host.url, "w") as w:
        requests = requests_to(host)
        await begun(requests, "p")
        await w.upload(*[insert("w", number, note="x" * 200_000) for number in (1, 2)])
        for _ in range(3):
            stream = await reader_of_little(host.port)
            await stream.send_all(f"GET {requests.target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert b"200 OK" in await stream.receive_some(1_000)
            await stream.aclose()
        answer = await requests.get()
        assert (ids(answer.json), answer.headers["etag"]) == (["w/1", "w/2"], 'W/"4"')
        requests.close()


async def reader_of_little(port: int) -> trio.SocketStream:
    """A connection that takes in no more than what is read from it, more or less."""
    sock = trio.socket.socket()
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await sock.connect(("127.0.0.1", port))
    return trio.SocketStream(sock)


async def test_a_poll_that_hangs_up_takes_nothing_along() -> None:
    async with running_server(path=PATH) as host, streaming(host.url, "w") as w:
        requests = requests_to(host)
        await begun(requests, "p")
        for number in range(1, 4):
            stream = await trio.open_tcp_stream("127.0.0.1", host.port)
            await stream.send_all(f"GET {requests.target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            await trio.sleep(0.02)
            await stream.aclose()
            await w.upload(insert("w", number))
            batch = await until_message(requests)
            assert ids(batch) == [f"w/{number}"]
            ack = {"type": "acknowledgment", "messageId": f"a{number}", "acknowledgedMessageId": batch["messageId"]}
            sequence = batch["maxDeliverySequence"]
            await requests.post(json.dumps({**ack, "lastSequenceNumber": number, "deliverySequence": sequence}))
        requests.close()


async def test_a_delivery_that_got_lost_behind_us_is_sent_again() -> None:
    async with running_server(path=PATH) as host, streaming(host.url, "w") as w:
        requests = requests_to(host)
        await begun(requests, "p")
        await w.upload(insert("w", 1))
        lost, again = await until_message(requests), await until_message(requests)
        assert ids(lost) == ids(again) == ["w/1"]
        requests.close()


async def test_of_two_polls_the_newer_one_gets_the_message() -> None:
    async with running_server(path=PATH) as host, streaming(host.url, "w") as w:
        requests, other = requests_to(host), requests_to(host)
        await begun(requests, "p")
        statuses: list[int] = []

        async def poll(which: Requests) -> None:
            statuses.append((await which.get()).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll, requests)
            await trio.sleep(0.02)
            nursery.start_soon(poll, other)
            await eventually(lambda: statuses == [204])
            await w.upload(insert("w", 1))
        assert statuses == [204, 200]
        requests.close()
        other.close()


# Beginnings and ends


async def test_a_restarted_device_begins_anew_under_the_same_name() -> None:
    async with running_server(path=PATH, options=QUICK) as host, streaming(host.url, "w") as w:
        await w.upload(insert("w", 1))
        await w.hear()
        for watermark in (0, 1, 1):
            async with polling(host.url) as p:
                response = await p.shake_hands("p", watermark)
                assert response["accepted"] is True
                heard = ids(*await p.download())
                assert heard == ([] if watermark else ["w/1"])
                assert host.server.get_connection_count() == 2


async def test_a_handshake_again_is_answered_and_the_session_goes_on() -> None:
    async with running_server(path=PATH, options=QUICK) as host:
        requests = requests_to(host)
        await begun(requests, "p")
        await requests.post(handshake("p", "h-p"))
        assert (await until_message(requests))["code"] == "DUPLICATE_HANDSHAKE"
        await requests.post(upload("b", inserts("p", 1, 1)))
        assert (await until_message(requests))["acknowledgedMessageId"] == "b"
        requests.close()


async def test_a_restarted_server_is_told_by_410_and_a_handshake_begins_anew() -> None:
    requests: Requests
    options = ServerOptions(handshake_timeout=0.2, polling=PollingOptions(hold_s=5))
    async with running_server(path=PATH) as host:
        requests = requests_to(host)
        await begun(requests, "p")
        requests.close()
        port = host.port
    async with running_server(path=PATH, options=options, listening=ListenerOptions(port=port)) as host:
        for ask in (requests.get, lambda: requests.post(upload("b", inserts("p", 1, 1)))):
            answer = await ask()
            assert (answer.status, closed_as_told(answer).code) == (410, 4008)
        await begun(requests, "p2")
        requests.close()


async def test_once_told_a_device_waits_for_its_next_handshake() -> None:
    options = ServerOptions(handshake_timeout=0.2, polling=PollingOptions(hold_s=5))
    async with running_server(path=PATH, options=options) as host:
        requests, other = requests_to(host), requests_to(host)
        assert (await requests.get()).status == 410
        await eventually(lambda: host.server.get_connection_count() == 0)
        heard: list[dict[str, Any]] = []

        async def poll() -> None:
            heard.append((await requests.get()).json)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)  # as a client does that begins anew, before its handshake
            await trio.sleep(0.1)
            assert host.server.get_connection_count() == 0
            assert (await other.post(handshake("p"))).status == 202
        assert heard[0]["accepted"] is True
        requests.close()
        other.close()


async def test_last_words_are_fetched_before_the_end() -> None:
    async with running_server(path=PATH) as host:
        requests = requests_to(host)
        await requests.post("garbage")
        assert (await until_message(requests))["code"] == "MALFORMED_MESSAGE"
        answer = await requests.get()
        assert (answer.status, closed_as_told(answer).code) == (410, 4002)
        assert (await requests.post(handshake("p"))).status == 202
        requests.close()


async def test_a_device_that_asks_for_nothing_is_forgotten() -> None:
    options = ServerOptions(polling=PollingOptions(hold_s=0.05, idle_s=1))
    async with running_server(path=PATH, options=options) as host:
        requests = requests_to(host)
        await begun(requests, "p")
        assert host.server.get_connection_count() == 1
        await eventually(lambda: host.server.get_connection_count() == 0)
        assert (await requests.post(handshake("p"))).status == 202
        assert (await until_message(requests))["accepted"] is True
        requests.close()


async def test_a_server_that_stops_acknowledges_what_it_has_and_tells_the_end() -> None:
    async with running_server(path=PATH) as host, polling(host.url) as p:
        await p.shake_hands("p")
        await p.download()
        message_id = await p.upload(insert("p", 1))
        # Well within the grace, at the end of which sessions are cut off.
        with trio.fail_after(ServerOptions().shutdown_grace / 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.server.stop)
                assert (await p.hear())["acknowledgedMessageId"] == message_id
                with pytest.raises(Closed, match="1001"):
                    await p.hear()


async def test_a_refused_token_is_said_and_the_session_ends() -> None:
    provider = StaticTokenProvider([StaticToken(token_digest("tok"), AuthContext("u"))])
    async with running_server(auth=provider, path=PATH, options=ServerOptions(refusal_delay=0)) as host:
        async with polling(host.url, token="bad") as p:
            await p.say(
                {"type": "handshake", "nodeId": "p", "versionVector": {}, "schemaVersion": 1, "authToken": "bad"}
            )
            assert (await p.hear())["code"] == "AUTH_FAILED"
            assert (await p.closed()).code == 4001
        async with polling(host.url, token="tok") as p:
            assert (await p.shake_hands("p", authToken="tok"))["accepted"] is True


async def test_a_slow_device_is_closed() -> None:
    options = ServerOptions(polling=PollingOptions(max_buffered_bytes=20_000))
    async with running_server(path=PATH, options=options) as host, streaming(host.url, "w") as w:
        requests = requests_to(host)
        await begun(requests, "p")
        for first in (1, 101):
            await w.upload(*[insert("w", number, note="x" * 1_000) for number in range(first, first + 100)])
        with trio.fail_after(PATIENCE_S):
            while (answer := await requests.get()).status != 410:
                pass
        assert closed_as_told(answer).code == 4013
        requests.close()


async def test_the_least_buffer_of_a_configuration_takes_the_most_that_a_stream_has_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_ahead, "QUICK_S", PATIENCE_S)
    most = LimitSettings().max_operation_bytes
    # The third page is a large one, and ends with the largest operation there may be.
    small = [insert("w", number, note="x" * 800) for number in range(1, 1_467)]
    store = MemoryStore()
    seed(store, [*small, insert("w", 1_467, note="x" * (most - 400)), *inserts("w", 1_468, 1_600)])
    options = ServerOptions(polling=PollingOptions(max_buffered_bytes=-(-4 * (STREAM_BYTES + most) // 3)))
    async with running_server(store, path=PATH, options=options) as host:
        requests = requests_to(host)
        assert (await requests.post(handshake("p"))).status == 202
        assert (await requests.post(upload("nothing", [], total=1))).status == 202
        assert (await until_message(requests))["accepted"] is True
        assert (await until_message(requests))["acknowledgedMessageId"] == "nothing"
        (transport,) = [one._transport for one in host.server._reception.connections]
        for _ in range(2):
            await requests.post(acknowledgment(await until_message(requests)))
        await eventually(lambda: transport.buffered_bytes > STREAM_BYTES + most - (256 << 10))
        assert not host.server.measures.closes.by_name
        requests.close()


async def test_a_device_comes_to_have_a_message_however_large_it_is() -> None:
    store = MemoryStore()
    seed(store, [insert("w", number, note="x" * 1_000) for number in range(1, 101)])
    options = ServerOptions(polling=PollingOptions(max_buffered_bytes=10_000))
    async with running_server(store, path=PATH, options=options) as host, polling(host.url) as p:
        await p.shake_hands("p")
        assert len(ids(*await p.download())) == 100
        sent = await p.upload(insert("p", 1))
        assert (await p.hear())["acknowledgedMessageId"] == sent


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_message_that_is_too_large_is_413_and_ends_the_session(chunked: bool) -> None:
    options = ServerOptions(polling=PollingOptions(max_message_bytes=10_000))
    async with running_server(path=PATH, options=options) as host:
        requests = requests_to(host)
        await begun(requests, "p")
        async with await trio.open_tcp_stream("127.0.0.1", host.port) as stream:
            client = HttpClient(stream)
            length = b"transfer-encoding: chunked" if chunked else b"content-length: 10001"
            head = f"POST {requests.target} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode()
            await client.say(head + length + b"\r\n\r\n" + (b"2711\r\n" if chunked else b"") + b"x" * 10_001)
            assert (await client.hear("POST")).status == 413
        answer = await requests.get()
        assert (answer.status, closed_as_told(answer).code) == (410, 1009)
        assert host.server.measures.closes.by_name == {"1009": 1}
        requests.close()
