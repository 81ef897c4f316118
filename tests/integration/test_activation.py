"""Sockets that a service manager hands over (sd_listen_fds(3)): real ones, to a real process."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from kora_daemon import activation
from kora_daemon.activation import inherited_sockets
from kora_daemon.errors import ListenError
from tests.support.devices import insert
from tests.support.http import http_client
from tests.support.network import connected, eventually, streaming
from tests.support.process import Daemon
from tests.support.service_manager import listening, managed

CHILD = """
import os, sys
paths = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd") if int(one) > 2]
open_files = [os.readlink(one) for one in paths if os.path.lexists(one)]
with open(sys.argv[1], "w") as file:
    print(*os.environ, *open_files, sep="\\n", file=file)
    print("END", file=file)
input()
"""
"""Writes down what it was given."""


async def test_a_daemon_serves_the_sockets_it_is_handed_in_place_of_its_own_port(tmp_path: Path) -> None:
    with listening() as four, listening("::1") as six, Daemon(tmp_path, sockets=[four, six]) as daemon:
        assert daemon.urls == [f"ws://127.0.0.1:{four.getsockname()[1]}/", f"ws://[::1]:{six.getsockname()[1]}/"]
        for number, url in enumerate(daemon.urls):
            async with streaming(url, f"node-{number}"):
                pass


async def test_a_socket_for_both_families_knows_this_machine_by_either(tmp_path: Path) -> None:
    with listening("::") as both, Daemon(tmp_path, sockets=[both]) as daemon:
        for host in ("127.0.0.1", "::1"):
            async with http_client(daemon.port, host) as client:
                assert (await client.ask("/__kora/status")).status == 200  # without a token
            async with streaming(f"ws://{f'[{host}]' if ':' in host else host}:{daemon.port}/"):
                pass
        await eventually(lambda: daemon.logged().count("session.closed") == 2)
        assert '"address": "127.0.0.1"' in daemon.logged()


async def test_who_comes_while_no_daemon_is_there_waits_for_the_next_one(tmp_path: Path) -> None:
    with listening() as opened:
        daemon = Daemon(tmp_path, sockets=[opened])
        with daemon:
            async with streaming(daemon.url, "a") as a:
                await a.upload(insert("a", 1))
                assert (await a.hear())["type"] == "acknowledgment"
            daemon.signal(signal.SIGTERM)
            assert await trio.to_thread.run_sync(daemon.process.wait) == 0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, daemon.start)
                async with connected(daemon.url) as b:  # begun while nobody is there
                    assert (await b.shake_hands("b"))["serverMaxDeliverySequence"] == 1


def test_sockets_of_another_process_are_none_of_ours() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDNAMES": "kora.socket"}
    assert inherited_sockets(environ) == []
    assert environ == {}
    assert inherited_sockets({}) == []


async def test_children_of_the_daemon_get_neither_sockets_nor_variables(tmp_path: Path) -> None:
    child, seen = tmp_path / "child.py", tmp_path / "seen"
    child.write_text(CHILD)
    command = f'["{sys.executable}", "{child}", "{seen}"]'
    config = f'[auth]\nkind = "token"\nsource = "command"\ncommand = {command}\ntimeout = 0.1\n'
    with listening() as opened, managed(tmp_path) as manager:
        with Daemon(tmp_path, config, manager.environment | {"WATCHDOG_USEC": "9000000"}, [opened]) as daemon:
            async with connected(daemon.url) as client:
                assert (await client.shake_hands("a", authToken="t"))["code"] == "AUTH_UNAVAILABLE"
            await eventually(lambda: seen.exists() and seen.read_text().endswith("END\n"))
    found = seen.read_text()
    assert "PATH" in found
    for withheld in ("LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "socket:"):
        assert withheld not in found


@pytest.mark.parametrize("kind", ["unix", "datagram", "connected", "file"])
def test_what_no_device_could_connect_to_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with listening() as listener, made(kind, tmp_path, listener) as descriptor:
        monkeypatch.setattr(activation, "FIRST_DESCRIPTOR", descriptor)
        environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "kora.socket"}
        with pytest.raises(
            ListenError, match=r"\(kora.socket\) (is no listening TCP socket|can't be used as a socket)"
        ):
            inherited_sockets(environ)


@contextmanager
def made(kind: str, folder: Path, listener: socket.socket) -> Iterator[int]:
    """A descriptor that is no listening TCP socket. It is given away."""
    if kind == "file":
        with (folder / "file").open("w") as file:
            yield file.fileno()
        return
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    one = socket.socket(family, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    if kind == "unix":
        one.bind(str(folder / "socket"))
        one.listen()
    if kind == "connected":
        one.connect(listener.getsockname())
    yield one.detach()


def test_a_socket_that_can_not_be_used_ends_the_start(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        daemon = Daemon(tmp_path, sockets=[unix])
        daemon.begin()
        assert daemon.process.wait() == 1
    assert "ListenStream=" in daemon.logged()
    assert "Traceback" not in daemon.logged()
