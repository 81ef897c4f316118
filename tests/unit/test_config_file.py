"""A configuration file: what it means, and what is said about a bad one (config.md, The file)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.config import ServerSettings, Settings, StoreSettings, load_settings
from kora_daemon.config.keys import Key, walk
from kora_daemon.errors import ConfigError
from tests.support.config import load, problems

TLS = Path(__file__).parent / "data" / "tls"


def test_a_file_without_any_key_means_all_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, "")

    defaults = Settings()
    assert settings.source == tmp_path / "kora.toml"
    assert settings == replace(
        defaults,
        source=settings.source,
        store=replace(defaults.store, path=tmp_path / "kora.db"),
        blobs=replace(defaults.blobs, path=tmp_path / "blobs"),
    )


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = Settings()
    assert (settings.server.host, settings.server.port, settings.server.path) == (("0.0.0.0",), 4567, "/")
    assert settings.server.schema_versions() == (1, 1, 1)
    assert settings.limits.max_operations_per_minute == 6000
    assert settings.limits.ping_interval == 25.0
    assert (settings.store.kind, settings.store.durability) == ("sqlite", "full")
    assert settings.auth.kind == "none"


def test_every_value_arrives_with_its_type(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        [server]
        host = ["127.0.0.1", "::1", "sync.example.org"]
        port = 0
        path = "/sync"
        schema_version = 3
        supported_schema_versions = [2, 4]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        allowed_origins = ["https://app.example.org", "http://localhost:5173", "capacitor://localhost", "*"]
        shutdown_grace = 3

        [store]
        kind = "memory"
        """,
    )
    assert settings.server.host == ("127.0.0.1", "::1", "sync.example.org")
    assert settings.server.port == 0
    assert settings.server.schema_versions() == (3, 2, 4)
    assert settings.server.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert settings.server.allowed_origins[1:] == ("http://localhost:5173", "capacitor://localhost", "*")
    assert settings.server.shutdown_grace == 3.0
    assert isinstance(settings.server.shutdown_grace, float)
    assert settings.store.kind == "memory"


def test_paths_start_in_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    Path("etc/kora.toml").write_text('[store]\npath = "data/kora.db"\n[blobs]\npath = "/var/blobs"')

    settings = load_settings(Path("etc/kora.toml"), {})

    assert settings.store.path == tmp_path / "etc" / "data" / "kora.db"
    assert settings.blobs.path == Path("/var/blobs")


def test_a_byte_order_mark_is_no_trouble(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff[server]\nport = 5").server.port == 5


@pytest.mark.parametrize(("host", "part"), [("12", ""), ('["::1", 12]', "[1] to be ")])
def test_a_single_value_that_may_be_a_list_is_no_part_of_one(tmp_path: Path, host: str, part: str) -> None:
    assert problems(tmp_path, f"[server]\nhost = {host}") == [
        f"server.host (kora.toml): found {host}, expected {part}an IPv4 address, an IPv6 address without brackets, "
        "or a host name"
    ]


def test_the_schema_version_is_the_schema_files_unless_the_file_says_otherwise() -> None:
    assert ServerSettings().schema_versions(of_schema=7) == (7, 7, 7)
    assert ServerSettings(schema_version=2).schema_versions(of_schema=7) == (2, 2, 2)
    assert ServerSettings(supported_schema_versions=(1, 9)).schema_versions(of_schema=7) == (7, 1, 9)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        prot = 4567
        schema = "missing.json"
        [server]
        port = 70000
        tls_key = "missing.pem"
        [limits]
        ping_interval = "often"
        [store]
        kind = "postgres"
        [log]
        level = "${LEVEL}"
        """,
        {"KORA_SERVER__PATH": "sync", "KORA_LOG__COLOR": "no"},
    )
    assert found == [
        "KORA_LOG__COLOR (environment): there is no such setting; "
        "a variable is KORA_<TABLE>__<KEY>, such as KORA_SERVER__PORT",
        'schema (kora.toml): found "missing.json", expected a file that can be read (No such file or directory)',
        "server.port (kora.toml): found 70000, expected a whole number from 0 to 65535",
        'server.path (KORA_SERVER__PATH): found "sync", expected a path that begins with "/", '
        'is not under "/__kora" and not "/health" or "/ready"',
        'server.tls_key (kora.toml): found "missing.pem", expected a file that can be read (No such file or directory)',
        'limits.ping_interval (kora.toml): found "often", expected a number above 0, at most 86400',
        "log.level (kora.toml): the environment variable LEVEL is not set; set it, or write ${LEVEL:-default}",
        "prot (kora.toml): there is no such key; did you mean server.port?",
        'store.url (kora.toml): is missing, expected a PostgreSQL URL since store.kind is "postgres"',
    ]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[server]\nprot = 1", "server.prot (kora.toml): there is no such key; did you mean server.port?"),
        ("[servers]\nport = 1", "servers (kora.toml): there is no such table; did you mean server?"),
        ("port = 1", "port (kora.toml): there is no such key; did you mean server.port?"),
        (
            "[log]\nzzz = 1",
            "log.zzz (kora.toml): there is no such key; expected one of level, format",
        ),
        ("[server.tlskey]\nx = 1", "server.tlskey (kora.toml): there is no such table; did you mean server.tls_key?"),
        ("server = 4567", "server (kora.toml): found a number, expected a table, written [server]"),
        ("[[server]]", "server (kora.toml): found a list, expected a table, written [server]"),
        ("[routes]", "routes (kora.toml): found a table, expected a list of tables, each written [[routes]]"),
        ("[static]", "static.directory (kora.toml): is missing, expected a folder that exists"),
        ('[static]\ndirectory = "x"', 'static.directory (kora.toml): found "x", expected a folder that exists'),
        (
            '[[routes]]\npath = "/__kora/x"\npython = "app:f"',
            'routes[0].path (kora.toml): found "/__kora/x", expected a path that begins with "/", '
            'is not under "/__kora" and not "/health" or "/ready"',
        ),
        (
            "[validate]\npython = 'app.rules'",
            'validate.python (kora.toml): found "app.rules", '
            'expected a Python callable written as "package.module:function"',
        ),
        (
            "[server]\nhost = []",
            "server.host (kora.toml): found [], expected an address or host name, or a list of them",
        ),
        (
            '[server]\nhost = ["::1", "256.0.0.1"]',
            'server.host (kora.toml): found ["::1", "256.0.0.1"], expected [1] to be an IPv4 address, '
            "an IPv6 address without brackets, or a host name",
        ),
        *(
            (
                f'[server]\nallowed_origins = ["{origin}"]',
                f'server.allowed_origins (kora.toml): found ["{origin}"], expected [0] to be an origin such as '
                '"https://app.example.org" (scheme, host, port if it is not the usual one), or "*"',
            )
            for origin in (
                "app.example.org",
                "https://app.example.org/",
                "https://App.example.org",
                "null",
                "https://*",
            )
        ),
        (
            '[server]\ntrusted_proxies = ["10.0.0.1/8"]',
            'server.trusted_proxies (kora.toml): found ["10.0.0.1/8"], expected [0] to be an address, '
            'or a network such as "10.0.0.0/8" with no bits set behind its prefix',
        ),
        (
            "[server]\nsupported_schema_versions = [1]",
            "server.supported_schema_versions (kora.toml): found [1], "
            "expected a list of two whole numbers from 1 up, the lower one first",
        ),
        (
            "[store]\nkind = 'sqlight'",
            'store.kind (kora.toml): found "sqlight", expected "memory", "sqlite" or "postgres"',
        ),
    ],
)
def test_one_mistake_is_one_sentence(tmp_path: Path, toml: str, problem: str) -> None:
    assert problems(tmp_path, toml) == [problem]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (
            "[server]\nsupported_schema_versions = [3, 2]\nschema_version = 2",
            "server.supported_schema_versions (kora.toml): found [3, 2], expected the lower version first",
        ),
        (
            "[server]\nsupported_schema_versions = [2, 3]",
            "server.supported_schema_versions (kora.toml): found [2, 3], "
            "expected a range with server.schema_version, which is 1",
        ),
        (
            "[server]\nreuse_port = true",
            'server.reuse_port (kora.toml): only daemons with store.kind = "postgres" can share a port, found "sqlite"',
        ),
        (
            '[store]\nurl = "postgresql://h/db"',
            'store.url (kora.toml): is set, but store.kind is "sqlite", expected "postgres"',
        ),
        (
            "[limits]\nmax_message_bytes = 20000",
            "limits.max_operation_bytes (kora.toml): found 262144, "
            "expected at most limits.max_message_bytes, which is 20000",
        ),
        (
            "[limits]\nmax_buffered_bytes = 2200000",
            "limits.max_buffered_bytes (kora.toml): found 2200000, expected at least 2446678, or devices that read "
            "would be closed as well: the sum of 2 MiB and 4/3 of limits.max_operation_bytes, which is 262144",
        ),
        (
            "[limits]\nmax_awareness_bytes = 40000000",
            "limits.max_awareness_bytes (kora.toml): found 40000000, "
            "expected at most limits.max_message_bytes, which is 33554432",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_a_problem(tmp_path: Path, toml: str, problem: str) -> None:
    assert problems(tmp_path, toml) == [problem]


def test_a_broken_key_is_not_blamed_for_a_contradiction_as_well(tmp_path: Path) -> None:
    found = problems(tmp_path, '[store]\nkind = 5\nurl = "postgresql://h/db"')
    assert found == ['store.kind (kora.toml): found 5, expected "memory", "sqlite" or "postgres"']


def test_a_certificate_and_its_key_are_fine(tmp_path: Path) -> None:
    settings = load(tmp_path, f"[server]\ntls_certificate = '{TLS / 'cert.pem'}'\ntls_key = '{TLS / 'key.pem'}'")
    assert settings.server.tls_key == TLS / "key.pem"


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (
            f"tls_certificate = '{TLS / 'cert.pem'}'",
            "server.tls_certificate (kora.toml): server.tls_key is missing, "
            "expected tls_certificate and tls_key together, or neither",
        ),
        (
            f"tls_key = '{TLS / 'key.pem'}'",
            "server.tls_certificate (kora.toml): server.tls_certificate is missing, "
            "expected tls_certificate and tls_key together, or neither",
        ),
        (
            f"tls_certificate = '{TLS / 'cert.pem'}'\ntls_key = '{TLS / 'other-key.pem'}'",
            "server.tls_certificate (kora.toml): found key values mismatch, "
            "expected PEM files of a certificate and its unencrypted key",
        ),
    ],
)
def test_a_certificate_needs_its_own_key(tmp_path: Path, toml: str, problem: str) -> None:
    assert problems(tmp_path, f"[server]\n{toml}") == [problem]


def test_broken_toml_is_located(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "[server]\nport = = 3\n")
    assert found == "kora.toml: is not TOML: Invalid value (at line 2, column 8)"


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_settings(tmp_path / "kora.toml", {})
    assert refusal.value.problems == [
        f"{tmp_path}/kora.toml: there is no such file; `kora init` writes one, --config names another"
    ]


def test_a_folder_and_a_file_in_another_encoding_are_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes("# für".encode("latin-1"))
    for path, problem in ((tmp_path, "can't be read: Is a directory"), (latin, "byte 3 is not UTF-8")):
        with pytest.raises(ConfigError, match=problem):
            load_settings(path, {})


KEYS = [(path, one) for path, one in walk(Settings) if isinstance(one, Key)]
FLAGS = [path for path, one in KEYS if isinstance(one.default, bool)]
FRACTIONS = [path for path, one in KEYS if isinstance(one.default, float)]
WHOLE_NUMBERS = [path for path, one in KEYS if type(one.default) is int]


def _only(path: str, value: str) -> str:
    table, _, name = path.rpartition(".")
    return f"[[{table[:-2]}]]\n{name} = {value}" if table.endswith("[]") else f"[{table}]\n{name} = {value}"


NEVER = ["nan", "inf", "-1", '"x"', "[]", "{}", "2001-01-01"]
REFUSED = (
    [(path, value) for path in FLAGS for value in [*NEVER, "0", "1"]]
    + [(path, value) for path in FRACTIONS for value in [*NEVER, "true"]]
    + [(path, value) for path in WHOLE_NUMBERS for value in [*NEVER, "true", "1.0"]]
)


@pytest.mark.parametrize(("path", "value"), REFUSED)
def test_true_is_no_number_a_fraction_is_not_whole_and_the_like(tmp_path: Path, path: str, value: str) -> None:
    refusal = f"{path.replace('[]', '[0]')} (kora.toml): found "
    assert any(one.startswith(refusal) for one in problems(tmp_path, _only(path, value)))


@pytest.mark.parametrize("path", ["/", "/sync", "/__korax", "/healthy", "/ready/now", "/a/../b"])
def test_a_path_beside_the_daemons_own_is_fine(tmp_path: Path, path: str) -> None:
    assert load(tmp_path, f'[server]\npath = "{path}"').server.path == path


ROUTE = '[[routes]]\npath = "{}"\npython = "app:handle"\n'


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (ROUTE.format("/api") + ROUTE.format("/api/v2") + '[server]\npath = "/"', None),
        (ROUTE.format("/") + '[server]\npath = "/sync"', None),
        (ROUTE.format("/sync/api") + '[server]\npath = "/sync"\n[static]\ndirectory = "."', None),
        (ROUTE.format("/"), "routes[0] has the path /, which is that of server.path; choose another"),
        (
            ROUTE.format("/api") + ROUTE.format("/api/"),
            "routes[1] has the path /api/, which is that of routes[0]; choose another",
        ),
        (
            ROUTE.format("/") + '[server]\npath = "/sync"\n[static]\ndirectory = "."',
            "routes[0] has the path /, which is that of [static]; choose another",
        ),
    ],
)
def test_each_path_has_one_answer(tmp_path: Path, toml: str, problem: str | None) -> None:
    assert problems(tmp_path, toml) == ([] if problem is None else [f"routes (kora.toml): {problem}"])


@pytest.mark.parametrize("path", ["", "sync", "/__kora", "/__kora/", "/__kora/x", "/health", "/ready", "/a b", "/a?b"])
def test_a_path_of_the_daemons_own_or_none_at_all_is_refused(tmp_path: Path, path: str) -> None:
    assert len(problems(tmp_path, f'[server]\npath = "{path}"')) == 1


def test_a_feature_that_has_arrived_is_there(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        schema = "kora.toml"
        [records]
        cascade_levels = 3
        [validate]
        python = "app:judge"
        """,
    )
    assert settings.schema == tmp_path / "kora.toml"
    assert settings.records.cascade_levels == 3
    assert settings.validate is not None
    assert (settings.validate.python, settings.validate.timeout) == ("app:judge", 5.0)


def test_settings_can_be_written_in_python() -> None:
    settings: Any = Settings(store=StoreSettings(kind="memory"))
    assert settings.server.port == 4567
    with pytest.raises(AttributeError):
        settings.store.kind = "sqlite"


@pytest.mark.parametrize("value", ['"/run/kora.sock"', '"control.sock"', '""', "false"])
def test_a_control_socket_is_a_path_or_none(tmp_path: Path, value: str) -> None:
    (tmp_path / "kora.toml").write_text(f"[admin]\nsocket = {value}\n")
    assert load_settings(tmp_path / "kora.toml").admin.socket in (
        Path("/run/kora.sock"),
        tmp_path / "control.sock",
        False,
    )


@pytest.mark.parametrize("value", ["true", "0", f'"{"k" * 108}"'])
def test_a_control_socket_that_can_not_be_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "kora.toml").write_text(f"[admin]\nsocket = {value}\n")
    with pytest.raises(ConfigError, match=r"admin\.socket.*at most 107 bytes"):
        load_settings(tmp_path / "kora.toml")


def test_a_table_is_not_nested_without_end(tmp_path: Path) -> None:
    assert problems(tmp_path, f"[records.cascade_levels{'.a' * 900}]\nb = 1") == ["kora.toml: is nested too deeply"]
