"""The daemon as an operator meets it: a process, its signals, its exit codes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import trio

from tests.support.network import Client, Closed, connected, streaming
from tests.support.operations import wire_operation
from tests.support.process import Daemon


async def _until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.02)


async def _goodbye(client: Client) -> tuple[list[str], Closed]:
    """What a client hears until the server closes: acknowledged message ids, and how it was closed."""
    acknowledged: list[str] = []
    while True:
        try:
            message = await client.hear()
        except Closed as closed:
            return acknowledged, closed
        if message["type"] == "acknowledgment":
            acknowledged.append(message["acknowledgedMessageId"])


async def test_sigterm_acknowledges_what_was_received_and_closes_with_1001(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        async with streaming(daemon.url) as client:
            uploads = [await client.upload(wire_operation(n)) for n in range(1, 20)]
            await client.hear()
            daemon.signal(signal.SIGTERM)
            acknowledged, closed = await _goodbye(client)
        assert closed.code == 1001
        assert await trio.to_thread.run_sync(daemon.process.wait) == 0
        daemon.start()
        async with connected(daemon.url) as client:
            response = await client.shake_hands("node-b", versionVector={"node-a": 0})
        assert response["serverMaxDeliverySequence"] >= len(acknowledged) + 1
        assert acknowledged == uploads[1 : len(acknowledged) + 1]


async def test_the_database_and_the_node_id_outlive_a_kill(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        async with connected(daemon.url) as client:
            before = await client.shake_hands()
            await client.hear()
            await client.upload(wire_operation(1))
            assert (await client.hear())["type"] == "acknowledgment"
            daemon.kill()
        daemon.start()
        async with connected(daemon.url) as client:
            after = await client.shake_hands()
            batch = await client.hear()
    assert after["nodeId"] == before["nodeId"]
    assert [operation["id"] for operation in batch["operations"]] == [wire_operation(1)["id"]]


STATIC = (
    '[server]\nhost = "127.0.0.1"\nport = 0\n[auth]\nkind = "token"\nsource = "static"\nrefusal_delay = 0.1\n'
    '[[auth.tokens]]\ntoken = "open-sesame"\nuser = "ali"\nunscoped = true\n'
)


async def test_sighup_applies_what_can_change_live_and_drops_nobody(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        async with streaming(daemon.url) as client:
            daemon.config.write_text(
                '[server]\nhost = "127.0.0.1"\nport = 0\nmax_connections = 1\n[log]\nlevel = "debug"\n'
            )
            daemon.signal(signal.SIGHUP)
            await _until(lambda: "daemon.reloaded" in daemon.logged())
            async with connected(daemon.url) as other:
                assert (await other.hear())["code"] == "MAX_CONNECTIONS"
            assert await client.hears_nothing(1.5)
            await client.upload(wire_operation(1))
            assert (await client.hear())["type"] == "acknowledgment"


async def test_auth_that_is_switched_on_asks_everybody_who_is_there_to_sign_in(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        async with streaming(daemon.url) as client:
            daemon.config.write_text(STATIC)
            daemon.signal(signal.SIGHUP)
            _, closed = await _goodbye(client)
            assert closed.code == 1000
        async with connected(daemon.url) as stranger:
            assert (await stranger.shake_hands())["code"] == "AUTH_FAILED"
        async with connected(daemon.url) as friend:
            assert (await friend.shake_hands(authToken="open-sesame"))["accepted"] is True
        assert "open-sesame" not in daemon.logged()


async def test_a_broken_file_at_sighup_changes_nothing(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.config.write_text("[server]\nprot = 5\n")
        daemon.signal(signal.SIGHUP)
        await _until(lambda: "daemon.reload_failed" in daemon.logged())
        async with streaming(daemon.url):
            pass


async def test_a_second_signal_exits_at_once(tmp_path: Path) -> None:
    config = '[server]\nhost = "127.0.0.1"\nport = 0\nshutdown_grace = 60.0\n'
    with Daemon(tmp_path, config) as daemon, socket.create_connection(("127.0.0.1", daemon.port)) as idle:
        _upgrade_and_stop_reading(idle)
        daemon.signal(signal.SIGTERM)
        await _until(lambda: "daemon.stopping" in daemon.logged())
        daemon.signal(signal.SIGTERM)
        with trio.fail_after(5):
            await trio.to_thread.run_sync(daemon.process.wait, abandon_on_cancel=True)


def _upgrade_and_stop_reading(peer: socket.socket) -> None:
    peer.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    peer.recv(100)


def test_a_port_in_use_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "kora.toml").write_text(f'[server]\nhost = "127.0.0.1"\nport = {port}\n')
        ended = _kora("serve", "--config", str(tmp_path / "kora.toml"))
    assert ended.returncode == 1
    assert str(port) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_file_that_is_no_database_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "kora.db").write_bytes(b"this is not a database" * 100)
    (tmp_path / "kora.toml").write_text('[server]\nhost = "127.0.0.1"\nport = 0\n')
    ended = _kora("serve", "--config", str(tmp_path / "kora.toml"))
    assert ended.returncode == 1
    assert "kora.db" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "kora.db").read_bytes() == b"this is not a database" * 100


def test_logs_are_json_lines_with_stable_names(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        assert daemon.stop() == 0
    events = [json.loads(line)["event"] for line in daemon.logged().splitlines()]
    assert events[0] == "daemon.ready"
    assert events[-2:] == ["daemon.stopping", "daemon.stopped"]


def test_a_daemon_open_to_everybody_says_so(tmp_path: Path) -> None:
    with Daemon(tmp_path, '[server]\nhost = "0.0.0.0"\nport = 0\n') as daemon:
        assert daemon.stop() == 0
    assert "daemon.open_to_everybody" in daemon.logged()


def _kora(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "koractl", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
