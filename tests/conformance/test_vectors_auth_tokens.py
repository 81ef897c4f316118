"""Every vector of tokens, templates and third-party JWTs (auth.md sections 2, 4 and 6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.auth.claims import parse_path
from kora_daemon.auth.external import external_context
from kora_daemon.auth.jws import Refused
from kora_daemon.auth.jwt import JwtRules, verify
from kora_daemon.auth.keys import Key, key_set, secret_key
from kora_daemon.auth.kora_tokens import KoraTokens, secret_problem
from kora_daemon.auth.templates import BadTemplate, ScopesRefused, parse_table

VECTORS = Path(__file__).parent / "data" / "vectors"
CASE_COUNTS = {
    ("auth-tokens", "cases"): 76,
    ("auth-tokens", "secret_rules"): 9,
    ("auth-tokens", "encode"): 3,
    ("auth-templates", "cases"): 38,
    ("auth-jwt", "cases"): 54,
    ("auth-external", "mappers"): 28,
    ("auth-external", "hs256"): 12,
}

Case = dict[str, Any]


def read_document(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return document


def cases(name: str, part: str) -> Any:
    found: list[Case] = read_document(name)[part]
    return pytest.mark.parametrize("case", found, ids=[one.get("name", str(i)) for i, one in enumerate(found)])


def test_no_vector_is_left_out() -> None:
    found = {
        (name, part): len(content)
        for name in {name for name, _ in CASE_COUNTS}
        for part, content in read_document(name).items()
        if isinstance(content, list)
    }
    assert found == CASE_COUNTS


@cases("auth-tokens", "cases")
def test_a_token_of_kora_auth(case: Case) -> None:
    expected = case["expect"]
    tokens = KoraTokens(case["secrets"])
    if not expected["accept"]:
        with pytest.raises(Refused) as refused:
            tokens.validate(case["token"], case["now_ms"] / 1000)
        assert refused.value.reason == expected["reason"]
        return
    claims = tokens.validate(case["token"], case["now_ms"] / 1000).claims
    assert claims.as_claims() == expected["payload"]
    assert (claims.type == "access") is expected["sync"]


@cases("auth-tokens", "secret_rules")
def test_what_may_be_a_secret(case: Case) -> None:
    secrets = case["value"] if isinstance(case["value"], list) else [case["value"]]
    assert (secret_problem(secrets) is None) is case["ok"]


@cases("auth-tokens", "encode")
def test_the_text_of_a_token(case: Case) -> None:
    assert KoraTokens([case["secret"]]).encode(case["payload"]) == case["token"]


@cases("auth-templates", "cases")
def test_a_template(case: Case) -> None:
    claims = read_document("auth-templates")["claims"]
    try:
        scopes = parse_table(case["template"]).scopes(claims)
    except (BadTemplate, ScopesRefused):
        assert case["expect"] == {"rejected": True}
        return
    # As JSON texts: for Python true is 1.
    assert json.dumps({"scopes": scopes}) == json.dumps(case["expect"])


@cases("auth-jwt", "cases")
def test_a_token_of_somebody_else(case: Case) -> None:
    config = case["config"]
    rules = JwtRules(
        tuple(config["algorithms"]),
        _several(config.get("issuer")),
        _several(config.get("audience")),
        config.get("leeway", 5.0),
        config.get("require_exp", True),
        parse_path(config.get("user_claim", "sub")),
    )
    _check_jwt(case, rules, key_set(json.dumps(config["jwks"]).encode()))


@cases("auth-external", "hs256")
def test_a_token_with_a_shared_secret(case: Case) -> None:
    _check_jwt(case, JwtRules(("HS256",)), [secret_key(case["secret"].encode())])


def _check_jwt(case: Case, rules: JwtRules, keys: list[Key]) -> None:
    expected, now = case["expect"], case["now_ms"] / 1000
    if expected["accept"]:
        assert verify(case["token"], rules, keys, now).user_id == expected["user"]
        return
    with pytest.raises(Refused) as refused:
        verify(case["token"], rules, keys, now)
    assert refused.value.reason == {
        # The same answer, for a reason that we see earlier.
        "alg none in the allowed list is still refused": "algorithm",
        "encryption key is not a signing key": "key",
    }.get(case["name"], expected["reason"])


def _several(value: str | list[str] | None) -> tuple[str, ...] | None:
    return (value,) if isinstance(value, str) else None if value is None else tuple(value)


@cases("auth-external", "mappers")
def test_claims_as_the_adapters_map_them(case: Case) -> None:
    provider = {"default": "external"}.get(case["mapper"], case["mapper"])
    context = external_context(provider, case["claims"])
    found = None if context is None else {"userId": context.user_id, "metadata": context.metadata}
    assert found == case["expect"]
