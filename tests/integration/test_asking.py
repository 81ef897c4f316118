"""Commands that ask a running daemon: a real process, its control socket, its URL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.support.cli import Kora
from tests.support.devices import insert
from tests.support.network import streaming
from tests.support.process import Daemon

TOKEN = "operators-only"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("asking")
    config = f'[server]\nhost = "127.0.0.1"\nport = 0\n[admin]\nadmin_token = "{TOKEN}"\n'
    with Daemon(folder, config) as made:
        yield made


@pytest.fixture
def kora(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Kora:
    monkeypatch.setenv("KORA_ADMIN_TOKEN", TOKEN)
    return Kora(daemon.folder, config=daemon.config.read_text())


def url(daemon: Daemon) -> str:
    return f"http://127.0.0.1:{daemon.port}"


async def asked_beside_a_device(kora: Kora, daemon: Daemon, *arguments: str) -> str:
    """What a command prints while a device "phone" is connected and an operation of "desk" is there."""
    async with streaming(daemon.url, "desk") as desk, streaming(daemon.url, "phone"):
        await desk.upload(insert("desk", 1))
        await desk.hear()
        return (await trio.to_thread.run_sync(lambda: kora.child(*arguments))).out


async def test_explain_tells_operation_session_and_progress(kora: Kora, daemon: Daemon) -> None:
    operation = insert("desk", 1)["id"]
    out = await asked_beside_a_device(kora, daemon, "explain", "--node", "phone", "--op", operation)
    assert out.splitlines()[0].split(":")[0] in ("sent", "delivered", "to-come")
    assert f"{operation} of desk, number 1 in the log, on todos/" in out
    assert "granted   everything" in out
    assert "progress  sent up to " in out


def test_the_same_over_the_url(kora: Kora, daemon: Daemon) -> None:
    found = kora("explain", "--node", "phone", "--op", "none", "--json", "--url", url(daemon)).json
    assert (found["verdict"], found["operation"]) == ("not-in-log", "none")


def test_a_wrong_token_is_refused_in_words(kora: Kora, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORA_ADMIN_TOKEN", "wrong")
    ended = kora("explain", "--node", "a", "--op", "b", "--url", url(daemon))
    assert ended.code == 1
    assert "401" in ended.err
    assert "wrong" not in ended.err


@pytest.mark.parametrize("place", ["ftp://x", "127.0.0.1:4567"])
def test_what_is_no_url_is_said(kora: Kora, place: str) -> None:
    ended = kora("explain", "--node", "a", "--op", "b", "--url", place)
    assert (ended.code, ended.err) == (1, f"kora: --url {place}: expected http://HOST:PORT or https://HOST:PORT\n")


def test_nobody_there_is_said(kora: Kora, tmp_path: Path) -> None:
    alone = Kora(tmp_path)
    ended = alone("explain", "--node", "a", "--op", "b")
    assert (ended.code, ended.out) == (1, "")
    assert f"no daemon answers at {tmp_path}/kora.sock; is it running?" in ended.err
    assert "can't be reached" in alone("explain", "--node", "a", "--op", "b", "--url", "http://127.0.0.1:1").err


def test_without_a_control_socket_there_is_only_the_url(tmp_path: Path) -> None:
    ended = Kora(tmp_path, config='[admin]\nsocket = ""\n')("explain", "--node", "a", "--op", "b")
    assert ended.code == 1
    assert "admin.socket" in ended.err
