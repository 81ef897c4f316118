"""From the keys of a file to what the parts of the daemon are told: each key arrives, and where it belongs."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.config import Settings
from kora_daemon.config.keys import Key, walk
from kora_daemon.http.access import Tokens
from kora_daemon.http.backup import ImportOptions
from kora_daemon.http.listener import ListenerOptions
from kora_daemon.http.static_files import AppFiles, AppOptions
from kora_daemon.options import app_files, import_options, listener_options, server_options, tokens
from kora_daemon.parts import Parts, build_blobs, build_store, load_parts
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server.blob_keeper import BlobRules
from kora_daemon.server.deflate import Compression
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from kora_daemon.store.blobs.contract import Kept, sha256_of
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.postgres.blobs import PostgresBlobs
from kora_daemon.store.postgres.sessions import Session
from kora_daemon.store.sqlite import SqliteStore
from tests.support.config import load

FILE = """
[server]
host = "127.0.0.2"
port = 4568
path = "/sync"
max_connections = 11
batch_size = 12
schema_version = 13
supported_schema_versions = [12, 14]
reuse_port = true
tls_certificate = "cert.pem"
tls_key = "key.pem"
trusted_proxies = ["10.0.0.0/8"]
compression = true
compression_min_bytes = 2001
allowed_origins = ["https://app.example.org"]
shutdown_grace = 15.0
shutdown_spread = 2.0
[limits]
max_message_bytes = 100001
max_operation_bytes = 1001
max_operations_per_batch = 21
max_operations_per_minute = 22
max_buffered_bytes = 2500002
max_awareness_bytes = 1003
max_unauthenticated = 23
max_unauthenticated_per_address = 24
handshake_timeout = 3.0
ping_interval = 4.0
poll_hold = 5.0
poll_idle = 6.0
max_polling_sessions = 25
[store]
kind = "postgres"
url = "postgresql://kora@localhost/kora"
durability = "normal"
readers = 3
connect_timeout = 7.0
statement_timeout = 8.0
application_name = "ours"
outage_patience = 9.0
[auth]
kind = "token"
source = "python"
python = "theirs:anything"
revalidate = 31.0
on_expiry = "close"
refusal_delay = 2.5
allow_query_token = true
shared_data = true
require_scopes = false
accepted_scope = "collections"
node_binding = "enforce"
node_handover = false
timeout = 1.5
[admin]
admin_token = "a"
metrics_token = "m"
backup_token = "b"
data_token = "d"
max_import_bytes = 5001
[static]
directory = "dist"
isolation = false
spa = false
immutable = ["fixed/*"]
[[routes]]
path = "/api"
python = "theirs:anything"
timeout = 41.0
concurrency = 42
max_body_bytes = 43
[records]
cascade_levels = 5
max_bytes = 7001
[validate]
python = "theirs:anything"
timeout = 6.5
[awareness]
group_by = ["org"]
[blobs]
kind = "store"
max_bytes = 6001
max_blob_bytes = 6002
max_unused_bytes = 6003
"""
ELSEWHERE = {
    "schema": "tests/integration/test_records.py",
    "server.path": "tests/integration/test_http.py",
    "store.path": "below",
    "blobs.path": "below",
    "blobs.keep_free_bytes": "below",
    "blobs.gc_grace_days": "tests/integration/test_blob_commands.py",
    "log.level": "tests/integration/test_reload.py",
    "log.format": "tests/unit/test_log.py",
    "admin.socket": "tests/integration/test_control_socket.py",
}
"""What the file above has not, since it goes with another kind, or is no option of a part."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With all that the file names."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "theirs.py").write_text("def anything(*_args): ...\n")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((Path(__file__).parent / "data" / "tls" / name).read_bytes())
    return tmp_path


@pytest.fixture
def settings(folder: Path) -> Settings:
    return load(folder, FILE)


def test_the_file_has_every_key_that_is_not_shown_elsewhere(settings: Settings) -> None:
    keys = {path for path, one in walk(Settings) if isinstance(one, Key) and "[]" not in path}
    # How those who connect are judged has tests of its own.
    of_providers = {
        path for path in keys if path.startswith("auth.") and path not in {*settings.origins, "auth.require_scopes"}
    }
    assert keys - of_providers - set(settings.origins) == set(ELSEWHERE) - set(settings.origins)


def test_a_server(settings: Settings) -> None:
    parts = load_parts(settings)
    assert server_options(settings, parts) == ServerOptions(
        schema_version=13,
        supported_schema_versions=(12, 14),
        batch_size=12,
        max_connections=11,
        max_unauthenticated=23,
        max_unauthenticated_per_address=24,
        uploads=UploadLimits(1001, 21, 22),
        max_awareness_bytes=1003,
        blobs=BlobRules(6002, 6003),
        awareness_group_by=("org",),
        handshake_timeout=3.0,
        ping_interval=4.0,
        polling=PollingOptions(5.0, 6.0, 25, 100_001, 2_500_002),
        apply=ApplyRules(None, 5, moves_history=True, max_record_bytes=7_001),
        validator=parts.validator,
        validator_timeout=6.5,
        auth=AuthRules(1.5, require_scopes=False, shared_data=True, revalidate=31.0, close_on_expiry=True),
        refusal_delay=2.5,
        allow_query_token=True,
        accepted_scope="collections",
        node_binding="enforce",
        node_handover=False,
        shutdown_grace=15.0,
        shutdown_spread=2.0,
        store_patience=60.0 + 7.0 + 8.0,
        reader_threads=3,
        outage_patience=9.0,
    )
    assert parts.validator is not None


def test_users_without_scopes_are_refused_where_the_file_says_so(folder: Path) -> None:
    toml = '[auth]\nkind = "token"\nsource = "python"\npython = "theirs:anything"\nrequire_scopes = true\n'
    assert server_options(load(folder, toml)).auth == AuthRules(require_scopes=True)


def test_without_auth_nobody_has_a_device(folder: Path) -> None:
    assert server_options(load(folder, '[auth]\nnode_binding = "enforce"\n')).node_binding == "off"


def test_a_listener(settings: Settings) -> None:
    options = listener_options(settings)
    assert options.tls is not None
    assert options == ListenerOptions(
        hosts=("127.0.0.2",),
        port=4568,
        reuse_port=True,
        tls=options.tls,
        trusted_proxies=(ip_network("10.0.0.0/8"),),
        max_message_bytes=100_001,
        max_buffered_bytes=2_500_002,
        compression=Compression(2001),
        allowed_origins=("https://app.example.org",),
    )


def test_no_compression(folder: Path) -> None:
    assert listener_options(load(folder, "[server]\ncompression = false\n")).compression is None


def test_the_operational_endpoints(settings: Settings, folder: Path) -> None:
    assert tokens(settings) == Tokens("a", "m", "b", "d")
    assert import_options(settings) == ImportOptions(5001, None)
    beside = load(folder, '[store]\npath = "data/kora.db"\n[admin]\nmax_import_bytes = 5002\n')
    assert import_options(beside) == ImportOptions(5002, folder / "data")


def test_the_app_and_its_code(settings: Settings, folder: Path) -> None:
    served = app_files(settings)
    assert isinstance(served, AppFiles)
    assert (served._folder, served._options) == (
        folder / "dist",
        AppOptions(isolation=False, spa=False, immutable=("fixed/*",)),
    )
    (route,) = load_parts(settings).routes
    assert (route.path, route.timeout_s, route.concurrency, route.max_body_bytes) == ("/api", 41.0, 42, 43)
    assert app_files(load(folder, "")) is None
    assert load_parts(load(folder, "")) == Parts()


def test_a_database(settings: Settings) -> None:
    store, blobs = build_store(settings.store), build_blobs(settings)
    assert isinstance(store, PostgresStore)
    assert isinstance(blobs, PostgresBlobs)
    url = "postgresql://kora@localhost/kora"
    assert store._connections.session == Session(url, "ours", "normal", 7.0, 8.0, 30)
    assert blobs._session == Session(url, "ours blobs", "normal", 7.0, 8.0, 8.0)


def test_files(folder: Path) -> None:
    toml = (
        '[store]\npath = "data/kora.db"\ndurability = "normal"\nreaders = 2\n'
        '[blobs]\nkind = "directory"\npath = "files"\nmax_bytes = 128\nkeep_free_bytes = 0\n'
    )
    settings = load(folder, toml)
    (folder / "data").mkdir()
    store, blobs = build_store(settings.store), build_blobs(settings)
    assert isinstance(store, SqliteStore)
    assert isinstance(blobs, DirectoryBlobs)
    store.open()
    blobs.open()
    try:
        assert (folder / "data" / "kora.db").exists()
        assert (folder / "files").is_dir()
        assert store._connections.writer is not None
        assert store._connections.writer.pragma("synchronous") == 1  # normal
        small, large = b"x" * 64, b"x" * 65
        assert blobs.put(sha256_of(small), small, [], 0) is Kept.NEW
        assert blobs.put(sha256_of(large), large, [], 0) is Kept.FULL
    finally:
        store.close()
        blobs.close()


def test_a_disk_that_others_need(folder: Path) -> None:
    blobs = build_blobs(load(folder, f'[blobs]\nkind = "directory"\nkeep_free_bytes = {2**52}\n'))
    assert blobs is not None
    blobs.open()
    try:
        assert blobs.put(sha256_of(b"x"), b"x", [], 0) is Kept.FULL
    finally:
        blobs.close()
