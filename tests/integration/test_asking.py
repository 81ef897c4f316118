"""Commands that ask a running daemon: a real process, its control socket, its URL."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from koractl import running
from tests.support.cli import Ended, Kora
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


@pytest.mark.parametrize("around", ["{}\n", " {}\r\n"])
def test_white_space_around_the_token_does_not_count(
    kora: Kora, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    monkeypatch.setenv("KORA_ADMIN_TOKEN", around.format(TOKEN))
    assert kora("status", "--json", "--url", url(daemon)).json["version"]


def test_a_token_that_no_header_carries_is_not_repeated(kora: Kora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORA_ADMIN_TOKEN", "first\nsecond")
    ended = kora("status", "--url", "http://127.0.0.1:1")
    assert ended.code == 1
    assert ended.err.startswith("kora: KORA_ADMIN_TOKEN holds a line break")
    assert "first" not in ended.err + ended.out


def test_a_token_of_any_script_is_sent_as_it_is(kora: Kora, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORA_ADMIN_TOKEN", "ключ")
    assert "401" in kora("status", "--url", url(daemon)).err


@pytest.mark.parametrize("place", ["ftp://x", "127.0.0.1:4567"])
def test_what_is_no_url_is_said(kora: Kora, place: str) -> None:
    ended = kora("explain", "--node", "a", "--op", "b", "--url", place)
    assert (ended.code, ended.err) == (1, f"kora: --url {place}: expected http://HOST:PORT or https://HOST:PORT\n")


@pytest.mark.parametrize("place", ["http://me:secret@127.0.0.1:1", "me:secret@host", "ftp://secret@x"])
def test_a_password_in_the_url_is_refused_and_not_repeated(kora: Kora, place: str) -> None:
    ended = kora("status", "--url", place)
    assert ended.code == 1
    assert ended.err.startswith("kora: --url holds a user or a password; leave them out, ")
    assert "secret" not in ended.err + ended.out


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


async def beside_two_devices(daemon: Daemon, *calls: Callable[[], Ended]) -> list[Ended]:
    """How commands end while two devices are connected."""
    async with streaming(daemon.url, "desk") as desk, streaming(daemon.url, "phone"):
        await desk.upload(insert("desk", 1))
        await desk.hear()
        return [await trio.to_thread.run_sync(call) for call in calls]


def until_sessions_show(kora: Kora) -> Ended:
    """The status for people; it is made once a second at most, and another test may just have asked for it."""
    ended = kora.child("status")
    for _ in range(4):
        if not re.search(r"^sessions +none$", ended.out, re.MULTILINE):
            break
        ended = kora.child("status")
    return ended


async def test_status_tells_store_log_and_sessions(kora: Kora, daemon: Daemon) -> None:
    human, machine = await beside_two_devices(
        daemon, lambda: until_sessions_show(kora), lambda: kora.child("status", "--json")
    )
    lines = {line.split()[0]: line for line in human.out.splitlines()}
    assert "takes writes" in lines["store"]
    assert " 1 operations" in lines["log"]
    assert "2, 2 streaming, by 2 websocket" in lines["sessions"]
    assert machine.json["sessions"]["total"] == 2
    assert machine.json["log"]["operations"] == 1


async def test_sessions_are_listed_and_chosen(kora: Kora, daemon: Daemon) -> None:
    table, some, none = await beside_two_devices(
        daemon,
        lambda: kora.child("sessions"),
        lambda: kora.child("sessions", "--node", "phone", "--json"),
        lambda: kora.child("sessions", "--user", "nobody", "--json"),
    )
    assert "desk" in table.out
    assert "phone" in table.out
    header, desk = (
        re.split(r" *[┃│] *", line)[1:-1] for line in table.out.splitlines() if "node" in line or "desk" in line
    )
    shown = dict(zip(header, desk, strict=True))
    assert re.fullmatch(r"\d+ s", shown["age"])
    assert shown["buffered"] == "0 bytes"
    assert [one["node"] for one in some.json] == ["phone"]
    assert {type(some.json[0][name]) for name in ("age", "bufferedBytes")} == {float, int}
    assert none.json == []


async def test_who_is_kicked_is_closed(kora: Kora, daemon: Daemon) -> None:
    async with streaming(daemon.url, "desk") as desk, streaming(daemon.url, "phone") as phone:
        ended = await trio.to_thread.run_sync(lambda: kora.child("kick", "--node", "desk"))
        assert (ended.code, ended.out) == (0, "Closed 1 session.\n")
        assert (await desk.closed()).code in (1000, 1001)
        (session,) = (await trio.to_thread.run_sync(lambda: kora.child("sessions", "--json"))).json
        ended = await trio.to_thread.run_sync(lambda: kora.child("kick", str(session["session"]), "--refuse"))
        assert ended.code == 0
        assert (await phone.closed()).code == 4001


@pytest.mark.parametrize("arguments", [(), ("1", "--user", "a")])
def test_whom_to_kick_has_to_be_said_in_one_way(kora: Kora, arguments: tuple[str, ...]) -> None:
    assert kora("kick", *arguments).code == 2


def test_a_session_that_is_not_there_is_said(kora: Kora) -> None:
    ended = kora("kick", "999")
    assert ended.code == 1
    assert "There is no session 999" in ended.err


async def test_tail_follows_what_is_stored_and_shows_data_when_asked(kora: Kora, daemon: Daemon) -> None:
    with kora.begun("tail", "--after", "0", "--collection", "todos", "--json", "--data") as with_data:
        with kora.begun("tail", "--after", "0", "--node", "tail-desk") as plain:
            assert with_data.stdout is not None
            assert plain.stdout is not None
            async with streaming(daemon.url, "tail-desk") as desk:
                await desk.upload(insert("tail-desk", 1))
                await desk.hear()
                line = await trio.to_thread.run_sync(plain.stdout.readline)
                assert "insert  todos/" in line
                assert line.endswith("by tail-desk\n")
                while True:
                    told = json.loads(await trio.to_thread.run_sync(with_data.stdout.readline))
                    if told["node"] == "tail-desk":
                        assert told["data"] is not None
                        break


async def test_tail_says_why_something_is_missing(tmp_path: Path) -> None:
    config = '[server]\nhost = "127.0.0.1"\nport = 0\n'
    kora = Kora(tmp_path, config=config)
    with kora.store():
        pass  # there is one
    for number in range(3):
        assert kora("apply", "insert", "todos", f"early-{number}", "--data", "{}").code == 0
    with Daemon(tmp_path, config) as daemon, kora.begun("tail", "--after", "1") as behind:
        assert behind.stdout is not None
        line = await trio.to_thread.run_sync(behind.stdout.readline)
        assert line == "-- 2 to 3 are no longer in memory\n"
        async with streaming(daemon.url, "tail-desk") as desk:
            await desk.upload(insert("tail-desk", 1))
            assert "insert  todos/" in await trio.to_thread.run_sync(behind.stdout.readline)
        with kora.begun("tail", "--after", "9") as beyond:
            assert beyond.stdout is not None
            line = await trio.to_thread.run_sync(beyond.stdout.readline)
            assert line == "-- the log ends at 4, before 9: it goes on from there\n"


def test_a_gap_further_on_is_one_of_speed() -> None:
    for asked_after in (3, None):
        assert (
            running._told({"gap": {"after": 7, "upto": 5_000}}, asked_after)
            == "-- 8 to 5000 went by too fast to be shown"
        )


def test_reload_says_what_it_applied_and_what_has_to_wait(tmp_path: Path) -> None:
    config = '[server]\nhost = "127.0.0.1"\nport = 0\n'
    with Daemon(tmp_path, config) as daemon:
        kora = Kora(tmp_path, config=config)
        assert kora("reload").out == "Nothing to apply has changed.\n"
        daemon.config.write_text(f'{config}batch_size = 7\npath = "/sync"\n[log]\nlevel = "warning"\n')
        outcome = kora("reload")
        assert outcome.code == 0
        applied, waiting = outcome.out.splitlines()
        assert "log.level" in applied
        assert waiting == "Needs a restart: server.path"
        daemon.config.write_text(f"{config}bath_size = 7\n")
        refused = kora("reload", "--url", f"http://127.0.0.1:{daemon.port}")
        assert (refused.code, refused.out) == (78, "")
        assert "bath_size" in refused.err
        assert kora("status", "--url", f"http://127.0.0.1:{daemon.port}").code == 0
