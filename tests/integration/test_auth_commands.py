"""`kora token`: what it issues is what the daemon accepts, and what it verifies is judged alike."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import Result
from typer.testing import CliRunner

from kora_daemon.auth.build import build_provider
from kora_daemon.auth.kora_tokens import HEADER, KoraTokens
from kora_daemon.config import load_settings
from kora_daemon.errors import KoraError
from koractl.app import app
from koractl.options import Invocation
from tests.support.tokens import SECRET, jwks, public_jwk

OLD_SECRET = SECRET[::-1]
KORA = f'[auth]\nkind = "kora"\nshared_data = true\n[auth.kora]\nsecret = ["{SECRET}", "{OLD_SECRET}"]\ndatabase = ""\n'
HS = (
    '[auth]\nkind = "token"\nsource = "jwt"\nshared_data = true\n[auth.jwt]\nalgorithms = ["HS256", "HS512"]\n'
    f'secret = "{SECRET}"\nissuer = "https://id.example.org"\naudience = ["kora", "other"]\nuser_claim = "app.uid"\n'
)
ES = (
    '[auth]\nkind = "token"\nsource = "jwt"\nshared_data = true\n[auth.jwt]\n'
    'algorithms = ["ES256"]\njwks_file = "jwks.json"\n'
)


class Desk:
    def __init__(self, folder: Path) -> None:
        self.config = folder / "kora.toml"

    def says(self, toml: str) -> None:
        self.config.write_text(toml)

    def run(self, *arguments: str, given: str | None = None) -> Any:
        command, *rest = arguments
        ran: Result = CliRunner().invoke(
            app, ["token", command, "--config", str(self.config), *rest], input=given, obj=Invocation()
        )
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return ran

    def issue(self, *arguments: str) -> str:
        ran = self.run("issue", *arguments)
        assert ran.exit_code == 0, ran.output
        text: str = ran.output
        return text.strip()

    def verdict(self, shown: str) -> tuple[int, dict[str, Any]]:
        ran = self.run("verify", given=f"{shown}\n")
        return ran.exit_code, json.loads(ran.output)

    async def accepts(self, shown: str) -> str | None:
        settings = load_settings(self.config, {})
        context = await build_provider(settings.auth).authenticate(shown)
        return None if context is None else context.user_id


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "jwks.json").write_bytes(jwks(public_jwk("ES256")))
    return Desk(tmp_path)


async def test_a_token_of_kora_auth_is_issued_with_the_first_secret(desk: Desk) -> None:
    desk.says(KORA)
    shown = desk.issue("--user", "ali")
    assert shown.startswith(f"{HEADER}.")
    claims = KoraTokens([SECRET]).validate(shown, time.time()).claims
    assert (claims.sub, claims.dev, claims.type, claims.exp - claims.iat) == ("ali", "device-ali", "access", 900)
    assert list(json.loads(jwt.utils.base64url_decode(shown.split(".")[1]))) == [
        "jti", "sub", "dev", "type", "iat", "exp",
    ]  # fmt: skip
    assert await desk.accepts(shown) == "ali"
    code, said = desk.verdict(shown)
    assert (code, said["verdict"], said["reason"], said["claims"]["sub"]) == (0, "accepted", None, "ali")


async def test_other_tokens_are_issued_and_called_what_they_are(desk: Desk) -> None:
    desk.says(KORA)
    shown = desk.issue("--user", "ali", "--device", "d9", "--type", "refresh", "--lifetime", "60")
    assert await desk.accepts(shown) is None
    code, said = desk.verdict(shown)
    assert (code, said["reason"]) == (1, "a refresh token is not for sync")
    assert (said["claims"]["dev"], said["claims"]["exp"] - said["claims"]["iat"]) == ("d9", 60)


def test_a_refused_token_is_said_to_be_so(desk: Desk) -> None:
    desk.says(KORA)
    old = KoraTokens([OLD_SECRET]).issue("ali", "d", "access", 1_000_000, 900)
    other = KoraTokens([SECRET.upper()]).issue("ali", "d", "access", time.time(), 900)
    for shown, reason in ((old, "expired"), (other, "signature"), ("nothing", "malformed"), ("", "malformed")):
        code, said = desk.verdict(shown)
        assert (code, said["verdict"], said["reason"]) == (1, "refused", reason)
    assert desk.run("verify", old).exit_code == 1


async def test_jwts_are_issued_by_the_rules_of_the_file(desk: Desk) -> None:
    desk.says(HS)
    shown = desk.issue("--user", "ali", "--claim", "role=admin", "--claim", 'org:={"id": 7}', "--claim", "app:={}")
    claims = jwt.decode(shown, SECRET, ["HS256"], audience="kora", issuer="https://id.example.org")
    assert (claims["app"], claims["role"], claims["org"]) == ({"uid": "ali"}, "admin", {"id": 7})
    assert claims["exp"] - claims["iat"] == 900
    assert await desk.accepts(shown) == "ali"
    assert desk.verdict(shown)[0] == 0
    assert desk.verdict(desk.issue("--user", "ali", "--claim", "iss=else"))[1]["reason"] == "issuer"


def test_what_can_not_be_issued_is_said(desk: Desk) -> None:
    desk.says(ES)
    with pytest.raises(KoraError, match="only the issuer can sign"):
        desk.run("issue", "--user", "ali")
    desk.says("")
    for arguments in (("issue", "--user", "ali"), ("verify", "x")):
        with pytest.raises(KoraError, match="no tokens to issue or verify"):
            desk.run(*arguments)
    for toml, arguments in (
        (KORA, ("--user", "ali", "--claim", "a=b")),
        (KORA, ("--user", "")),
        (KORA, ()),
        (HS, ("--user", "ali", "--device", "d")),
        (HS, ("--user", "ali", "--type", "refresh")),
        (HS, ("--user", "ali", "--claim", "a")),
        (HS, ("--user", "ali", "--claim", "a:={")),
        (HS, ("--user", "ali", "--claim", "app=x")),
    ):
        desk.says(toml)
        ran = desk.run("issue", *arguments)
        assert ran.exit_code == 2, arguments
        assert SECRET not in ran.output


def test_a_token_of_an_issuer_with_keys_is_verified(desk: Desk) -> None:
    from tests.support.tokens import token as signed

    desk.says(ES)
    assert desk.verdict(signed(exp=9_999_999_999))[0] == 0
    assert desk.verdict(signed())[1]["reason"] == "expired"
    assert desk.verdict(signed(signed_by="other"))[1]["reason"] == "signature"
