"""Every configuration of docs/auth.md loads, and becomes a provider."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from kora_daemon.auth.build import build_provider
from kora_daemon.auth.contract import Tended
from kora_daemon.schema_file import read_schema
from tests.support.auth import SqliteTables
from tests.support.config import load
from tests.support.tokens import SECRET

PAGE = (Path(__file__).parents[2] / "docs" / "auth.md").read_text()
RECIPES = [one for one in re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.M) if "[auth" in one]
ENVIRONMENT = dict.fromkeys(re.findall(r"\$\{([A-Z_]+)", PAGE), SECRET)
FIELDS = ("userId", "orgId", "tenant", "status", "ownerId")


def test_all_recipes_are_found() -> None:
    assert len(RECIPES) == 14


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_makes_a_provider(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "auth.py").write_text("SESSIONS = {}\n" + _python())
    for name in ("schema.json", "schema.toml"):
        (tmp_path / name).touch()
    settings = load(tmp_path, recipe, ENVIRONMENT).auth
    fields = {name: {"kind": "string"} for name in FIELDS}
    names = ("todos", "projects", "settings", "responses", "forms", "invoices")
    collections = {name: {"fields": fields, "scope": ["userId"]} for name in names}
    schema = read_schema({"version": 1, "collections": collections}, "schema.json")
    users = SqliteTables(tmp_path).directory() if settings.kora is not None else None
    provider = build_provider(settings, schema=schema, folder=tmp_path, users=users)
    if isinstance(provider, Tended):
        provider.close()


def _python() -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.M)
    return block
