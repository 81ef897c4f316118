"""Half a surrogate pair: JSON can spell it, UTF-8 can't, so nobody is called that, and no scope is told by it."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.auth.answers import read_answer
from kora_daemon.auth.jws import Refused, encode_object, encode_segment
from kora_daemon.auth.jwt import JwtRules, verify
from kora_daemon.auth.keys import secret_key
from kora_daemon.auth.kora_tokens import KoraTokens
from kora_daemon.auth.templates import ScopesRefused, parse_table
from kora_daemon.errors import AuthUnavailable

SECRET = "s" * 32
NOW = 1_800_000_000.0
HALF = "half\ud800"


def jwt(escaped_user: str) -> str:
    key = secret_key(SECRET.encode())
    payload = encode_segment(b'{"sub":"%s","exp":1900000000}' % escaped_user.encode())
    signed = f"{encode_object({'alg': 'HS256'})}.{payload}"
    return f"{signed}.{encode_segment(key.sign('HS256', signed.encode()))}"


def test_a_token_of_another_issuer_is_refused() -> None:
    rules, keys = JwtRules(("HS256",)), [secret_key(SECRET.encode())]
    assert verify(jwt("ann"), rules, keys, NOW).user_id == "ann"
    with pytest.raises(Refused, match="user"):
        verify(jwt(r"ann\ud800"), rules, keys, NOW)


@pytest.mark.parametrize("claim", ["sub", "dev"])
def test_a_token_of_kora_is_refused(claim: str) -> None:
    tokens = KoraTokens([SECRET])
    header, _, _ = tokens.issue("ann", "d", "access", NOW, 60).split(".")
    texts = {"sub": "ann", "dev": "d", claim: r"\ud800"}
    members = ",".join(f'"{name}":"{text}"' for name, text in texts.items())
    payload = encode_segment(f'{{"jti":"j","type":"access","iat":1,"exp":1900000000,{members}}}'.encode())
    signature = tokens.encode({}).split(".")[2]
    with pytest.raises(Refused, match="signature"):
        tokens.validate(f"{header}.{payload}.{signature}", NOW)
    signed = f"{header}.{payload}"
    mac = encode_segment(secret_key(SECRET.encode()).sign("HS256", signed.encode()))
    with pytest.raises(Refused, match="claims"):
        tokens.validate(f"{signed}.{mac}", NOW)


@pytest.mark.parametrize(
    "answer",
    [
        {"userId": HALF},
        {"userId": "u", "scopes": {HALF: {}}},
        {"userId": "u", "scopes": {"todos": {HALF: 1}}},
        {"userId": "u", "scopes": {"todos": {"owner": HALF}}},
    ],
)
def test_somebody_s_code_has_to_answer_otherwise(answer: dict[str, Any]) -> None:
    with pytest.raises(AuthUnavailable) as refused:
        read_answer(answer)
    str(refused.value).encode()


def test_a_claim_that_makes_a_scope_is_refused() -> None:
    table = parse_table({"todos": {"owner": "{tenant}", "path": "t/{tenant}"}})
    assert table.scopes({"tenant": "a"}) == {"todos": {"owner": "a", "path": "t/a"}}
    with pytest.raises(ScopesRefused):
        table.scopes({"tenant": HALF})
