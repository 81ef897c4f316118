"""What is answered on the one port besides WebSockets, and to whom nobody speaks."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import apsw
import pytest
import trio
from msgspec.structs import replace
from structlog.testing import capture_logs

from kora_daemon.errors import ListenError
from kora_daemon.http import connection as http
from kora_daemon.http.access import Access, Tokens
from kora_daemon.http.listener import Listener, ListenerOptions
from kora_daemon.http.surface import surface
from kora_daemon.server import writer
from kora_daemon.store.sqlite import SqliteStore
from tests.support.devices import insert
from tests.support.http import HttpClient, http_client
from tests.support.network import PATIENCE_S, Host, connected, nothing_crashes, running_server, streaming

UPGRADE = {
    "connection": "keep-alive, Upgrade",
    "upgrade": "WebSocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
TEXT, CLOSE, PING = 0x1, 0x8, 0x9


# Plain requests


async def test_health_tells_that_all_is_well_and_how_much_is_there() -> None:
    async with running_server() as host, streaming(host.url, "a") as a, http_client(host.port) as client:
        await a.upload(insert("a", 1))
        await a.hear()
        answer = await client.ask("/health")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert {name: type(value) for name, value in answer.json.items()} == {
            "status": str,
            "version": str,
            "uptime": float,
            "connectedClients": int,
            "totalOperations": int,
            "timestamp": int,
        }
        assert (answer.json["status"], answer.json["connectedClients"], answer.json["totalOperations"]) == ("ok", 1, 1)


async def test_head_has_the_head_only() -> None:
    async with running_server() as host, http_client(host.port) as client:
        answer = await client.ask("/health", "HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
        assert (await client.ask("/health")).status == 200


@pytest.mark.parametrize("path", ["/health", "/__kora/status"])
async def test_a_server_that_is_over_while_it_is_asked_is_no_crash(path: str) -> None:
    with trio.fail_after(10):
        async with running_server(access=Access(Tokens("secret"))) as host, http_client(host.port) as client:
            await host.server.stop()
            answer = await client.ask(path, headers={"authorization": "Bearer secret"})
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
            assert answer.body == b"The server is shutting down\n"


async def test_an_unknown_path_is_404_and_says_where_devices_connect() -> None:
    async with running_server(path="/kora-sync") as host, http_client(host.port) as client:
        answer = await client.ask("/")
        assert answer.status == 404
        assert b"/kora-sync" in answer.body


@pytest.mark.parametrize(("path", "allow"), [("/health", "GET, HEAD"), ("/sync", "GET, POST")])
async def test_another_method_is_405_and_says_which_are_possible(path: str, allow: str) -> None:
    async with running_server(path="/sync") as host, http_client(host.port) as client:
        answer = await client.ask(path, "DELETE")
        assert (answer.status, answer.headers["allow"]) == (405, allow)


async def test_a_request_with_a_body_is_answered() -> None:
    async with running_server() as host, http_client(host.port) as client:
        assert (await client.ask("/health", "POST", b"a body")).status == 405


async def test_a_browser_at_the_sync_path_is_told_what_to_do_there() -> None:
    async with running_server() as host, http_client(host.port) as client:
        answer = await client.ask("/")
        assert answer.status == 400
        assert b"WebSocket" in answer.body
        assert b"clientId" in answer.body


async def test_an_upgrade_that_a_proxy_took_apart_is_426_at_once() -> None:
    async with running_server() as host, http_client(host.port) as client:
        left = {name: value for name, value in UPGRADE.items() if name not in ("connection", "upgrade")}
        answer = await client.ask("/?clientId=a", headers=left)
        assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")


@pytest.mark.parametrize(
    "odd",
    [
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window\x80_bits",
        b"Sec-WebSocket-Protocol: \xff",
        b"Host: a..b",
        b"Host: \xff",
        b"Host: " + b"a" * 300,
        b"Connection: \xe9, upgrade",
        b"Sec-WebSocket-Key: \xff",
    ],
)
async def test_an_upgrade_whose_headers_nobody_can_decode_is_one_all_the_same(odd: bytes) -> None:
    name = odd.partition(b":")[0].decode().lower()
    lines = [f"{key}: {value}".encode() for key, value in ({"host": "x"} | UPGRADE).items() if key != name]
    with nothing_crashes():
        async with running_server() as host, http_client(host.port) as client:
            await client.say(b"\r\n".join([b"GET / HTTP/1.1", *lines, odd, b"", b""]))
            assert (await client.some()).startswith(b"HTTP/1.1 101 ")


async def test_a_query_does_not_change_the_path() -> None:
    async with running_server() as host, http_client(host.port) as client:
        assert (await client.ask("/health?probe=1&probe=2")).status == 200


async def test_one_connection_serves_several_requests() -> None:
    async with running_server() as host, http_client(host.port) as client:
        for path, status in [("/health", 200), ("/nowhere", 404), ("/", 400), ("/health", 200)]:
            assert (await client.ask(path)).status == status


async def test_two_requests_in_one_packet_get_two_answers() -> None:
    async with running_server() as host, http_client(host.port) as client:
        request = b"GET /health HTTP/1.1\r\nhost: x\r\n"
        await client.say(request + b"\r\n" + request + b"connection: close\r\n\r\n")
        assert (await client.rest()).count(b"HTTP/1.1 200") == 2


# A store in trouble


async def test_health_is_503_while_the_store_is_locked_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_INTERVAL_S", 0.02)
    path = tmp_path / "kora.db"
    store = SqliteStore(path, busy_timeout_ms=20)
    async with running_server(store) as host, http_client(host.port) as client:
        lock = apsw.Connection(str(path))
        lock.execute("BEGIN IMMEDIATE")
        await refused_upload(host)
        answer = await client.ask("/health")
        assert (answer.status, answer.json["status"]) == (503, "unavailable")
        assert str(tmp_path) not in answer.body.decode()
        lock.close()
        await until_healthy(client)
        await accepted_upload(host)


async def test_health_is_503_while_the_file_is_gone_and_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PROBE_INTERVAL_S", 0.02)
    home, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    home.mkdir()
    async with running_server(SqliteStore(home / "kora.db")) as host, http_client(host.port) as client:
        home.rename(elsewhere)
        await refused_upload(host)
        assert (await client.ask("/health")).status == 503
        elsewhere.rename(home)
        await until_healthy(client)
        await accepted_upload(host)


async def refused_upload(host: Host) -> None:
    """An upload that is neither stored nor acknowledged."""
    async with connected(host.url) as a:
        await a.shake_hands("a")
        await a.upload(insert("a", 1))
        heard = []
        with pytest.raises(Exception, match="1011"):  # noqa: PT012
            while True:
                heard.append((await a.hear())["type"])
        assert "acknowledgment" not in heard


async def accepted_upload(host: Host) -> None:
    """The same upload again, now acknowledged."""
    async with streaming(host.url, "a") as a:
        await a.upload(insert("a", 1))
        assert (await a.hear())["type"] == "acknowledgment"
    assert host.server.get_status().total_operations == 1


async def until_healthy(client: HttpClient) -> None:
    """Wait until /health is 200."""
    with trio.fail_after(PATIENCE_S):
        while (await client.ask("/health")).status != 200:
            await trio.sleep(0.01)


# Nonsense


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=["tls", "no request", "no host", "bad length", "bad target"],
)
async def test_what_is_no_request_is_refused(nonsense: bytes) -> None:
    async with running_server() as host:
        async with http_client(host.port) as client:
            await client.say(nonsense)
            assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        async with http_client(host.port) as client:
            assert (await client.ask("/health")).status == 200


async def test_a_head_that_is_too_long_is_refused() -> None:
    async with running_server() as host, http_client(host.port) as client:
        await client.say(b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 17_000)
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")


async def test_a_head_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.05)
    async with running_server() as host, http_client(host.port) as client:
        await client.say(b"GET /health HTTP/1.1\r\nhost: x\r\n")
        assert await client.rest() == b""


async def test_a_connection_that_asks_for_nothing_more_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_TIMEOUT_S", 0.05)
    async with running_server() as host, http_client(host.port) as client:
        assert (await client.ask("/health")).status == 200
        assert await client.rest() == b""


# Upgrades


@pytest.mark.parametrize(
    "missing", [{"sec-websocket-key": ""}, {"sec-websocket-version": "8"}, {"upgrade": "h2c"}, {"connection": "close"}]
)
async def test_a_malformed_upgrade_is_answered_like_a_plain_request(missing: dict[str, str]) -> None:
    headers = {name: value for name, value in (UPGRADE | missing).items() if value}
    async with running_server() as host, http_client(host.port) as client:
        answer = await client.ask("/", headers=headers)
        assert (answer.status, answer.headers["sec-websocket-version"]) == (426, "13")


async def test_an_upgrade_elsewhere_is_404() -> None:
    async with running_server(path="/kora-sync") as host, http_client(host.port) as client:
        assert (await client.ask("/", headers=UPGRADE)).status == 404
        assert (await client.ask("/health", headers=UPGRADE)).status == 200


async def test_a_connection_may_be_upgraded_after_plain_requests_with_frames_right_behind() -> None:
    handshake = {"type": "handshake", "messageId": "m", "nodeId": "a", "versionVector": {}, "schemaVersion": 1}
    frames = [client_frame(TEXT, json.dumps(handshake).encode())] * 3 + [client_frame(CLOSE, b"")]
    async with running_server() as host, http_client(host.port) as client:
        assert (await client.ask("/health")).status == 200
        await client.say(upgrade_request() + b"".join(frames))
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert answer.count(b"handshake-response") == 1
        assert answer.count(b"DUPLICATE_HANDSHAKE") == 2


@pytest.mark.parametrize("goodbye", [b"", b"\x03", b"\x03\xe8\xff", b"\x00\x01"])
async def test_what_a_peer_says_behind_its_end_is_its_own_trouble(goodbye: bytes) -> None:
    async with running_server() as host, http_client(host.port) as client:
        await client.say(upgrade_request())
        frames = client_frame(TEXT, b"this is no JSON") + client_frame(PING, b"") + client_frame(CLOSE, goodbye)
        with suppress(trio.BrokenResourceError):  # the server need not wait for the third goodbye
            for _ in range(3):
                await client.say(frames)
        await client.rest()


def upgrade_request() -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in UPGRADE.items()]
    return ("GET / HTTP/1.1\r\nhost: x\r\n" + "".join(lines) + "\r\n").encode()


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A short frame, masked with zeros."""
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


# Where it listens, and who is calling


async def test_a_port_is_shared_by_those_who_all_say_so() -> None:
    sharing = ListenerOptions(port=0, reuse_port=True)
    async with running_server(listening=sharing) as first:
        async with running_server(listening=replace(sharing, port=first.port)) as second:
            assert second.port == first.port
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{first.port}: the port is taken"):
            await Listener(first.server, surface(first.server, "/"), ListenerOptions(port=first.port)).open()


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        (("::1", "0.0.0.0"), "0.0.0.0:PORT: the port is taken, by another entry of server.host, another daemon"),
        (("192.0.2.1",), "192.0.2.1:PORT: this machine has no such address; correct server.host"),
        (("nowhere.invalid",), "nowhere.invalid:PORT: the name is not known"),
    ],
)
async def test_what_can_not_be_listened_on_is_named_with_a_way_out(hosts: tuple[str, ...], said: str) -> None:
    async with running_server() as host:
        options = ListenerOptions(hosts=hosts, port=host.port)
        with pytest.raises(ListenError) as refused:
            await Listener(host.server, surface(host.server, "/"), options).open()
    assert str(refused.value).startswith(f"can't listen on {said.replace('PORT', str(host.port))}")


async def test_it_listens_on_several_addresses_with_one_free_port() -> None:
    listening = ListenerOptions(hosts=("127.0.0.1", "::1"), port=0)
    async with running_server(listening=listening) as host:
        assert host.addresses == [f"127.0.0.1:{host.port}", f"[::1]:{host.port}"]
        for address in ("127.0.0.1", "::1"):
            async with http_client(host.port, address) as client:
                assert (await client.ask("/health")).status == 200
        async with streaming(f"ws://[::1]:{host.port}/", "a") as a:
            await a.upload(insert("a", 1))
            assert (await a.hear())["type"] == "acknowledgment"


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ([], "192.0.2.9", "127.0.0.1"),
        (["127.0.0.0/8"], "192.0.2.9", "192.0.2.9"),
        (["127.0.0.0/8"], "192.0.2.9, 10.0.0.5", "10.0.0.5"),
        (["127.0.0.0/8", "10.0.0.0/8"], "192.0.2.9, 10.0.0.5", "192.0.2.9"),
        (["127.0.0.0/8", "10.0.0.0/8"], "198.51.100.1, 192.0.2.9, 10.0.0.5", "192.0.2.9"),
        (["127.0.0.0/8"], "", "127.0.0.1"),
    ],
)
async def test_only_a_trusted_proxy_says_for_whom_it_speaks(trusted: list[str], forwarded: str, address: str) -> None:
    listening = ListenerOptions(port=0, trusted_proxies=[ip_network(network) for network in trusted])
    with capture_logs() as logged:
        async with running_server(listening=listening) as host:
            headers = [(b"x-forwarded-for", forwarded.encode())]
            async with connected(host.url, extra_headers=headers) as client:
                await client.shake_hands()
    assert [event["address"] for event in logged if event["event"] == "session.joined"] == [address]
