"""Somebody's code judges tokens: validators, HTTP, a child process."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from kora_daemon.auth.answers import read_answer
from kora_daemon.auth.command import CommandHook
from kora_daemon.auth.contract import ANEW, NOBODY, AuthContext, Caller
from kora_daemon.auth.mixed import MixedAuthProvider
from kora_daemon.auth.scoping import TableScoping
from kora_daemon.auth.templates import parse_table
from kora_daemon.auth.token import HookProvider, StaticToken, StaticTokenProvider, TokenAuthProvider
from kora_daemon.auth.web import MAX_ANSWER_BYTES, http_hook, key_set_fetcher
from kora_daemon.errors import AuthUnavailable
from kora_daemon.server.auth_calls import AuthCalls
from tests.support.endpoint import Endpoint

HERE = Caller("node-1", "192.0.2.1")


# --- validators


async def test_a_validator_may_be_plain_or_async() -> None:
    names: list[str] = []

    def plain(token: str) -> Any:
        names.append(threading.current_thread().name)
        return {"userId": token} if token else None

    async def other(token: str) -> Any:
        await trio.sleep(0)
        return plain(token)

    for validate in (plain, other, partial(other), lambda token: other(token or "")):
        provider = TokenAuthProvider(validate, shared_data=True)
        provider.use(AuthCalls())
        assert await provider.authenticate("ali") == AuthContext("ali")
        assert await provider.authenticate("") is None
        assert await provider.authenticate("x" * (1 << 17)) is None
    assert names[0] == "kora-auth"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"userId": ""},
        {"userId": 7},
        {"userId": None, "scopes": {}},
        True,
        "ali",
        ["ali"],
        {"userId": "a", "scopes": []},
        {"userId": "a", "scopes": {"todos": None}},
        {"userId": "a", "scopes": {"todos": {"tags": ["x"]}}},
        {"userId": "a", "scopes": {"todos": {"x": float("nan")}}},
        {"userId": "a", "scopes": {"todos": {"__readonly": 1}}},
        {"userId": "a", "scopes": {1: {}}},
        {"userId": "a", "scope": {}},
        {"userId": "a", "Scopes": {}},
        {"userId": "a", "metadata": "x"},
        {"userId": "a", "expiresAt": "soon"},
        {"userId": "a", "expiresAt": True},
    ],
    ids=str,
)
async def test_what_is_no_answer_is_a_failure_and_never_a_user(answer: Any) -> None:
    with pytest.raises(AuthUnavailable):
        await TokenAuthProvider(lambda token: answer).authenticate("t")


def test_an_answer_may_say_more_than_a_user() -> None:
    assert read_answer(
        {"userId": "a", "scopes": {"t": {"x": None}}, "metadata": {"b": 1}, "expiresAt": 5, "other": 1}
    ) == AuthContext("a", {"t": {"x": None}}, {"b": 1}, expires_at=5)
    assert read_answer(AuthContext("a", {}, device_id="d")) == AuthContext("a", {}, device_id="d")
    assert read_answer({"userId": "a", "scopes": None}) == AuthContext("a")


async def test_whatever_a_validator_raises_is_an_outage_that_quotes_no_token() -> None:
    def broken(token: str) -> Any:
        raise ValueError(token)

    def quits(token: str) -> Any:
        sys.exit(1)

    async def async_broken(token: str) -> Any:
        raise KeyError(token)

    for validate in (broken, quits, async_broken):
        with pytest.raises(AuthUnavailable) as raised:
            await TokenAuthProvider(validate).authenticate("s3cret")
        assert "s3cret" not in str(raised.value)
        assert raised.value.__cause__ is None


async def test_a_validator_that_hangs_is_given_up() -> None:
    over = threading.Event()

    async def forever(token: str) -> Any:
        await trio.sleep_forever()

    for validate in (lambda token: over.wait(5), forever):
        provider = TokenAuthProvider(validate, timeout_s=0.01)
        provider.use(AuthCalls())
        with pytest.raises(AuthUnavailable):
            await provider.authenticate("t")
    over.set()


async def test_answers_hold_for_a_while_and_for_the_same_caller_only() -> None:
    now, asked = 100.0, []

    def ask(token: str, caller: Caller) -> Any:
        asked.append((token, caller.address))
        return None if token == "bad" else {"userId": token, "scopes": {}, "expiresAt": 120}

    provider = HookProvider(ask, cache_s=30.0, clock=lambda: now)
    for token, caller in (("a", HERE), ("a", HERE), ("a", NOBODY), ("bad", HERE), ("bad", HERE)):
        await provider.judge(token, caller)
    assert asked == [("a", "192.0.2.1"), ("a", None), ("bad", "192.0.2.1")]
    now = 105.0
    await provider.judge("bad", HERE)
    assert len(asked) == 4
    now = 119.0
    assert await provider.judge("a", HERE)
    assert len(asked) == 4
    now = 120.0
    assert await provider.judge("a", HERE) is None, "it has expired"


async def test_answers_without_scopes_get_those_of_the_file() -> None:
    table = TableScoping(parse_table({"todos": {"by": "{sub}", "org": "{metadata.org}"}}))
    answers: dict[str, Any] = {
        "a": {"userId": "a", "metadata": {"org": 7}},
        "b": {"userId": "b", "scopes": {}},
        "c": {"userId": "c"},
    }
    provider = TokenAuthProvider(answers.get, scoping=table)
    found = [await provider.authenticate(token) for token in "abc"]
    assert [None if one is None else one.scopes for one in found] == [{"todos": {"by": "a", "org": 7}}, {}, None]
    assert found[2] is None


async def test_an_unrestricted_user_is_warned_about_once() -> None:
    with structlog.testing.capture_logs() as lines:
        provider = TokenAuthProvider(lambda token: {"userId": token})
        for token in "ab":
            await provider.authenticate(token)
    assert [line["event"] for line in lines] == ["auth.unrestricted"]


async def test_live_sessions_are_asked_about_again() -> None:
    now = 100.0
    answers: dict[str, Any] = {"t": {"userId": "a", "scopes": {}, "expiresAt": 200}}
    provider = HookProvider(lambda token, caller: answers[token], cache_s=30.0, clock=lambda: now)
    context = await provider.judge("t", HERE)
    assert context is not None
    answers["t"] = {"userId": "a", "scopes": {"todos": {}}}
    assert await provider.revalidate([context]) == [AuthContext("a", {"todos": {}})]
    answers["t"] = {"userId": "b"}
    assert await provider.revalidate([context, AuthContext("x")]) == [ANEW, ANEW]
    answers["t"] = None
    assert await provider.revalidate([context]) == [None]
    assert await provider.judge("t", HERE) is None, "the remembered answer went, too"
    now = 200.0
    assert await provider.revalidate([context]) == [context], "nobody can be asked about an expired token"
    assert "t" not in f"{context.grounds!r}".replace("HookGrounds", "")


# --- mixed


async def test_an_outage_makes_nobody_a_visitor() -> None:
    def down(token: str) -> Any:
        raise OSError

    provider = MixedAuthProvider(TokenAuthProvider(down), {}, accept_refused=True)
    with pytest.raises(AuthUnavailable):
        await provider.authenticate("t")
    assert await provider.authenticate("")


async def test_visitors_keep_their_ids_and_get_the_scopes_of_now() -> None:
    primary = StaticTokenProvider([StaticToken("0" * 64, AuthContext("x"))])
    before = MixedAuthProvider(primary, {"a": {}})
    visitor, other = [await before.authenticate("") for _ in range(2)]
    assert visitor is not None
    assert other is not None
    assert len(visitor.user_id) >= len("anon-") + 16
    assert visitor.user_id != other.user_id
    after = MixedAuthProvider(primary, {"b": {}})
    stranger = AuthContext("somebody")
    assert await after.revalidate([visitor, stranger, other]) == [
        AuthContext(visitor.user_id, {"b": {}}),
        ANEW,
        AuthContext(other.user_id, {"b": {}}),
    ]


async def test_the_primary_provider_is_told_who_calls_and_lent_threads() -> None:
    callers = []

    def ask(token: str, caller: Caller) -> Any:
        callers.append((caller, threading.current_thread().name))

    primary = HookProvider(ask)
    provider = MixedAuthProvider(primary, {})
    provider.use(AuthCalls())
    assert await provider.judge("t", HERE) is None
    assert callers == [(HERE, "kora-auth")]
    provider.tend()
    provider.close()


async def test_rows_that_leave_the_table_end_their_sessions() -> None:
    from kora_daemon.auth.contract import token_digest

    row = StaticToken(token_digest("t"), AuthContext("ali", {"todos": {}}))
    context = await StaticTokenProvider([row]).authenticate("t")
    assert context is not None
    wider = StaticToken(row.sha256, AuthContext("ali"))
    assert await StaticTokenProvider([wider]).revalidate([context]) == [AuthContext("ali")]
    assert await StaticTokenProvider([]).revalidate([context, AuthContext("x")]) == [None, ANEW]


# --- source "http"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


async def test_a_service_is_asked_and_its_answer_is_the_context(endpoint: Endpoint) -> None:
    endpoint.body = json.dumps({"userId": "ali", "scopes": {"todos": {}}}).encode()
    url = f"http://127.0.0.1:{endpoint.port}/auth?x=1"
    provider = HookProvider(http_hook(url, {"Authorization": "Bearer hook", "X-Name": "ö"}, 5.0))
    provider.use(AuthCalls())
    assert await provider.judge("tök\ud800en", HERE) == AuthContext("ali", {"todos": {}})
    ((method, path, headers, body),) = endpoint.asked
    assert (method, path, headers["Authorization"]) == ("POST", "/auth?x=1", "Bearer hook")
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"token": "tök\ud800en", "nodeId": "node-1", "address": "192.0.2.1"}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_service_refuses_with_401_and_403(endpoint: Endpoint, status: int) -> None:
    endpoint.status = status
    assert await HookProvider(http_hook(f"http://u:p@127.0.0.1:{endpoint.port}", None, 5.0)).authenticate("t") is None
    assert endpoint.asked[0][2]["Authorization"] == "Basic dTpw"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"\xff"),
        (200, b'{"userId": ""}'),
        (201, b'{"userId": "ali"}'),
        (302, b'{"userId": "ali"}'),
        (404, b"null"),
        (500, b'{"userId": "ali"}'),
        (200, b" " * (MAX_ANSWER_BYTES + 1)),
    ],
    ids=str,
)
async def test_anything_else_from_a_service_is_an_outage(endpoint: Endpoint, status: int, body: bytes) -> None:
    endpoint.status, endpoint.body = status, body
    with pytest.raises(AuthUnavailable):
        await HookProvider(http_hook(f"http://127.0.0.1:{endpoint.port}", None, 5.0)).authenticate("t")
    assert len(endpoint.asked) == 1


def _raw_server(answer: bytes) -> tuple[socket.socket, int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            peer, _ = listener.accept()
            peer.recv(1 << 16)
            peer.sendall(answer)
            listener.accept()

    threading.Thread(target=serve, daemon=True).start()
    return listener, listener.getsockname()[1]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"nonsense\r\n\r\n"])
async def test_a_service_that_stalls_or_babbles_is_an_outage(answer: bytes) -> None:
    listener, port = _raw_server(answer)
    with pytest.raises(AuthUnavailable) as raised:
        await HookProvider(http_hook(f"http://user:s3cret@127.0.0.1:{port}/p4th", None, 0.1)).authenticate("t0ken")
    for secret in ("s3cret", "p4th", "t0ken"):
        assert secret not in str(raised.value)
    listener.close()


def test_a_key_set_is_fetched_over_tls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = request.config.rootpath / "tests/unit/data/tls"
    endpoint = Endpoint((str(folder / "cert.pem"), str(folder / "key.pem")))
    endpoint.body = b'{"keys": []}'
    url = f"https://localhost:{endpoint.port}/jwks"
    with pytest.raises(AuthUnavailable):
        key_set_fetcher(url)()
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
    assert key_set_fetcher(url)() == b'{"keys": []}'
    endpoint.status = 302
    with pytest.raises(AuthUnavailable):
        key_set_fetcher(url)()
    endpoint.close()


# --- source "command"

CHILD = """
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    token, number = asked["token"], asked["id"]
    if token == "die":
        sys.exit(3)
    if token == "stall":
        time.sleep(60)
    if token == "babble":
        print("what?", flush=True)
        print(json.dumps({"id": 10**9, "userId": "eve"}), flush=True)
        print(json.dumps([1]), flush=True)
    if token == "flood":
        print("x" * (1 << 21), flush=True)
    answer = {
        "refuse": {"userId": None},
        "refuse-too": {"answer": None},
        "nested": {"answer": {"userId": "nested"}},
        "error": {"error": "the database is down"},
        "nothing": {},
        "silent": None,
    }.get(token, {"userId": token, "metadata": {"node": asked["nodeId"], "address": asked["address"]}})
    if answer is not None:
        print(json.dumps({"id": number, **answer}), flush=True)
"""


class Child:
    def __init__(self, folder: Path, timeout_s: float = 5.0) -> None:
        (folder / "child.py").write_text(CHILD)
        self.now = 0.0
        self.hook = CommandHook([sys.executable, "-u", str(folder / "child.py")], timeout_s, lambda: self.now)
        self.provider = HookProvider(self.hook, shared=True)
        self.provider.on_close = self.hook.close
        self.provider.use(AuthCalls())

    async def says(self, token: str) -> AuthContext | None:
        return await self.provider.judge(token, HERE)

    @property
    def pid(self) -> int:
        assert self.hook._child is not None
        return self.hook._child._process.pid


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(tmp_path)
    yield made
    made.provider.close()


async def test_a_child_judges_tokens(child: Child) -> None:
    assert await child.says("ali") == AuthContext("ali", metadata={"node": "node-1", "address": "192.0.2.1"})
    assert await child.says("nested") == AuthContext("nested")
    assert await child.says("refuse") is None
    assert await child.says("refuse-too") is None
    for token in ("error", "nothing"):
        with pytest.raises(AuthUnavailable):
            await child.says(token)
    assert await child.says("babble") == AuthContext("babble", metadata={"node": "node-1", "address": "192.0.2.1"})


async def test_many_ask_at_once_and_each_gets_its_own_answer(child: Child) -> None:
    found: dict[str, AuthContext | None] = {}

    async def ask(token: str) -> None:
        found[token] = await child.says(token)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, f"user-{number}")
    assert all(context is not None and context.user_id == token for token, context in found.items())
    assert len(found) == 100


async def test_a_child_that_ends_is_started_again_with_pauses(child: Child) -> None:
    await child.says("ali")
    first = child.pid
    with pytest.raises(AuthUnavailable):
        await child.says("die")
    await _gone_child(child)
    assert await child.says("ali"), "at once the first time"
    assert child.pid != first
    with pytest.raises(AuthUnavailable):
        await child.says("die")
    await _gone_child(child)
    with pytest.raises(AuthUnavailable):
        await child.says("ali")
    child.now += 0.5
    assert await child.says("ali")


async def _gone_child(child: Child) -> None:
    with trio.fail_after(5):
        while child.hook._child is not None and not child.hook._child.is_over:
            await trio.sleep(0.005)


async def test_a_child_that_stalls_is_ended(tmp_path: Path) -> None:
    child = Child(tmp_path, timeout_s=0.3)
    with trio.fail_after(5):
        while True:
            try:
                await child.says("ali")
                break
            except AuthUnavailable:
                continue
    stalled = child.pid
    with pytest.raises(AuthUnavailable):
        await child.says("stall")
    await _gone_child(child)
    with pytest.raises(ProcessLookupError):
        os.kill(stalled, 0)
    child.provider.close()


async def test_a_child_that_floods_is_ended(child: Child) -> None:
    with pytest.raises(AuthUnavailable):
        await child.says("flood")
    await _gone_child(child)


async def test_a_program_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    hook = CommandHook([str(tmp_path / "none")])
    for _ in range(2):
        with pytest.raises(AuthUnavailable):
            hook("t", NOBODY)
    hook.close()


async def test_a_closed_hook_starts_nothing(child: Child) -> None:
    await child.says("ali")
    pid = child.pid
    child.provider.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(AuthUnavailable):
        await child.says("bea")
