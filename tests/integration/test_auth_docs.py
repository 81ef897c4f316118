"""Every configuration of docs/auth.md and docs/recipes.md is accepted, and the recipes come to what they promise."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest

from kora_daemon.auth.build import build_provider
from kora_daemon.auth.contract import Tended
from kora_daemon.auth.kora_tokens import KoraTokens
from kora_daemon.config import AuthSettings
from kora_daemon.parts import build_users
from kora_daemon.schema_file import load_schema, read_schema
from tests.support.auth import SqliteTables
from tests.support.cli import Kora
from tests.support.config import load
from tests.support.tokens import SECRET, jwks, private_key, public_jwk

FAR = 9_999_999_999
FIELDS = ("userId", "orgId", "tenant", "status", "ownerId")
PAGES = {name: (Path(__file__).parents[2] / "docs" / f"{name}.md").read_text() for name in ("auth", "recipes")}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.M)


def configurations(text: str) -> list[str]:
    return [one for one in blocks(text, "toml") if "[auth" in one]


class Recipe(NamedTuple):
    """A section of the page with recipes."""

    name: str
    configs: list[str]
    claims: list[str]


RECIPES = [
    Recipe(section.partition("\n")[0], configurations(section), blocks(section, "json"))
    for section in re.split(r"^##+ ", PAGES["recipes"], flags=re.M)[1:]
]
IN_AUTH, IN_RECIPES = configurations(PAGES["auth"]), [one for recipe in RECIPES for one in recipe.configs]


def test_nothing_was_lost() -> None:
    assert (len(IN_AUTH), len(IN_RECIPES)) == (6, 11)
    assert SEEN.keys() == {recipe.name for recipe in RECIPES if recipe.claims}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the files of a reader may name."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in re.findall(r"\$\{([A-Z_]+)", "".join(PAGES.values())):
        monkeypatch.setenv(name, "host=127.0.0.1 port=1 dbname=app" if name.endswith("_URL") else SECRET)
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "auth.py").write_text("SESSIONS = {}\n" + blocks(PAGES["auth"], "python")[0])
    (tmp_path / "schema.toml").write_text(blocks(PAGES["recipes"], "toml")[0])
    (tmp_path / "schema.json").touch()
    (tmp_path / "revoked.txt").touch()
    SqliteTables(tmp_path).user("ali")
    return tmp_path


@pytest.mark.parametrize("toml", IN_AUTH)
def test_a_configuration_makes_a_provider(toml: str, folder: Path) -> None:
    settings = load(folder, toml, os.environ).auth
    fields = {name: {"kind": "string"} for name in FIELDS}
    names = ("todos", "projects", "settings", "responses", "forms", "invoices")
    collections = {name: {"fields": fields, "scope": ["userId"]} for name in names}
    schema = read_schema({"version": 1, "collections": collections}, "schema.json")
    provider = build_provider(settings, schema=schema, folder=folder, users=build_users(settings))
    if isinstance(provider, Tended):
        provider.close()


@pytest.mark.parametrize("toml", IN_RECIPES)
def test_a_recipe_is_accepted_by_the_command(toml: str, folder: Path) -> None:
    said = Kora(folder, config=toml)("config", "check")
    assert (said.code, said.out.partition("\n")[0]) == (0, f"{folder}/kora.toml is fine."), said.err
    doubts = [line for line in said.err.splitlines() if line.startswith("kora: ")]
    assert [line for line in doubts if "is hidden from everybody who has scopes" not in line] == []


SEEN: dict[str, Any] = {
    "Clerk": {"todos": {"userId": "user_123"}, "projects": {"orgId": "org_1"}},
    "Supabase": {
        "todos": {"userId": "11111111-2222-4333-8444-555555555555"},
        "projects": {"orgId": "org_1"},
    },
    "Auth0": {"todos": {"userId": "auth0|123456"}, "projects": {"orgId": "org_1"}},
    "Keycloak": {"projects": {"orgId": "org_1", "__readonly": True}},
    "On SQLite": {"todos": {"userId": "ali"}, "forms": {"ownerId": "ali"}, "responses": {}},
}


@pytest.mark.parametrize("recipe", [one for one in RECIPES if one.claims], ids=lambda recipe: recipe.name)
async def test_the_claims_of_a_recipe_come_to_scopes(recipe: Recipe, folder: Path) -> None:
    content = json.loads(recipe.claims[0])
    settings, token = _signed(load(folder, recipe.configs[0], os.environ).auth, content, folder)
    schema = load_schema(folder / "schema.toml")
    provider = build_provider(settings, schema=schema, folder=folder, users=build_users(settings))
    context = await provider.authenticate(token)
    assert context is not None
    assert context.user_id == content["sub"]
    assert context.scopes == SEEN[recipe.name]


def _signed(settings: AuthSettings, claims: dict[str, Any], folder: Path) -> tuple[AuthSettings, str]:
    """The settings with keys of ours in place of the issuer's, and a token of theirs with these claims."""
    if settings.jwt is None:
        return settings, KoraTokens([SECRET]).issue(claims["sub"], claims["dev"], claims["type"], FAR, 60)
    algorithm = settings.jwt.algorithms[0]
    (folder / "jwks.json").write_bytes(jwks(public_jwk(algorithm)))
    ours = replace(settings.jwt, jwks_url=None, jwks_file=folder / "jwks.json")
    token = jwt.encode(claims | {"exp": FAR}, private_key(algorithm, "k1"), algorithm, {"kid": "k1"})
    return replace(settings, jwt=ours), token
