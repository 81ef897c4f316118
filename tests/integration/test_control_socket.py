"""The control socket: who can open it, what is done about leftovers and neighbours, and that it is gone at the end."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from kora_daemon.config import Settings
from kora_daemon.config.settings import AdminSettings, StoreSettings
from kora_daemon.errors import ListenError
from kora_daemon.http.access import Access, Role, Tokens
from kora_daemon.http.control_socket import serve_control_socket
from kora_daemon.http.messages import Request, Response, text_response
from kora_daemon.http.routes import Route, Routes
from tests.support.http import HttpClient
from tests.support.network import eventually
from tests.support.process import Daemon


async def private(request: Request) -> Response:
    return text_response(200, "a secret", **{"x-asked-by": request.address})


ROUTES = Routes(Access(Tokens("a-token")), [Route("/private", ("GET",), private, Role.ADMIN)], "/")


@asynccontextmanager
async def control_socket(path: Path) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control_socket, path, ROUTES.answer)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def client_of(path: Path) -> AsyncIterator[HttpClient]:
    async with await trio.open_unix_socket(path) as stream:
        yield HttpClient(stream)


async def test_it_answers_without_a_token(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    async with control_socket(path), client_of(path) as client:
        for _ in range(2):
            answer = await client.ask("/private")
            assert (answer.status, answer.body) == (200, b"a secret\n")
        assert (await client.ask("/nowhere")).status == 404


async def test_a_websocket_is_not_opened_there(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with control_socket(path), client_of(path) as client:
        assert (await client.ask("/", headers=upgrade)).status == 404


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
async def test_nobody_else_can_open_it_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "kora.sock"
    before = os.umask(umask)
    try:
        async with control_socket(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


async def test_it_is_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    async with control_socket(path):
        assert path.is_socket()
    assert not path.exists()


async def test_what_somebody_else_has_put_there_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    async with control_socket(path):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


async def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with control_socket(path), client_of(path) as client:
        assert (await client.ask("/private")).status == 200


async def test_the_socket_of_a_living_daemon_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    async with control_socket(path):
        assert re.search(r"another daemon listens there; name another place as admin\.socket", await refusal(path))
        async with client_of(path) as client:
            assert (await client.ask("/private")).status == 200


async def test_one_whose_backlog_is_full_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        assert re.search("another daemon", await refusal(path))


async def test_of_two_that_start_at_once_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        refused: list[ListenError] = []
        async with trio.open_nursery() as nursery:

            async def start(refused: list[ListenError] = refused, nursery: trio.Nursery = nursery) -> None:
                try:
                    await nursery.start(serve_control_socket, path, ROUTES.answer)
                except ListenError as error:
                    refused.append(error)

            async with trio.open_nursery() as starters:
                for _ in range(3):
                    starters.start_soon(start)
            assert len(refused) == 2
            async with client_of(path) as client:
                assert (await client.ask("/private")).status == 200
            nursery.cancel_scope.cancel()


async def test_a_file_by_that_name_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    path.write_text("a diary")
    assert re.search("something else by that name", await refusal(path))
    assert path.read_text() == "a diary"


async def test_a_link_by_that_name_is_left_alone(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "kora.sock", tmp_path / "elsewhere.sock"
    path.symlink_to(elsewhere)
    assert re.search("something else by that name", await refusal(path))
    assert path.is_symlink()


async def test_a_folder_in_which_everybody_writes_will_not_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert re.search("everybody may write", await refusal(tmp_path / "kora.sock"))
    tmp_path.chmod(0o1777)
    async with control_socket(tmp_path / "kora.sock"):
        pass
    tmp_path.chmod(0o700)


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert re.search(
        r"missing/kora\.sock: No such file or directory", await refusal(tmp_path / "missing" / "kora.sock")
    )


async def test_a_path_that_is_too_long_is_said_to_be(tmp_path: Path) -> None:
    assert re.search(r"path too long; name another place as admin\.socket", await refusal(tmp_path / ("k" * 120)))


async def refusal(path: Path) -> str:
    """What comes of listening at `path`."""
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(serve_control_socket, path, ROUTES.answer)
        except ListenError as error:
            return str(error)
        nursery.cancel_scope.cancel()
    return ""


# Where it is


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        (Settings(store=StoreSettings(path=Path("/srv/kora/app.db"))), Path("/srv/kora/kora.sock")),
        (Settings(store=StoreSettings(kind="memory"), source=Path("/etc/kora.toml")), Path("/etc/kora.sock")),
        (Settings(store=StoreSettings(kind="postgres"), source=Path("/etc/kora.toml")), Path("/etc/kora.sock")),
        (Settings(store=StoreSettings(kind="memory")), Path("kora.sock")),
        (Settings(admin=AdminSettings(socket=Path("/run/kora.sock"))), Path("/run/kora.sock")),
        (Settings(admin=AdminSettings(socket=False)), None),
    ],
)
def test_it_is_beside_the_file_of_the_store_unless_the_settings_say_otherwise(
    settings: Settings, path: Path | None
) -> None:
    assert settings.control_socket == path


# The daemon

CONFIG = '[server]\nhost = "127.0.0.1"\nport = 0\n'


async def test_a_daemon_has_one_beside_its_file_and_takes_it_away(tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    with Daemon(tmp_path) as daemon:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with client_of(path) as client:
            assert (await client.ask("/health")).json["status"] == "ok"
        assert await trio.to_thread.run_sync(daemon.stop) == 0
        assert not path.exists()
        daemon.start()
        daemon.kill()
        assert path.exists()
        daemon.start()
        async with client_of(path) as client:
            assert (await client.ask("/health")).status == 200


async def test_it_answers_until_the_last_session_is_gone(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG + "shutdown_grace = 60.0\n") as daemon:
        with socket.create_connection(("127.0.0.1", daemon.port)) as idle:
            idle.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            idle.recv(100)
            daemon.signal(signal.SIGTERM)
            await eventually(lambda: "daemon.stopping" in daemon.logged())
            async with client_of(tmp_path / "kora.sock") as client:
                assert (await client.ask("/health")).status == 200
        assert await trio.to_thread.run_sync(daemon.process.wait) == 0


def test_without_the_usual_place_a_daemon_goes_on_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "kora.sock").write_text("a diary")
    with Daemon(tmp_path) as daemon:
        assert daemon.stop() == 0
    assert "control.unavailable" in daemon.logged()


def test_without_the_place_that_was_asked_for_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("a diary")
    (tmp_path / "kora.toml").write_text(CONFIG + '[admin]\nsocket = "control"\n')
    ended = subprocess.run(
        [sys.executable, "-m", "koractl", "serve", "--config", str(tmp_path / "kora.toml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "something else by that name" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("none", ['""', "false"])
def test_none_is_made_when_none_is_wanted(tmp_path: Path, none: str) -> None:
    with Daemon(tmp_path, CONFIG + f"[admin]\nsocket = {none}\n") as daemon:
        assert not (tmp_path / "kora.sock").exists()
        assert daemon.stop() == 0
