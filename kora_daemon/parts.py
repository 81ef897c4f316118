"""What the settings name, read or built: the store, the app's schema, the app's code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kora_daemon.config import Settings
from kora_daemon.config.settings import StoreSettings
from kora_daemon.errors import ConfigError
from kora_daemon.hooks import load_hook
from kora_daemon.model.schema import Schema
from kora_daemon.schema_file import load_schema
from kora_daemon.server.validation import Validator
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Parts:
    """What only a start reads: the app's schema and its code."""

    schema: Schema | None = None
    validator: Validator | None = None


def load_parts(settings: Settings) -> Parts:
    """Read the schema file and import the app's callables. Raises ConfigError."""
    schema = None if settings.schema is None else load_schema(settings.schema)
    validator = None
    if settings.validate is not None:
        folder = Path.cwd() if settings.source is None else settings.source.absolute().parent
        validator = load_hook("validate.python", settings.validate.python, folder)
    return Parts(schema, validator)


def required_schema(settings: Settings) -> Schema:
    """The schema, for what can't be done without. Raises ConfigError."""
    if settings.schema is None:
        raise ConfigError([f"schema ({settings.source}): is missing, expected the path of the app's schema file"])
    return load_schema(settings.schema)


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
