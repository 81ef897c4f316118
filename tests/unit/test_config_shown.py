"""The configuration in force, as `kora config show` prints it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from kora_daemon.config import Settings, load_settings
from kora_daemon.config.shown import effective_toml
from tests.support.config import load

WITH_EVERYTHING = """
schema = "kora.toml"
[server]
host = ["127.0.0.1", "::1"]
trusted_proxies = ["10.0.0.0/8", "192.168.0.1"]
supported_schema_versions = [1, 2]
[auth]
kind = "token"
source = "jwt"
[auth.jwt]
algorithms = ["RS256"]
public_key_file = "kora.toml"
audience = "kora"
issuer = ["a", "b"]
metadata = { "e-mail" = "email" }
[auth.scopes]
todos = { userId = "{sub}", open = true, level = 5, weight = 0.5 }
settings = {}
[[auth.grants]]
when = { role = ["viewer", 3] }
scopes = { "*" = {} }
[static]
directory = "."
[[routes]]
path = "/a"
python = "app:a"
[[routes]]
path = "/b"
python = "app:b"
[validate]
python = "app:judge"
[awareness]
group_by = ["orgId"]
"""


def test_what_is_shown_is_toml_that_means_the_same(tmp_path: Path) -> None:
    for toml in ("", WITH_EVERYTHING):
        settings = load(tmp_path, toml)
        shown = tmp_path / "elsewhere" / "shown.toml"
        shown.parent.mkdir(exist_ok=True)
        shown.write_text(effective_toml(settings))
        again = load_settings(shown, {})
        assert (again.server, again.auth, again.static, again.routes) == (
            settings.server,
            settings.auth,
            settings.static,
            settings.routes,
        )
        assert (again.schema, again.store, again.blobs) == (settings.schema, settings.store, settings.blobs)


def test_each_value_tells_where_it_came_from(tmp_path: Path) -> None:
    settings = load(tmp_path, "[server]\nport = 5", {"KORA_LOG__LEVEL": "debug"})
    lines = effective_toml(settings).splitlines()
    assert f"port = 5  # {tmp_path}/kora.toml" in lines
    assert 'level = "debug"  # KORA_LOG__LEVEL' in lines
    assert 'format = "auto"' in lines
    assert "# tls_key is not set" in lines
    assert "# [static] is not set" in lines


def test_paths_are_shown_in_full(tmp_path: Path) -> None:
    shown = tomllib.loads(effective_toml(load(tmp_path, "")))
    assert shown["store"]["path"] == f"{tmp_path}/kora.db"


def test_settings_without_a_file_can_be_shown() -> None:
    assert tomllib.loads(effective_toml(Settings()))["server"]["port"] == 4567
