"""What a reload finds changed, and what of that is live."""

from __future__ import annotations

from pathlib import Path

import pytest

from kora_daemon.config import Settings
from kora_daemon.config.changes import Changes, after_reload, changes, values_of
from kora_daemon.config.keys import Key, walk
from tests.support.config import load

LIVE = {path: one.live for path, one in walk(Settings) if isinstance(one, Key)}
KIND = '[auth]\nkind = "token"\nsource = "jwt"\nshared_data = true\n'
JWT = '[auth.jwt]\nalgorithms = ["HS256"]\nsecret = "0123456789abcdef0123456789abcdef"\n'
TOKENS = '[auth]\nkind = "token"\nsource = "static"\n[[auth.tokens]]\ntoken = "t"\nuser = "{user}"\nunscoped = true\n'


def found(folder: Path, before: str, after: str) -> Changes:
    return changes(values_of(load(folder, before)), values_of(load(folder, after)))


def test_every_key_says_whether_it_is_live() -> None:
    assert {type(live) for live in LIVE.values()} == {bool}


@pytest.mark.parametrize(
    ("path", "live"),
    [
        ("log.level", True),
        ("limits.ping_interval", True),
        ("server.max_connections", True),
        ("server.tls_certificate", True),
        ("admin.metrics_token", True),
        ("auth.kind", True),
        ("auth.tokens[].token", True),
        ("auth.jwt.issuer", True),
        ("validate.timeout", True),
        ("validate.python", False),
        ("auth.accepted_scope", False),
        ("server.port", False),
        ("server.path", False),
        ("store.kind", False),
        ("schema", False),
        ("records.cascade_levels", False),
    ],
)
def test_keys_are_live_as_their_table_is_unless_they_say_otherwise(path: str, live: bool) -> None:
    assert LIVE[path] is live


@pytest.mark.parametrize(
    ("before", "after", "live", "needing_restart"),
    [
        ("", "", (), ()),
        ("", "[server]\nport = 4567", (), ()),
        ("", '[server]\nport = 1\n[log]\nlevel = "debug"', ("log.level",), ("server.port",)),
        ("[limits]\nping_interval = 5", "", ("limits.ping_interval",), ()),
        ('[store]\npath = "a.db"', '[store]\npath = "b.db"', (), ("store.path",)),
        (TOKENS.format(user="a"), TOKENS.format(user="b"), ("auth.tokens",), ()),
        (KIND + JWT, f"{KIND}{JWT}leeway = 7", ("auth.jwt.leeway",), ()),
        ("", '[validate]\npython = "a:b"', (), ("validate",)),
        ('[validate]\npython = "a:b"', '[validate]\npython = "a:b"\ntimeout = 1', ("validate.timeout",), ()),
    ],
)
def test_what_differs_is_named(
    tmp_path: Path, before: str, after: str, live: tuple[str, ...], needing_restart: tuple[str, ...]
) -> None:
    assert found(tmp_path, before, after) == (live, needing_restart)


def test_a_table_that_has_come_or_gone_stands_for_its_keys(tmp_path: Path) -> None:
    assert found(tmp_path, "", KIND + JWT).live == ("auth.kind", "auth.source", "auth.shared_data", "auth.jwt")
    assert found(tmp_path, KIND + JWT, "").live == ("auth.kind", "auth.source", "auth.shared_data", "auth.jwt")


def test_a_file_has_changed_when_its_contents_have(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text("{}")
    before = values_of(load(tmp_path, 'schema = "schema.json"'))
    assert changes(before, values_of(load(tmp_path, 'schema = "schema.json"'))) == ((), ())
    file.write_text('{"version": 2}')
    assert changes(before, values_of(load(tmp_path, 'schema = "schema.json"'))) == ((), ("schema",))


def test_what_needs_a_restart_is_named_again_until_there_was_one(tmp_path: Path) -> None:
    in_force = values_of(load(tmp_path, ""))
    fresh = values_of(load(tmp_path, '[server]\nport = 1\n[log]\nlevel = "debug"\n[validate]\npython = "a:b"'))
    assert changes(in_force, fresh) == (("log.level",), ("server.port", "validate"))
    in_force = after_reload(in_force, fresh)
    assert changes(in_force, fresh) == ((), ("server.port", "validate"))
    assert changes(in_force, values_of(load(tmp_path, ""))) == (("log.level",), ())


def test_no_secret_is_part_of_what_is_told(tmp_path: Path) -> None:
    told = found(tmp_path, "", '[admin]\nadmin_token = "s3cret"')
    assert told == (("admin.admin_token",), ())
