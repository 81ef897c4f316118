"""`auth.scopes_from_schema`: the schema's own rules, by verified claims, for every kind that has claims."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.auth.build import build_provider
from kora_daemon.auth.kora_tokens import KoraTokens
from kora_daemon.auth.scoping import SchemaScoping
from kora_daemon.auth.start_checks import scope_problems
from kora_daemon.config import load_settings
from kora_daemon.model.schema import Schema
from kora_daemon.parts import build_auth, load_parts
from kora_daemon.schema_file import read_schema
from tests.support.auth import SqliteTables
from tests.support.config import load, problems
from tests.support.tokens import SECRET, jwks, public_jwk, token

FAR = 9_999_999_999
FIELDS = {name: {"kind": "string"} for name in ("userId", "orgId", "status", "email", "dev")}
DOCUMENT = {
    "version": 1,
    "collections": {
        "todos": {"fields": FIELDS, "scope": ["userId"]},
        "projects": {"fields": FIELDS, "scope": ["userId", "orgId"]},
        "forms": {"fields": FIELDS},
    },
}
RULED = DOCUMENT | {"sync": {"todos": {"where": {"email": "mail"}}}}
JWT = """
schema = "schema.json"
[auth]
kind = "token"
source = "jwt"
scopes_from_schema = true
[auth.jwt]
algorithms = ["ES256"]
jwks_file = "jwks.json"
"""
KORA = f'[auth.kora]\nsecret = "{SECRET}"\ndatabase = '


def schema(document: Any = DOCUMENT) -> Schema:
    return read_schema(document, "schema.json")


def provider(folder: Path, toml: str, document: Any = DOCUMENT) -> Any:
    """As a daemon makes it."""
    (folder / "schema.json").write_text(json.dumps(document))
    (folder / "jwks.json").write_bytes(jwks(public_jwk("ES256")))
    (folder / "kora.toml").write_text(toml)
    settings = load_settings(folder / "kora.toml", {})
    return build_auth(settings, load_parts(settings))


async def scopes(provider: Any, shown: str) -> Any:
    context = await provider.authenticate(shown)
    assert context is not None
    return context.scopes


async def test_claims_of_a_jwt_that_are_missing_hide_collections(tmp_path: Path) -> None:
    judge = provider(tmp_path, JWT)
    both = token(exp=FAR, orgId="o1")
    assert await scopes(judge, both) == {
        "todos": {"userId": "ali"},
        "projects": {"userId": "ali", "orgId": "o1"},
        "forms": {},
    }
    assert await scopes(judge, token(exp=FAR)) == {"todos": {"userId": "ali"}, "forms": {}}
    assert judge.minds_scopes


@pytest.mark.parametrize("value", ["", None, ["o1"], {"id": "o1"}])
async def test_a_claim_that_is_no_value_hides_collections_as_well(tmp_path: Path, value: Any) -> None:
    judge = provider(tmp_path, JWT)
    assert await scopes(judge, token(exp=FAR, orgId=value)) == {"todos": {"userId": "ali"}, "forms": {}}


async def test_with_a_sync_rule_collections_without_any_are_hidden(tmp_path: Path) -> None:
    judge = provider(tmp_path, JWT, RULED)
    assert await scopes(judge, token(exp=FAR, mail="a@b", scope={"orgId": 7})) == {
        "todos": {"email": "a@b"},
        "projects": {"userId": "ali", "orgId": 7},
    }


async def test_what_visitors_are_told_apart_by_is_no_rule_of_the_schema(tmp_path: Path) -> None:
    toml = f"""
    schema = "schema.json"
    [auth]
    kind = "mixed"
    primary = "kora"
    scopes_from_schema = true
    [auth.anonymous.scopes]
    forms = {{ status = "published" }}
    {KORA}""
    """
    judge = provider(tmp_path, toml)
    assert await scopes(judge, "") == {"forms": {"status": "published"}}
    shown = KoraTokens([SECRET]).issue("ali", "phone", "access", FAR, 60)
    assert await scopes(judge, shown) == {"todos": {"userId": "ali"}, "forms": {}}


async def test_users_of_a_kora_server_have_the_claims_of_their_token(tmp_path: Path) -> None:
    SqliteTables(tmp_path).user("ali")
    ruled = DOCUMENT | {"sync": {"todos": {"where": {"dev": True}}, "forms": {"where": {"email": "user"}}}}
    toml = f'schema = "schema.json"\n[auth]\nkind = "kora"\nscopes_from_schema = true\n{KORA}"sqlite:auth.db"\n'
    judge = provider(tmp_path, toml, ruled)
    shown = KoraTokens([SECRET]).issue("ali", "phone", "access", FAR, 60)
    # The claim `user` is an object, which no record equals.
    assert await scopes(judge, shown) == {"todos": {"dev": "phone"}}
    judge.close()


async def test_the_values_of_somebody_s_code_are_its_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "schema_scoping_app.py").write_text(
        "def answer(token):\n"
        "    own = {'scopes': {'forms': {}}} if token == 'own' else {}\n"
        "    metadata = {'orgId': 'o1', 'sub': 'somebody'} if token == 'ali' else None\n"
        "    return {'userId': token, 'metadata': metadata, **own}\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    toml = """
    schema = "schema.json"
    [auth]
    kind = "token"
    source = "python"
    python = "schema_scoping_app:answer"
    scopes_from_schema = true
    """
    judge = provider(tmp_path, toml)
    assert await scopes(judge, "ali") == {
        "todos": {"userId": "ali"},
        "projects": {"userId": "ali", "orgId": "o1"},
        "forms": {},
    }
    assert await scopes(judge, "bea") == {"todos": {"userId": "bea"}, "forms": {}}
    assert await scopes(judge, "own") == {"forms": {}}


async def test_scopes_of_the_file_add_nothing_to_the_rules() -> None:
    widened = schema().with_scopes({"forms": ["status"], "todos": ["orgId", "nothing"]})
    assert widened.collections["todos"].scoped == ("userId", "orgId")
    assert await SchemaScoping(widened).scopes("ali", {"sub": "ali"}) == {"todos": {"userId": "ali"}, "forms": {}}


def test_a_schema_that_says_nothing_is_no_protection(tmp_path: Path) -> None:
    silent = {"version": 1, "collections": {"todos": {"fields": FIELDS}}}
    (tmp_path / "jwks.json").write_bytes(jwks(public_jwk("ES256")))
    (tmp_path / "schema.json").write_text("{}")
    settings = load(tmp_path, JWT).auth
    for given in (None, schema(silent)):
        (problem,) = scope_problems(settings, given)
        assert problem.startswith("auth.scopes_from_schema: the schema has no scope lists and no sync rules")
    assert scope_problems(settings, schema(RULED)) == []
    assert build_provider(settings, schema=schema(), folder=tmp_path)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (JWT.replace('schema = "schema.json"', ""), "is set, but there is no schema"),
        (JWT + "[auth.scopes]\n", "is set together with scopes, expected one of them"),
        (
            JWT.replace("[auth]", '[auth]\nshared_data = true\npython_scopes = "a:b"')
            + '[[auth.grants]]\nwhen = { a = "b" }\nscopes = {}\n',
            "is set together with python_scopes and grants and shared_data, expected one of them",
        ),
        ("[auth]\nscopes_from_schema = true", "is set, but used only with users who have claims"),
        (
            '[auth]\nkind = "token"\nsource = "static"\nscopes_from_schema = true\n'
            '[[auth.tokens]]\ntoken = "t"\nuser = "u"\nunscoped = true',
            "is set, but used only with users who have claims",
        ),
    ],
)
def test_it_goes_with_nothing_else_that_scopes(tmp_path: Path, toml: str, problem: str) -> None:
    (tmp_path / "jwks.json").write_bytes(b"{}")
    (tmp_path / "schema.json").write_text("{}")
    (found,) = problems(tmp_path, toml)
    assert found.startswith(f"auth.scopes_from_schema (kora.toml): {problem}")
