"""What the settings name, read or built: the store, the app's schema, the app's code, the auth provider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.auth.build import build_provider
from kora_daemon.auth.contract import AuthProvider
from kora_daemon.auth.start_checks import scoped_fields
from kora_daemon.auth.users import UserDirectory
from kora_daemon.config import Settings
from kora_daemon.config.auth import AuthSettings
from kora_daemon.config.origins import with_origins
from kora_daemon.config.settings import StoreSettings
from kora_daemon.errors import ConfigError
from kora_daemon.hooks import load_hook
from kora_daemon.http.own_routes import OwnRoute
from kora_daemon.model.schema import Schema
from kora_daemon.schema_file import load_schema
from kora_daemon.server.validation import Validator
from kora_daemon.store.blobs.contract import BlobStore
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore
from kora_daemon.store.sqlite.users import SqliteUsers

if TYPE_CHECKING:
    from kora_daemon.auth.key_sets import KeySource


@dataclass(frozen=True, slots=True)
class Parts:
    """What only a start reads: the app's schema and its code. And what outlives a reload: key sets, by their URLs."""

    schema: Schema | None = None
    validator: Validator | None = None
    routes: tuple[OwnRoute, ...] = ()
    key_sets: dict[str, KeySource] = field(default_factory=dict)


def load_parts(settings: Settings) -> Parts:
    """Read the schema file and import the app's callables. Raises ConfigError."""
    schema = None if settings.schema is None else required_schema(settings)
    validator = None
    with with_origins(settings):
        if settings.validate is not None:
            validator = load_hook(
                "validate.python", settings.validate.python, _folder(settings), ("operation", "context")
            )
        return Parts(schema, validator, tuple(_load_routes(settings)))


def _load_routes(settings: Settings) -> Iterator[OwnRoute]:
    for index, one in enumerate(settings.routes):
        handle = load_hook(f"routes[{index}].python", one.python, _folder(settings), ("request", "data"))
        yield OwnRoute(one.path, handle, one.timeout, one.concurrency, one.max_body_bytes)


def _folder(settings: Settings) -> Path:
    """Where the app's modules are looked for first."""
    return Path.cwd() if settings.source is None else settings.source.absolute().parent


def build_auth(settings: Settings, parts: Parts) -> AuthProvider:
    """The auth provider that the settings name. Raises ConfigError."""
    users = build_users(settings.auth)
    folder = _folder(settings)
    try:
        with with_origins(settings):
            return build_provider(
                settings.auth, schema=parts.schema, folder=folder, users=users, key_sets=parts.key_sets
            )
    except BaseException:
        if users is not None:
            users.close()
        raise


def build_users(settings: AuthSettings) -> UserDirectory | None:
    """The user tables that `auth.kora.database` names, not connected yet; None when it names none."""
    database = "" if settings.kora is None else settings.kora.database
    if not database:
        return None
    if database.startswith("sqlite:"):
        return SqliteUsers(Path(database.removeprefix("sqlite:")))
    # Here, so that nobody else waits for the driver.
    from kora_daemon.store.postgres.users import PostgresUsers  # noqa: PLC0415

    return PostgresUsers(database)


def required_schema(settings: Settings) -> Schema:
    """The schema, with what the settings' scopes are decided by, for what can't be done without. Raises ConfigError."""
    if settings.schema is None:
        raise ConfigError([f"schema ({settings.source}): is missing, expected the path of the app's schema file"])
    schema = load_schema(settings.schema)
    return schema.with_scopes(scoped_fields(settings.auth, schema))


def apply_rules(settings: Settings, schema: Schema | None) -> ApplyRules:
    """How operations are judged, whoever brings them."""
    moves_history = settings.auth.accepted_scope != "full"
    max_record_bytes = max(settings.records.max_bytes, settings.limits.max_operation_bytes)
    return ApplyRules(schema, settings.records.cascade_levels, moves_history, max_record_bytes)


def build_store(settings: StoreSettings) -> Store:
    """The store that the settings name, not opened yet."""
    if settings.kind == "memory":
        return MemoryStore()
    durability: Literal["full", "normal"] = "full" if settings.durability == "full" else "normal"
    if settings.kind == "sqlite":
        return SqliteStore(settings.path, durability=durability, readers=settings.readers)
    # Here, so that nobody else waits for the driver.
    from kora_daemon.store.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(
        settings.url or "",
        durability=durability,
        readers=settings.readers,
        application_name=settings.application_name,
        connect_timeout_s=settings.connect_timeout,
        statement_timeout_s=settings.statement_timeout,
    )


def build_blobs(settings: Settings) -> BlobStore | None:
    """The blob store that the settings name, not opened yet; None where blobs are not kept."""
    blobs, store = settings.blobs, settings.store
    if blobs.kind == "none":
        return None
    if blobs.kind == "directory":
        return DirectoryBlobs(blobs.path, max_bytes=blobs.max_bytes, keep_free_bytes=blobs.keep_free_bytes)
    # Here, so that nobody else waits for the driver.
    from kora_daemon.store.postgres.blobs import PostgresBlobs  # noqa: PLC0415

    return PostgresBlobs(
        store.url or "",
        max_bytes=blobs.max_bytes,
        durability="full" if store.durability == "full" else "normal",
        application_name=store.application_name,
        connect_timeout_s=store.connect_timeout,
        statement_timeout_s=store.statement_timeout,
    )


def blobs_in_folder(folder: Path) -> BlobStore:
    """The blob store in any other folder, to be read, not opened yet."""
    return DirectoryBlobs(folder, writable=False)
