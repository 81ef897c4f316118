"""Secrets are shown nowhere: not in problems, not by `kora config show`, not in a repr (config.md, The file)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kora_daemon.config import Settings
from kora_daemon.config.formats import mask_url
from kora_daemon.config.keys import Key, environment_name, walk
from kora_daemon.config.shown import effective_toml
from kora_daemon.config.toml_text import toml_text
from tests.support.config import load, problems

CANARY = "canary-canary-canary-canary-canary"
SECRETS = {path: one for path, one in walk(Settings) if isinstance(one, Key) and one.secret}


def test_the_keys_that_hold_secrets_are_marked() -> None:
    assert set(SECRETS) == {
        "store.url",
        "admin.admin_token",
        "admin.metrics_token",
        "admin.backup_token",
        "admin.data_token",
        "auth.url",
        "auth.headers",
        "auth.jwt.jwks_url",
        "auth.jwt.secret",
        "auth.kora.secret",
        "auth.kora.database",
        "auth.tokens[].token",
        "auth.tokens[].sha256",
    }


def _only(path: str, value: object) -> str:
    table, _, name = path.rpartition(".")
    heading = f"[[{table[:-2]}]]" if table.endswith("[]") else f"[{table}]"
    return f"{heading}\n{name} = {toml_text(value)}\n{name}_ = {toml_text(value)}"


@pytest.mark.parametrize("value", [CANARY, [CANARY, 5], {"a": CANARY, "b": 5}, [{"a": [CANARY]}], ""])
@pytest.mark.parametrize("path", SECRETS)
def test_a_problem_with_a_secret_or_beside_it_does_not_tell_it(tmp_path: Path, path: str, value: object) -> None:
    found = problems(tmp_path, _only(path, value))
    assert len(found) > 0  # `name_` at least is no key
    assert "canary" not in "".join(found)


@pytest.mark.parametrize("path", [path for path in SECRETS if environment_name(path)])
def test_nor_does_one_with_a_variable(tmp_path: Path, path: str) -> None:
    name = environment_name(path)
    found = problems(tmp_path, "[log]\nlevel = 5", {f"{name}": CANARY, f"{name}_": CANARY})
    assert len(found) > 1
    assert "canary" not in "".join(found)


def test_what_stands_for_a_reference_is_not_told_wherever_it_was_put(tmp_path: Path) -> None:
    found = problems(tmp_path, '[log]\nlevel = "${TOKEN}"\n[server]\nhost = ["${TOKEN}/"]', {"TOKEN": CANARY})
    assert found == [
        'server.host (kora.toml): found ["${TOKEN}/"], expected [0] to be an IPv4 address, '
        "an IPv6 address without brackets, or a host name",
        'log.level (kora.toml): found "${TOKEN}", expected "debug", "info", "warning" or "error"',
    ]


def test_nor_what_stands_in_broken_toml(tmp_path: Path) -> None:
    for toml in (f"[admin]\nadmin_token = {CANARY}", f'[admin]\nadmin_token = "{CANARY}', f"{CANARY}"):
        (found,) = problems(tmp_path, toml)
        assert "canary" not in found


def test_what_is_shown_and_the_repr_mask_every_secret(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        f"""
        [store]
        kind = "postgres"
        url = "postgresql://kora:{CANARY}@db/app?password={CANARY}"
        [admin]
        admin_token = "{CANARY}"
        data_token = "${{TOKEN}}"
        [auth]
        kind = "mixed"
        primary = "kora"
        [auth.anonymous]
        scopes = {{}}
        [auth.kora]
        secret = ["{CANARY}", "{CANARY}"]
        database = "host=db password={CANARY}"
        """,
        {"TOKEN": CANARY, "KORA_ADMIN__BACKUP_TOKEN": CANARY},
    )
    shown = effective_toml(settings)
    assert 'url = "postgresql://***@db/app?***"' in shown
    assert 'data_token = "***"' in shown
    assert 'database = "host=db ***"' in shown
    assert "canary" not in shown
    assert "canary" not in repr(settings)


def test_tokens_and_headers_are_masked_too(tmp_path: Path) -> None:
    tokens = load(
        tmp_path,
        f"""
        [auth]
        kind = "token"
        source = "static"
        tokens = [
          {{ token = "{CANARY}", user = "u", unscoped = true }},
          {{ sha256 = "{"ab" * 32}", user = "v", unscoped = true }},
        ]
        """,
    )
    hook = load(
        tmp_path,
        f"""
        [auth]
        kind = "token"
        source = "http"
        url = "https://u:{CANARY}@hook/?key={CANARY}"
        headers = {{ Authorization = "Bearer {CANARY}" }}
        """,
    )
    assert 'headers = { Authorization = "***" }' in effective_toml(hook)
    for settings in (tokens, hook):
        for text in (effective_toml(settings), repr(settings)):
            assert "canary" not in text
            assert "abab" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://u:CANARY@host:5/db", "postgresql://***@host:5/db"),
        ("postgresql://u:CANARY@CANARY/CANARY?CANARY@host/db", "postgresql://***@host/db"),
        ("postgresql://host/db?password=CANARY", "postgresql://host/db?***"),
        ("postgresql://host/db?sslmode=x&sslpassword=CANARY", "postgresql://host/db?***"),
        ("host=db password=CANARY", "host=db ***"),
        ("host=db PASSWORD = 'CANARY CANARY' dbname=x", "host=db ***"),
        ("host=db sslpassword=CANARY", "host=db ***"),
        ("dbname=postgresql://u:CANARY@h/db", "***@h/db"),
        ("u:CANARY\nCANARY@host", "***@host"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_white_space_around_a_bearer_token_does_not_count(tmp_path: Path) -> None:
    admin = load(tmp_path, '[admin]\nadmin_token = "${A}"\nmetrics_token = " b c\\r\\n"', {"A": f"{CANARY}\n"}).admin
    assert (admin.admin_token, admin.metrics_token) == (CANARY, "b c")


@pytest.mark.parametrize("path", [path for path in SECRETS if path.startswith("admin.")])
@pytest.mark.parametrize("token", [f"{CANARY}\nb", f"\x00{CANARY}", f"{CANARY}\udc80", " \n"])
def test_a_bearer_token_that_no_header_carries_is_refused(tmp_path: Path, path: str, token: str) -> None:
    [found] = problems(tmp_path, f'[admin]\n{path.removeprefix("admin.")} = "${{A}}"', {"A": token})
    assert found.startswith(f"{path} (")
    assert ("expected a text that a header can carry" in found) == (token != " \n")
    assert "canary" not in found


@pytest.mark.parametrize("key", ["[store]\nkind = 'postgres'\nurl", "[auth]\nkind = 'kora'\n[auth.kora]\ndatabase"])
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@CANARY@127.0.0.1:1/db", "write @ in a password as %40"),
        ("postgresql://u:p/CANARY@127.0.0.1:1/db", "write @ in a password as %40"),
        ("postgresql://u:CANARY/db", "a whole number as port"),
        ("postgresql://u:1/CANARY/db", "write / in a password as %2F"),
        ("postgresql://u:CANARY\\u0000@h/db", "without NUL"),
        ("postgresql://u:p@h%c2/CANARY", "in UTF-8"),
        ("dbname=postgresql://u:CANARY@h/db", "the name of a database alone as dbname"),
        ("postgresql://u:CANARY@[::1]x/db", 'unexpected character "…"'),
        ("host=h password=p CANARY", 'missing "…"'),
        ("host=127.0.0.1 port=1 nosuchopt=1", 'invalid connection option "nosuchopt"'),
        ("postgresql://h/db?nosuchopt=1", 'invalid URI query parameter: "nosuchopt"'),
    ],
)
def test_a_connection_string_that_would_tell_its_password_or_is_none_is_refused(
    tmp_path: Path, key: str, url: str, expected: str
) -> None:
    found = problems(tmp_path, f'{key} = "{url}"')
    [said] = [one for one in found if ".url" in one or ".database" in one]
    assert expected in said
    assert "CANARY" not in "".join(found)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:a%40b%2Fc@h:5,k:6/db?user=a@b", "postgres://%2Frun%2Fdb/a%2Fb", "host=a,b port=1,2 password=a@b"],
)
def test_other_connection_strings_are_taken(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, f'[store]\nkind = "postgres"\nurl = "{url}"').store.url == url
