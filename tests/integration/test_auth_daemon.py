"""Every kind of auth out of a TOML file, in a daemon as an operator runs it."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import jwt
import pytest
import trio

from kora_daemon.auth.kora_tokens import KoraTokens
from koractl.app import main
from tests.support.auth import TABLES, UserTables
from tests.support.devices import insert
from tests.support.endpoint import CERTIFICATE, Endpoint
from tests.support.network import Client, Closed, connected
from tests.support.process import Daemon
from tests.support.tokens import SECRET, jwks, pem, private_key, public_jwk

SCHEMA = {
    "version": 1,
    "collections": {
        name: {"fields": {"title": {"kind": "string"}, "userId": {"kind": "string"}}} for name in ("todos", "notes")
    },
    "sync": {"todos": ["userId"]},
}
SERVER = 'schema = "schema.json"\n[server]\nhost = "127.0.0.1"\nport = 0\n'
OWN = '[auth.scopes]\ntodos = { userId = "{sub}" }\n'
PYTHON = """
import json, os, sys
def answer(token):
    if token == "raise-s3cret":
        raise RuntimeError(token)
    if token == "odd-s3cret":
        return {"userId": token, "scopes": [token]}
    return {"userId": token[3:], "scopes": {"todos": {"userId": token[3:]}}} if token.startswith("ok-") else None
def plain(token):
    return answer(token)
async def other(token):
    import trio
    await trio.sleep(0)
    return answer(token)
def child():
    with open(__file__ + ".pids", "a") as pids:
        pids.write(f"{os.getpid()}\\n")
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps({"id": asked["id"], "answer": answer(asked["token"])}), flush=True)
"""


class Kind(NamedTuple):
    """A kind of auth in a file; tokens of the user "ali" and of nobody."""

    toml: str
    good: str
    bad: str


def kora_token(user: str = "ali", device: str = "phone", secret: str = SECRET) -> str:
    return KoraTokens([secret]).issue(user, device, "access", time.time(), 900)


def issued(algorithm: str = "ES256", *, key: Any = None, user: str = "ali", **claims: Any) -> str:
    """A JWT of an issuer, good now."""
    content = {"sub": user, "exp": int(time.time()) + 600} | claims
    return jwt.encode(content, key or private_key(algorithm, "k1"), algorithm, {"kid": "k1"})


def _static(folder: Path) -> Kind:
    rows = '[[auth.tokens]]\ntoken = "${GOOD}"\nuser = "ali"\nscopes = { todos = { userId = "ali" } }\n'
    return Kind(f'kind = "token"\nsource = "static"\n{rows}', "the-good-token", "the-bad-token")


def _jwt(keys: str) -> Callable[[Path], Kind]:
    def made(folder: Path) -> Kind:
        (folder / "jwks.json").write_bytes(jwks(public_jwk("ES256")))
        (folder / "public.pem").write_bytes(pem("ES256"))
        toml = f'kind = "token"\nsource = "jwt"\n[auth.jwt]\nalgorithms = ["ES256"]\n{keys}\n{OWN}'
        return Kind(toml, issued(), issued(key=private_key("ES256", "another")))

    return made


def _shared_secret(folder: Path) -> Kind:
    toml = f'kind = "token"\nsource = "jwt"\n[auth.jwt]\nalgorithms = ["HS256"]\nsecret = "${{SECRET}}"\n{OWN}'
    return Kind(toml, issued("HS256", key=SECRET), issued("HS256", key=SECRET[::-1]))


def _python(hook: str) -> Callable[[Path], Kind]:
    def made(folder: Path) -> Kind:
        toml = f'kind = "token"\nsource = "python"\npython = "kinds_app:{hook}"\n'
        return Kind(toml, "ok-ali", "bad-ali-token")

    return made


def _command(folder: Path) -> Kind:
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(folder)!r}); import kinds_app; kinds_app.child()",
    ]
    return Kind(f'kind = "token"\nsource = "command"\ncommand = {json.dumps(command)}\n', "ok-ali", "bad-ali-token")


def _signature_alone(folder: Path) -> Kind:
    toml = f'kind = "kora"\n[auth.kora]\nsecret = "${{SECRET}}"\ndatabase = ""\n{OWN}'
    return Kind(toml, kora_token(), kora_token(secret=SECRET[::-1]))


def _users(name: str) -> Callable[[Path], Kind]:
    def made(folder: Path) -> Kind:
        tables = TABLES[name](folder)
        tables.user("ali")
        tables.device("phone", "ali")
        url = "sqlite:auth.db" if name == "sqlite" else tables.url
        toml = f'kind = "kora"\n[auth.kora]\nsecret = "${{SECRET}}"\ndatabase = "{url}"\n{OWN}'
        return Kind(toml, kora_token(), kora_token("bea"))

    return made


def _by_schema(folder: Path) -> Kind:
    toml = 'kind = "kora"\nscopes_from_schema = true\n[auth.kora]\nsecret = "${SECRET}"\ndatabase = ""\n'
    return Kind(toml, kora_token(), kora_token(secret=SECRET[::-1]))


def _mixed(folder: Path) -> Kind:
    visitors = '[auth.anonymous.scopes]\nnotes = { title = "public" }\n'
    kora = f'[auth.kora]\nsecret = "${{SECRET}}"\ndatabase = ""\n{OWN}'
    return Kind(f'kind = "mixed"\nprimary = "kora"\n{visitors}{kora}', kora_token(), "the-bad-token")


KINDS: dict[str, Callable[[Path], Kind]] = {
    "static": _static,
    "key set": _jwt('jwks_file = "jwks.json"'),
    "public key": _jwt('public_key_file = "public.pem"'),
    "shared secret": _shared_secret,
    "python": _python("plain"),
    "async python": _python("other"),
    "command": _command,
    "kora, signature alone": _signature_alone,
    "kora on SQLite": _users("sqlite"),
    "kora on PostgreSQL": _users("postgres"),
    "kora, by the schema": _by_schema,
    "mixed": _mixed,
}


def daemon(folder: Path, auth: str, head: str = "") -> Daemon:
    """A daemon with this in its `[auth]`."""
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    (folder / "kinds_app.py").write_text(PYTHON)
    environment = {"SECRET": SECRET, "GOOD": "the-good-token", "SSL_CERT_FILE": str(CERTIFICATE)}
    return Daemon(folder, f"{SERVER}[auth]\nrefusal_delay = 0\nrevalidate = 1.0\n{head}{auth}", environment)


@asynccontextmanager
async def signed_in(served: Daemon, shown: str, node_id: str = "phone") -> AsyncIterator[Client]:
    async with connected(served.url) as client:
        response = await client.shake_hands(node_id, authToken=shown)
        assert response.get("accepted") is True, (response, served.logged())
        await client.download()
        yield client


async def error_of(served: Daemon, shown: str | None, node_id: str = "phone") -> tuple[str, bool, int]:
    """Code, whether it is worth another try, and the code of the close."""
    async with connected(served.url) as client:
        error = await client.shake_hands(node_id, **({} if shown is None else {"authToken": shown}))
        assert error["type"] == "error", error
        return error["code"], error["retriable"], (await client.closed()).code


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.02)


REFUSED = ("AUTH_FAILED", False, 4001)
UNAVAILABLE = ("AUTH_UNAVAILABLE", True, 1011)


@pytest.mark.parametrize("name", list(KINDS))
async def test_a_kind_lets_its_users_in_and_nobody_else(name: str, tmp_path: Path) -> None:
    kind = KINDS[name](tmp_path)
    with daemon(tmp_path, kind.toml) as served:
        async with connected(served.url) as client:
            response = await client.shake_hands(authToken=kind.good)
            assert response["acceptedScope"] == {"todos": {"userId": "ali"}}
            await client.download()
            await client.upload(insert("node-a", 1, userId="ali"))
            assert (await client.hear())["type"] == "acknowledgment"
        assert await error_of(served, kind.bad) == REFUSED
        if name != "mixed":
            assert await error_of(served, None) == REFUSED
        assert served.stop() == 0
    assert kind.good not in served.logged()
    assert kind.bad not in served.logged()


async def test_visitors_see_what_is_public_and_are_not_told_apart_from_each_other(tmp_path: Path) -> None:
    with daemon(tmp_path, _mixed(tmp_path).toml) as served:
        for node_id in ("one", "other"):
            async with connected(served.url) as visitor:
                response = await visitor.shake_hands(node_id)
                assert response["acceptedScope"] == {"notes": {"title": "public"}}
        users = [line["user"] for line in lines_of(served) if line["event"] == "session.joined"]
    assert len(set(users)) == 2
    assert all(user.startswith("anon-") for user in users)


def lines_of(served: Daemon) -> list[dict[str, Any]]:
    return [json.loads(line) for line in served.logged().splitlines()]


@pytest.fixture
def issuer() -> Iterator[Endpoint]:
    made = Endpoint((str(CERTIFICATE), str(CERTIFICATE.with_name("key.pem"))))
    made.body = jwks(public_jwk("ES256"))
    yield made
    made.close()


async def test_an_issuer_may_be_down_for_a_while_also_when_the_file_is_read_again(
    issuer: Endpoint, tmp_path: Path
) -> None:
    keys = f'algorithms = ["ES256"]\njwks_url = "https://127.0.0.1:{issuer.port}/jwks"\n'
    with daemon(tmp_path, f'kind = "token"\nsource = "jwt"\n[auth.jwt]\n{keys}{OWN}') as served:
        async with signed_in(served, issued()) as ali:
            issuer.close()
            hang_up(served)
            await until(lambda: "daemon.reloaded" in served.logged())
            async with signed_in(served, issued(user="bea"), "b"):
                pass
            assert await error_of(served, issued(key=private_key("ES256", "another"))) == REFUSED
            await uploads(ali, 1)


@pytest.fixture
def service() -> Iterator[Endpoint]:
    made = Endpoint()
    made.judge = _judge
    yield made
    made.close()


def _judge(body: bytes) -> tuple[int, bytes]:
    asked = json.loads(body)
    if asked["token"] == "the-good-token":
        return 200, json.dumps({"userId": "ali", "scopes": {"todos": {"userId": asked["nodeId"]}}}).encode()
    return (500, b"") if asked["token"] == "down-s3cret" else (401, b"")


async def test_a_service_is_asked(service: Endpoint, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{service.port}/auth"
    with daemon(tmp_path, f'kind = "token"\nsource = "http"\nurl = "{url}"\n') as served:
        async with connected(served.url) as client:
            response = await client.shake_hands("phone", authToken="the-good-token")
            assert response["acceptedScope"] == {"todos": {"userId": "phone"}}
        assert await error_of(served, "the-bad-token") == REFUSED
        asked = len(service.asked)
        assert await error_of(served, "the-bad-token") == REFUSED
        assert len(service.asked) == asked
        assert await error_of(served, "down-s3cret") == UNAVAILABLE
        service.close()
        assert await error_of(served, "another-s3cret") == UNAVAILABLE
    assert json.loads(service.asked[0][3]) == {"token": "the-good-token", "nodeId": "phone", "address": "127.0.0.1"}
    assert "s3cret" not in served.logged()


@pytest.mark.parametrize("token", ["raise-s3cret", "odd-s3cret"])
async def test_code_that_fails_is_an_outage_and_its_words_stay_out_of_the_log(token: str, tmp_path: Path) -> None:
    with daemon(tmp_path, _python("plain")(tmp_path).toml) as served:
        assert await error_of(served, token) == UNAVAILABLE
        async with signed_in(served, "ok-ali"):
            pass
    (line,) = [one for one in lines_of(served) if one["event"] == "auth.unavailable"]
    assert "s3cret" not in served.logged()
    assert "RuntimeError" in line["problem"] or "scope" in line["problem"]


async def test_a_child_is_replaced_when_the_file_is_read_again_and_ends_with_the_daemon(tmp_path: Path) -> None:
    kind, pids = _command(tmp_path), tmp_path / "kinds_app.py.pids"
    with daemon(tmp_path, kind.toml) as served:
        async with signed_in(served, kind.good):
            (first,) = pids.read_text().split()
            hang_up(served)
            await until(lambda: not Path("/proc", first).exists())
        async with signed_in(served, kind.good):
            _, second = pids.read_text().split()
        assert served.stop() == 0
    assert not Path("/proc", second).exists()


# Live sessions


def hang_up(served: Daemon) -> None:
    """Have the file read again."""
    served.signal(signal.SIGHUP)


async def uploads(client: Client, number: int, node_id: str = "phone") -> None:
    """Store something."""
    await client.upload(insert(node_id, number, userId="ali"))
    assert (await client.hear())["type"] == "acknowledgment"


async def sent_off(client: Client) -> None:
    """The client is told that it may not be here, and closed."""
    error = await client.hear()
    assert (error["type"], error["code"]) == ("error", "AUTH_FAILED")
    assert (await client.closed()).code == 4001


async def asked_to_come_again(client: Client) -> None:
    """The client is closed without an error."""
    with pytest.raises(Closed) as closed:
        await client.hear()
    assert closed.value.code == 1000


@pytest.fixture(params=list(TABLES))
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UserTables]:
    made = TABLES[request.param](tmp_path)
    yield made
    made.connection.close()  # type: ignore[attr-defined]


def kora(tables: UserTables, more: str = "") -> str:
    for user in ("ali", "bea"):
        tables.user(user)
        tables.device(f"{user}-phone", user)
    return f'kind = "kora"\n[auth.kora]\nsecret_file = "secrets.txt"\ndatabase = "{tables.url}"\n{more}{OWN}'


async def test_a_revoked_device_is_out_within_seconds(tables: UserTables, tmp_path: Path) -> None:
    (tmp_path / "secrets.txt").write_text(SECRET)
    shown = kora_token("ali", "ali-phone")
    with daemon(tmp_path, kora(tables)) as served:
        async with signed_in(served, shown) as ali:
            await uploads(ali, 1)
            tables.execute("UPDATE auth_devices SET revoked = (1 = 1) WHERE id = 'ali-phone'")
            await sent_off(ali)
        assert await error_of(served, shown) == REFUSED
        async with signed_in(served, kora_token("bea", "bea-phone"), "other"):
            pass
        assert served.stop() == 0
    seen = tables.last_seen()
    assert min(seen.values()) > 0


async def test_a_listed_token_and_a_secret_that_is_gone(tables: UserTables, tmp_path: Path) -> None:
    secrets, revoked = tmp_path / "secrets.txt", tmp_path / "revoked.txt"
    secrets.write_text(f"{SECRET}\n{SECRET[::-1]}\n")
    revoked.write_text("")
    with daemon(tmp_path, kora(tables, 'revocation_list = "revoked.txt"\n')) as served:
        async with (
            signed_in(served, kora_token("ali", "ali-phone"), "a") as ali,
            signed_in(served, kora_token("bea", "bea-phone", SECRET[::-1]), "b") as bea,
        ):
            revoked.write_text("ali-phone\n")
            await sent_off(ali)
            secrets.write_text(f"{SECRET}\n")
            hang_up(served)
            await asked_to_come_again(bea)
        assert await error_of(served, kora_token("bea", "bea-phone", SECRET[::-1])) == REFUSED
        async with signed_in(served, kora_token("bea", "bea-phone"), "b"):
            pass


async def test_a_token_that_leaves_the_file_is_out_at_once_and_the_others_notice_nothing(tmp_path: Path) -> None:
    rows = "".join(
        f'[[auth.tokens]]\ntoken = "token-of-{user}"\nuser = "{user}"\nscopes = {{ todos = {{}} }}\n'
        for user in ("ali", "bea")
    )
    toml = f'kind = "token"\nsource = "static"\n{rows}'
    with daemon(tmp_path, toml, "") as served:
        served.config.write_text(served.config.read_text().replace("revalidate = 1.0", "revalidate = 0"))
        hang_up(served)
        await until(lambda: "daemon.reloaded" in served.logged())
        async with signed_in(served, "token-of-ali", "a") as ali, signed_in(served, "token-of-bea", "b") as bea:
            served.config.write_text(served.config.read_text().replace("token-of-ali", "another"))
            hang_up(served)
            await sent_off(ali)
            await uploads(bea, 1, "b")
            served.config.write_text(served.config.read_text().replace("scopes = { todos = {} }", "unscoped = true"))
            hang_up(served)
            await asked_to_come_again(bea)
        assert "token-of" not in served.logged()


@pytest.mark.parametrize("broken", ["", "short\n"], ids=["no secret", "a short one"])
async def test_what_can_not_be_read_again_leaves_everything_as_it_was(
    broken: str, tables: UserTables, tmp_path: Path
) -> None:
    (tmp_path / "secrets.txt").write_text(SECRET)
    with daemon(tmp_path, kora(tables)) as served:
        async with signed_in(served, kora_token("ali", "ali-phone"), "a") as ali:
            (tmp_path / "secrets.txt").write_text(broken)
            hang_up(served)
            await until(lambda: "daemon.reload_failed" in served.logged())
            async with signed_in(served, kora_token("bea", "bea-phone"), "b"):
                pass
            await uploads(ali, 1, "a")
    assert SECRET not in served.logged()


# What a daemon does not start with


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('kind = "kora"\n[auth.kora]\nsecret = "${SECRET}"\ndatabase = ""\n', "auth.scopes (FILE): is missing"),
        (
            f'kind = "kora"\n[auth.kora]\nsecret = "${{SECRET}}"\ndatabase = ""\n{OWN.replace("userId", "userid")}',
            "auth.scopes.todos (FILE): has 'userid', expected fields of the collection",
        ),
        (
            f'kind = "kora"\n[auth.kora]\nsecret = "${{SECRET}}"\ndatabase = ""\n{OWN.replace("todos", "todo")}',
            "auth.scopes (FILE): has 'todo', expected collections of the schema",
        ),
        (
            f'kind = "kora"\n[auth.kora]\nsecret = "${{SECRET}}"\ndatabase = "sqlite:empty.db"\n{OWN}',
            "auth.kora.database (FILE): has no auth_users",
        ),
        (
            'kind = "token"\nsource = "python"\npython = "nowhere:at_all"\n',
            "auth.python (FILE): 'nowhere:at_all' can't be",
        ),
    ],
    ids=["nothing scoped", "misspelt field", "misspelt collection", "no tables", "no module"],
)
def test_a_daemon_that_would_let_in_or_hide_too_much_does_not_start(
    toml: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    apsw.Connection(str(tmp_path / "empty.db")).execute("CREATE TABLE auth_devices (id TEXT)")
    monkeypatch.setenv("SECRET", SECRET)
    served = daemon(tmp_path, toml)
    for command in (["serve"], ["serve", "--check"], ["config", "check"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--config", str(served.config)])
        complained = capsys.readouterr().err
        assert ended.value.code == 78, complained
        assert f"kora: {problem.replace('FILE', str(served.config))}" in complained
        assert "Traceback" not in complained


def test_a_kind_can_be_checked_before_it_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("GOOD", "the-good-token")
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, made in KINDS.items():
        folder = tmp_path / name
        folder.mkdir()
        served = daemon(folder, made(folder).toml)
        with pytest.raises(SystemExit) as ended:
            main(["config", "check", "--config", str(served.config)])
        assert ended.value.code == 0, capsys.readouterr()
