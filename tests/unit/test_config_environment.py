"""What the environment has to say: `${NAME}` in the file, and `KORA_<TABLE>__<KEY>` (config.md, The file)."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.support.config import load, problems


@pytest.mark.parametrize(
    ("written", "environ", "meant"),
    [
        ("${NAME}.db", {"NAME": "app"}, "app.db"),
        ("${A}${B}", {"A": "x", "B": "y"}, "xy"),
        ("${NAME:-kora}.db", {}, "kora.db"),
        ("${NAME:-kora}.db", {"NAME": ""}, "kora.db"),
        ("${NAME:-kora}.db", {"NAME": "app"}, "app.db"),
        ("${NAME:-}x", {}, "x"),
        ("${NAME:-a:-b}", {}, "a:-b"),
        ("$${NAME}.db", {"NAME": "app"}, "${NAME}.db"),
        ("$NAME $5 {sub}", {"NAME": "app"}, "$NAME $5 {sub}"),
        ("${A}", {"A": "${B}", "B": "no"}, "${B}"),
    ],
)
def test_a_text_takes_values_from_the_environment(
    tmp_path: Path, written: str, environ: dict[str, str], meant: str
) -> None:
    settings = load(tmp_path, f'[store]\npath = "{written}"', environ)
    assert settings.store.path == tmp_path / meant


@pytest.mark.parametrize(
    ("written", "environ", "content", "meant"),
    [
        ("${NAME}.db", {}, b"app", "app.db"),
        ("${NAME}.db", {}, b"app\n", "app.db"),
        ("${NAME}.db", {}, b"app\n\n", "app\n.db"),
        ("${NAME}.db", {"NAME": "env"}, b"app", "env.db"),
        ("${NAME:-kora}.db", {}, b"app", "app.db"),
        ("${NAME:-kora}.db", {"NAME": ""}, b"app", "app.db"),
        ("${NAME:-kora}.db", {}, b"", "kora.db"),
        ("${NAME}x", {}, b"", "x"),
        ("${OTHER:-kora}.db", {}, b"app", "kora.db"),
    ],
)
def test_a_name_that_is_not_in_the_environment_may_be_a_credentials(
    tmp_path: Path, written: str, environ: dict[str, str], content: bytes, meant: str
) -> None:
    handed_over = tmp_path / "credentials"
    handed_over.mkdir()
    (handed_over / "NAME").write_bytes(content)
    environ = {"CREDENTIALS_DIRECTORY": str(handed_over), **environ}
    assert load(tmp_path, f'[store]\npath = "{written}"', environ).store.path == tmp_path / meant


def test_a_credential_that_is_missing_or_no_text_is_a_problem_that_shows_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "BINARY").write_bytes(b"s3cret\xff")
    (tmp_path / "FOLDER").mkdir()
    toml = '[admin]\nadmin_token = "${BINARY}"\nmetrics_token = "${NONE}"\nbackup_token = "${FOLDER}"'
    assert problems(tmp_path, toml, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == [
        "admin.admin_token (kora.toml): the credential BINARY is not UTF-8, expected a secret as text",
        "admin.metrics_token (kora.toml): the environment variable NONE is not set, "
        "nor is there a credential of that name; set it, or write ${NONE:-default}",
        "admin.backup_token (kora.toml): the credential FOLDER can't be read: Is a directory",
    ]


def test_all_variables_of_a_value_that_are_not_set_are_named(tmp_path: Path) -> None:
    toml = '[store]\npath = "${A}/${B:-b}/${C}${A}"\n[server]\nhost = ["${D}", "${E}"]'
    assert problems(tmp_path, toml, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == [
        "server.host (kora.toml): the environment variables D, E are not set, nor are there credentials of these "
        "names; set them, or write ${D:-default}",
        "store.path (kora.toml): the environment variables A, C are not set, nor are there credentials of these "
        "names; set them, or write ${A:-default}",
    ]


def test_texts_inside_lists_and_tables_do_too(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        [auth]
        kind = "token"
        source = "http"
        url = "http://${HOST}/auth"
        headers = { Authorization = "Bearer ${TOKEN}" }
        [awareness]
        group_by = ["${FIELD}"]
        """,
        {"HOST": "hook:9000", "TOKEN": "t", "FIELD": "orgId"},
    )
    assert settings.auth.url == "http://hook:9000/auth"
    assert settings.auth.headers == {"Authorization": "Bearer t"}
    assert settings.awareness.group_by == ("orgId",)


def test_a_text_from_the_environment_may_stand_for_a_number_a_flag_or_a_list(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        [server]
        port = "${PORT:-4568}"
        host = "${HOSTS}"
        shutdown_grace = "${GRACE}"
        [auth]
        shared_data = "${SHARED}"
        """,
        {"HOSTS": "127.0.0.1, ::1", "GRACE": "2.5", "SHARED": "yes"},
    )
    assert settings.server.port == 4568
    assert settings.server.host == ("127.0.0.1", "::1")
    assert settings.server.shutdown_grace == 2.5
    assert settings.auth.shared_data is True


def test_a_plain_text_does_not_stand_for_a_number(tmp_path: Path) -> None:
    assert problems(tmp_path, '[server]\nport = "4567"') == [
        'server.port (kora.toml): found "4567", expected a whole number from 0 to 65535'
    ]


@pytest.mark.parametrize("written", ["${NAME", "${}", "${1}", "${A B}", "a${"])
def test_a_reference_that_is_none_is_a_problem(tmp_path: Path, written: str) -> None:
    (problem,) = problems(tmp_path, f'[store]\npath = "{written}"', {"NAME": "x"})
    assert problem.startswith("store.path (kora.toml): found ${ that begins no ${NAME}, expected a name")


@pytest.mark.parametrize(
    ("variable", "text", "attribute", "meant"),
    [
        ("KORA_SERVER__PORT", "5000", "server.port", 5000),
        ("KORA_SERVER__SHUTDOWN_GRACE", "3", "server.shutdown_grace", 3.0),
        ("KORA_SERVER__HOST", "::1", "server.host", ("::1",)),
        ("KORA_SERVER__HOST", "::1,localhost", "server.host", ("::1", "localhost")),
        ("KORA_SERVER__HOST", '["::1"]', "server.host", ("::1",)),
        ("KORA_SERVER__SUPPORTED_SCHEMA_VERSIONS", "[1, 3]", "server.supported_schema_versions", (1, 3)),
        ("KORA_SERVER__SUPPORTED_SCHEMA_VERSIONS", "1,3", "server.supported_schema_versions", (1, 3)),
        ("KORA_SERVER__TRUSTED_PROXIES", "10.0.0.0/8", "server.trusted_proxies", (ip_network("10.0.0.0/8"),)),
        ("KORA_AUTH__SHARED_DATA", "true", "auth.shared_data", True),
        ("KORA_AUTH__SHARED_DATA", "0", "auth.shared_data", False),
        ("KORA_AUTH__ANONYMOUS_PREFIX", "${A}", "auth.anonymous_prefix", "${A}"),
        ("KORA_LOG__LEVEL", "debug", "log.level", "debug"),
        ("KORA_ADMIN__ADMIN_TOKEN", "5000", "admin.admin_token", "5000"),
        ("KORA_ADMIN__ADMIN_TOKEN", "[a,b]", "admin.admin_token", "[a,b]"),
    ],
)
def test_a_variable_overrides_its_key(tmp_path: Path, variable: str, text: str, attribute: str, meant: object) -> None:
    settings: object = load(tmp_path, '[server]\nport = 1\n[log]\nlevel = "error"', {variable: text})
    for name in attribute.split("."):
        settings = getattr(settings, name)
    assert settings == meant


def test_a_variable_reaches_a_nested_table_that_the_file_does_not_have(tmp_path: Path) -> None:
    environ = {
        "KORA_AUTH__KIND": "token",
        "KORA_AUTH__SOURCE": "jwt",
        "KORA_AUTH__JWT__ALGORITHMS": "HS256,HS512",
        "KORA_AUTH__JWT__SECRET": "a,b",
        "KORA_AUTH__JWT__ISSUER": "https://id.example.org",
        "KORA_AUTH__SCOPES": '{ todos = { userId = "{sub}" } }',
    }
    auth = load(tmp_path, "", environ).auth
    assert auth.jwt is not None
    assert auth.jwt.algorithms == ("HS256", "HS512")
    assert auth.jwt.secret == "a,b"
    assert auth.jwt.issuer == ("https://id.example.org",)
    assert auth.scopes == {"todos": {"userId": "{sub}"}}


def test_a_variable_may_hold_a_whole_array_of_tables(tmp_path: Path) -> None:
    environ = {
        "KORA_AUTH__KIND": "token",
        "KORA_AUTH__SOURCE": "static",
        "KORA_AUTH__TOKENS": '[{ token = "t", user = "u", unscoped = true }]',
    }
    (token,) = load(tmp_path, "", environ).auth.tokens
    assert (token.token, token.user, token.unscoped) == ("t", "u", True)

    environ["KORA_AUTH__TOKENS"] = '[{ token = "t", usr = "u" }]'
    assert problems(tmp_path, "", environ) == [
        "auth.tokens[0].user (KORA_AUTH__TOKENS): is missing, expected a text that is not empty",
        "auth.tokens[0].usr (KORA_AUTH__TOKENS): there is no such key; did you mean auth.tokens[0].user?",
    ]


def test_a_secret_in_a_variable_is_never_cut_at_a_comma(tmp_path: Path) -> None:
    secret = "0123456789,0123456789,0123456789,"
    environ = {
        "KORA_AUTH__KIND": "kora",
        "KORA_AUTH__KORA__SECRET": secret,
        "KORA_AUTH__KORA__DATABASE": "sqlite:auth.db",
    }
    kora = load(tmp_path, "", environ).auth.kora
    assert kora is not None
    assert kora.secret == (secret,)
    assert kora.database == f"sqlite:{tmp_path}/auth.db"


def test_the_schema_is_the_one_top_level_key_with_a_variable(tmp_path: Path) -> None:
    (tmp_path / "app.json").write_text("{}")
    settings = load(tmp_path, "", {"KORA_SCHEMA": "app.json"})
    assert settings.schema == tmp_path / "app.json"


def test_other_variables_and_empty_ones_are_left_alone(tmp_path: Path) -> None:
    environ = {
        "KORA_CONFIG": "x",
        "KORA_ADMIN_TOKEN": "x",
        "KORA_ROUTES": "x",
        "KORA_SERVER__PORT": "",
        "KORA_SERVER__PRT": "",
        "PATH": "x",
    }
    assert load(tmp_path, "[server]\nport = 7", environ).server.port == 7


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        (
            "KORA_SERVER__PRT",
            "1",
            "KORA_SERVER__PRT (environment): there is no such setting; did you mean KORA_SERVER__PORT?",
        ),
        (
            "KORA_SERVR__PORT",
            "1",
            "KORA_SERVR__PORT (environment): there is no such setting; did you mean KORA_SERVER__PORT?",
        ),
        (
            "KORA_AUTH__JWT",
            "1",
            "KORA_AUTH__JWT (environment): there is no such setting; "
            "a variable is KORA_<TABLE>__<KEY>, such as KORA_SERVER__PORT",
        ),
        (
            "KORA_SERVER__PORT",
            "abc",
            'server.port (KORA_SERVER__PORT): found "abc", expected a whole number from 0 to 65535',
        ),
        (
            "KORA_SERVER__PORT",
            "1\nother = 2",
            'server.port (KORA_SERVER__PORT): found "1\\nother = 2", expected a whole number from 0 to 65535',
        ),
        (
            "KORA_SERVER__REUSE_PORT",
            "maybe",
            'server.reuse_port (KORA_SERVER__REUSE_PORT): found "maybe", expected true or false',
        ),
        (
            "KORA_ADMIN__ADMIN_TOKN",
            "s3cret",
            "KORA_ADMIN__ADMIN_TOKN (environment): there is no such setting; did you mean KORA_ADMIN__ADMIN_TOKEN?",
        ),
        (
            "KORA_AUTH__TOKENS",
            "s3cret",
            "auth.tokens (KORA_AUTH__TOKENS): found a text, expected a list of tables, each written [[auth.tokens]]",
        ),
    ],
)
def test_a_bad_variable_is_a_problem_of_its_own(tmp_path: Path, variable: str, text: str, problem: str) -> None:
    assert problems(tmp_path, "", {variable: text}) == [problem]
