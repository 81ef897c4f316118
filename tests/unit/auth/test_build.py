"""From a file to a provider: every kind and source, and what is refused at the start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.auth.build import build_provider
from kora_daemon.auth.contract import AuthContext, CallsOut, Revalidates, Tended
from kora_daemon.auth.kora_tokens import KoraTokens
from kora_daemon.auth.start_checks import scope_problems
from kora_daemon.config.auth import AuthSettings
from kora_daemon.errors import ConfigError
from kora_daemon.schema_file import read_schema
from kora_daemon.store.sqlite.users import SqliteUsers
from tests.support.auth import SqliteTables
from tests.support.config import load
from tests.support.tokens import SECRET, jwks, pem, public_jwk, token

SCHEMA = read_schema(
    {
        "version": 1,
        "collections": {
            "todos": {"fields": {"userId": {"kind": "string"}, "done": {"kind": "boolean"}}},
            "projects": {"fields": {"orgId": {"kind": "string"}, "userId": {"kind": "string"}}},
        },
    },
    "schema.json",
)
FAR = 9_999_999_999
JWT = '[auth]\nkind = "token"\nsource = "jwt"\n'
ES = 'algorithms = ["ES256"]\njwks_file = "jwks.json"\n'
SCOPED = '[auth.scopes]\ntodos = { userId = "{sub}" }\n'


def settings(folder: Path, toml: str) -> AuthSettings:
    (folder / "jwks.json").write_bytes(jwks(public_jwk("ES256")))
    (folder / "public.pem").write_bytes(pem("ES256"))
    (folder / "secret.txt").write_text(f"{SECRET}\r\n")
    (folder / "secrets.txt").write_text(f"{SECRET}\n\n{SECRET[::-1]}\n")
    (folder / "short.txt").write_text(f"{SECRET}\nshort-one\n")
    (folder / "revoked.txt").write_text("gone\n")
    (folder / "latin.txt").write_bytes(b"\xff" * 40)
    return load(folder, toml).auth


def built(folder: Path, toml: str, **more: Any) -> Any:
    return build_provider(settings(folder, toml), schema=SCHEMA, folder=folder, **more)


def problems(folder: Path, toml: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        built(folder, toml)
    return [one.replace(f"{folder}/", "") for one in refused.value.problems]


async def test_without_auth_everybody_is_anonymous(tmp_path: Path) -> None:
    assert await built(tmp_path, "").authenticate("x") == AuthContext("anonymous")


async def test_a_static_table_with_scopes(tmp_path: Path) -> None:
    provider = built(
        tmp_path,
        '[auth]\nkind = "token"\nsource = "static"\n'
        '[[auth.tokens]]\ntoken = "t1"\nuser = "a"\nscopes = { todos = { done = true }, "*" = { userId = "{a}" } }\n'
        '[[auth.tokens]]\ntoken = "t2"\nuser = "b"\nunscoped = true\nmetadata = { plan = "pro" }\n',
    )
    assert await provider.authenticate("t1") == AuthContext(
        "a", {"todos": {"done": True}, "projects": {"userId": "{a}"}}
    )
    assert await provider.authenticate("t2") == AuthContext("b", metadata={"plan": "pro"})


@pytest.mark.parametrize(
    "keys",
    [
        ES,
        'algorithms = ["ES256", "RS256"]\npublic_key_file = "public.pem"\n',
    ],
)
async def test_jwts_by_key_file(tmp_path: Path, keys: str) -> None:
    provider = built(
        tmp_path,
        f'{JWT}[auth.jwt]\n{keys}user_claim = "app.uid"\nmetadata = {{ mail = "email" }}\n{SCOPED}'
        '[[auth.grants]]\nwhen = { role = "viewer" }\nreadonly = true\nscopes = { "*" = {} }\n',
    )
    context = await provider.authenticate(token(exp=FAR, app={"uid": "zoe"}, email="z@example.org"))
    assert context == AuthContext("zoe", {"todos": {"userId": "ali"}}, {"mail": "z@example.org"}, expires_at=FAR)
    context = await provider.authenticate(token(exp=FAR, app={"uid": "zoe"}, role="viewer"))
    assert context is not None
    assert context.scopes == {"todos": {"__readonly": True}, "projects": {"__readonly": True}}
    assert await provider.authenticate(token()) is None


@pytest.mark.parametrize("secret", [f'secret = "{SECRET}"', 'secret_file = "secret.txt"'])
async def test_jwts_by_shared_secret(tmp_path: Path, secret: str) -> None:
    provider = built(tmp_path, f'{JWT}[auth.jwt]\nalgorithms = ["HS256"]\n{secret}\n{SCOPED}')
    assert await provider.authenticate(token("HS256", None, exp=FAR))


async def test_a_key_set_by_url_is_not_asked_for_at_the_start(tmp_path: Path) -> None:
    provider = built(
        tmp_path, f'{JWT}[auth.jwt]\nalgorithms = ["ES256"]\njwks_url = "https://192.0.2.1/jwks"\n{SCOPED}'
    )
    assert isinstance(provider, Tended)
    assert isinstance(provider, CallsOut)


KORA = '[auth]\nkind = "kora"\n[auth.kora]\n'


async def test_kora_tokens_with_and_without_user_tables(tmp_path: Path) -> None:
    tables = SqliteTables(tmp_path)
    tables.user("ali")
    toml = f'{KORA}secret_file = "secrets.txt"\nrevocation_list = "revoked.txt"\ndatabase = "sqlite:auth.db"\n{SCOPED}'
    provider = built(tmp_path, toml, users=tables.directory())
    for secret in (SECRET, SECRET[::-1]):
        context = await provider.authenticate(KoraTokens([secret]).issue("ali", "d", "access", FAR, 60))
        assert context is not None
        assert context.scopes == {"todos": {"userId": "ali"}}
    assert await provider.authenticate(KoraTokens([SECRET]).issue("bea", "d", "access", FAR, 60)) is None
    assert await provider.authenticate(KoraTokens([SECRET]).issue("ali", "gone", "access", FAR, 60)) is None
    provider.close()
    alone = built(tmp_path, toml.replace("sqlite:auth.db", ""), users=None)
    assert await alone.authenticate(KoraTokens([SECRET]).issue("bea", "d", "access", FAR, 60))


async def test_user_tables_that_nobody_opened_are_no_reason_to_trust_the_signature_alone(tmp_path: Path) -> None:
    assert problems(tmp_path, f'{KORA}secret = "{SECRET}"\ndatabase = "sqlite:auth.db"\n{SCOPED}') == [
        "auth.kora.database: names user tables, and this program has not opened them"
    ]


MIXED = f"""
[auth]
kind = "mixed"
primary = "kora"
%s
[auth.anonymous.scopes]
todos = {{ done = true }}
[auth.kora]
secret = "{SECRET}"
database = ""
{SCOPED}"""


def test_what_the_user_tables_lack_is_said_at_the_start(tmp_path: Path) -> None:
    tables = SqliteTables(tmp_path)
    toml = f'{KORA}secret = "{SECRET}"\ndatabase = "sqlite:auth.db"\n{SCOPED}'
    tables.execute("DROP TABLE auth_devices")
    with pytest.raises(ConfigError) as refused:
        built(tmp_path, toml, users=tables.directory())
    assert refused.value.problems == ["auth.kora.database: has no auth_devices, expected the tables of @korajs/auth"]
    assert built(tmp_path, toml, users=SqliteUsers(tmp_path / "later.db")), "it may be there later"
    assert not (tmp_path / "later.db").exists()
    with pytest.raises(ConfigError):
        built(tmp_path, toml, users=SqliteUsers(tmp_path / "latin.txt"))


async def test_visitors_beside_users(tmp_path: Path) -> None:
    provider = built(tmp_path, MIXED % "")
    visitor = await provider.authenticate("")
    assert visitor is not None
    assert (visitor.user_id[:5], visitor.scopes) == ("anon-", {"todos": {"done": True}})
    assert await provider.authenticate("bad") is None
    provider = built(tmp_path, MIXED % 'on_invalid_token = "anonymous"\nanonymous_prefix = "guest"')
    visitor = await provider.authenticate("bad")
    assert visitor is not None
    assert visitor.user_id.startswith("guest-")
    user = await provider.authenticate(KoraTokens([SECRET]).issue("ali", "d", "access", FAR, 60))
    assert user is not None
    assert user.scopes == {"todos": {"userId": "ali"}}
    assert isinstance(provider, Revalidates)


async def test_own_code_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "authhooks.py").write_text(
        "import trio\n"
        "def plain(token):\n    return {'userId': token} if token else None\n"
        "async def late(token):\n    await trio.sleep(0)\n    return plain(token)\n"
        "def scopes(user, claims):\n    return {'todos': {'userId': claims['sub']}}\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("plain", "late"):
        toml = (
            f'[auth]\nkind = "token"\nsource = "python"\npython = "authhooks:{name}"\n'
            'python_scopes = "authhooks:scopes"\n'
        )
        provider = built(tmp_path, toml)
        assert await provider.authenticate("ali") == AuthContext("ali", {"todos": {"userId": "ali"}})
        assert await provider.authenticate("") is None
    assert "authhooks:none" in problems(tmp_path, toml.replace("authhooks:late", "authhooks:none"))[0]


async def test_a_child_by_name(tmp_path: Path) -> None:
    child = (
        "import json, sys\nfor line in sys.stdin: print(json.dumps({**json.loads(line), 'userId': 'ali'}), flush=True)"
    )
    (tmp_path / "child.py").write_text(child)
    provider = built(
        tmp_path,
        f'[auth]\nkind = "token"\nsource = "command"\ncommand = ["{sys.executable}", "{tmp_path}/child.py"]\n{SCOPED}',
    )
    assert await provider.authenticate("t") == AuthContext("ali", {"todos": {"userId": "ali"}})
    provider.close()


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (f"{JWT}[auth.jwt]\n{ES}", "auth.scopes: is missing, so everybody who is signed in may read and write everyth"),
        (f'{KORA}secret = "{SECRET}"\ndatabase = ""\n', "auth.scopes: is missing, so everybody who is signed in may"),
        (f"{JWT}[auth.jwt]\n{ES}[auth.scopes]\ntodo = {{}}\n", "auth.scopes: has 'todo', expected collections of the"),
        (
            f'{JWT}[auth.jwt]\n{ES}[auth.scopes]\ntodos = {{ userid = "{{sub}}" }}\n',
            "auth.scopes.todos: has 'userid', expected fields of the collection",
        ),
        (
            f'{JWT}[auth.jwt]\n{ES}[[auth.grants]]\nwhen = {{ role = "x" }}\nscopes = {{ "*" = {{ orgId = "x" }} }}\n',
            "auth.grants[0].scopes.*: not every collection it stands for has 'orgId'",
        ),
        (
            f'{JWT}[auth.jwt]\n{ES}[auth.scopes]\ntodos = {{ __readonly = "yes" }}\n',
            "auth.scopes.todos.__readonly: found no flag, expected true or false",
        ),
        (
            f'{JWT}[auth.jwt]\n{ES}[auth.scopes]\ntodos = {{ userId = "{{sub" }}\n',
            "auth.scopes: found '{sub', expected a closed {placeholder}",
        ),
        (
            f'{JWT}[auth.jwt]\n{ES}[[auth.grants]]\nwhen = {{ "a..b" = 1 }}\nscopes = {{}}\n',
            "auth.grants[0]: found 'a..b', expected names between the dots",
        ),
        (
            f'{JWT}[auth.jwt]\n{ES}user_claim = "/a~2"\n{SCOPED}',
            "auth.jwt.user_claim: found '/a~2', expected ~0 for ~ and ~1 for / in a JSON pointer",
        ),
        (
            f'{JWT}[auth.jwt]\nalgorithms = ["RS256"]\njwks_file = "jwks.json"\n{SCOPED}',
            "auth.jwt.jwks_file: has no key for RS256",
        ),
        (
            f'{JWT}[auth.jwt]\nalgorithms = ["ES256"]\njwks_file = "secret.txt"\n{SCOPED}',
            "auth.jwt.jwks_file: it is no JSON",
        ),
        (
            f'{JWT}[auth.jwt]\nalgorithms = ["ES256"]\npublic_key_file = "secret.txt"\n{SCOPED}',
            "auth.jwt.public_key_file: it is no public key in PEM",
        ),
        (
            f'{JWT}[auth.jwt]\nalgorithms = ["HS256"]\nsecret = "short"\n{SCOPED}',
            "auth.jwt.secret: the secret has fewer than 32 bytes",
        ),
        (f'{KORA}secret_file = "short.txt"\ndatabase = ""\n{SCOPED}', "auth.kora.secret_file: secret 2 has fewer than"),
        (f'{KORA}secret_file = "latin.txt"\ndatabase = ""\n{SCOPED}', "auth.kora.secret_file: latin.txt is not UTF-8"),
        (
            '[auth]\nkind = "token"\nsource = "http"\nurl = "http://x"\nheaders = { "X-A" = "s3cret\\n" }\n',
            "auth.headers: the value of X-A has a line break",
        ),
        (
            '[auth]\nkind = "token"\nsource = "http"\nurl = "http://x:99999"\n',
            "auth.url: is no URL, expected a host and a port from 1 to 65535",
        ),
        (
            f'{JWT}[auth.jwt]\nalgorithms = ["ES256"]\njwks_url = "https://x:99999"\n{SCOPED}',
            "auth.jwt.jwks_url: is no URL, expected a host and a port from 1 to 65535",
        ),
        (
            '[auth]\nkind = "token"\nsource = "http"\nurl = "http://x"\nheaders = { "X A" = "s3cret" }\n',
            "auth.headers: found 'X A', expected the name of a header",
        ),
        (
            '[auth]\nkind = "token"\nsource = "static"\n'
            '[[auth.tokens]]\ntoken = "t"\nuser = "a"\nscopes = { nothing = {} }\n',
            "auth.tokens[0].scopes: has 'nothing', expected collections of the schema: projects, todos",
        ),
    ],
)
def test_what_a_server_does_not_start_with(tmp_path: Path, toml: str, problem: str) -> None:
    (found,) = problems(tmp_path, toml)
    assert found.startswith(problem)
    for secret in (SECRET, "s3cret", "short-one"):
        assert secret not in found


def test_shared_data_is_said_on_purpose(tmp_path: Path) -> None:
    assert built(tmp_path, JWT.replace("[auth]", "[auth]\nshared_data = true") + f"[auth.jwt]\n{ES}")


def test_a_star_needs_a_schema(tmp_path: Path) -> None:
    auth = settings(tmp_path, f'{JWT}[auth.jwt]\n{ES}[auth.scopes]\n"*" = {{}}\nunknown = {{ x = 1 }}\n')
    assert scope_problems(auth, None) == [
        "auth.scopes: has '*', which stands for the collections of a schema; set schema"
    ]


async def test_with_grants_alone_everybody_else_sees_nothing(tmp_path: Path) -> None:
    toml = f'{JWT}[auth.jwt]\n{ES}[[auth.grants]]\nwhen = {{ role = "admin" }}\nscopes = {{ "*" = {{}} }}\n'
    provider = built(tmp_path, toml)
    found = [await provider.authenticate(token(exp=FAR, role=role)) for role in ("admin", "other")]
    assert [one.scopes for one in found] == [{"todos": {}, "projects": {}}, {}]
