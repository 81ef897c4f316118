"""The user tables of `@korajs/auth` in tests, as that server makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import apsw
import psycopg

from kora_daemon.auth.users import UserDirectory
from kora_daemon.store.postgres.users import PostgresUsers
from kora_daemon.store.sqlite.users import SqliteUsers
from tests.support.postgres import server

Row = Mapping[str, Any]

SQLITE_TABLES = """
    CREATE TABLE auth_users (
        id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE COLLATE NOCASE, name TEXT NOT NULL,
        email_verified INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL,
        password_hash TEXT NOT NULL, salt TEXT NOT NULL
    );
    CREATE TABLE auth_devices (
        id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES auth_users(id) ON DELETE CASCADE,
        public_key TEXT NOT NULL, name TEXT NOT NULL, revoked INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL, last_seen_at INTEGER NOT NULL
    );
    CREATE INDEX idx_auth_devices_user_id ON auth_devices(user_id);
"""
POSTGRES_TABLES = """
    CREATE TABLE auth_users (
        id text PRIMARY KEY, email text NOT NULL UNIQUE, name text NOT NULL,
        email_verified boolean NOT NULL DEFAULT false, created_at bigint NOT NULL,
        password_hash text NOT NULL, salt text NOT NULL
    );
    CREATE UNIQUE INDEX auth_users_email ON auth_users (lower(email));
    CREATE TABLE auth_devices (
        id text PRIMARY KEY, user_id text NOT NULL REFERENCES auth_users(id) ON DELETE CASCADE,
        public_key text NOT NULL, name text NOT NULL, revoked boolean NOT NULL DEFAULT false,
        created_at bigint NOT NULL, last_seen_at bigint NOT NULL
    );
    CREATE INDEX idx_auth_devices_user_id ON auth_devices(user_id);
"""
USER_COLUMNS = ("id", "email", "name", "email_verified", "created_at", "password_hash", "salt")
DEVICE_COLUMNS = ("id", "user_id", "public_key", "name", "revoked", "created_at", "last_seen_at")


class UserTables:
    """The tables of an `@korajs/auth` server, seen by that server."""

    url: str

    def execute(self, statement: str, bindings: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement with ? for values."""
        raise NotImplementedError

    def directory(self) -> UserDirectory:
        """As the daemon sees them."""
        raise NotImplementedError

    def add(self, users: Iterable[Row], devices: Iterable[Row]) -> None:
        """Insert rows."""
        for table, columns, rows in (
            ("auth_users", USER_COLUMNS, users),
            ("auth_devices", DEVICE_COLUMNS, devices),
        ):
            marks = ", ".join("?" * len(columns))
            for row in rows:
                self.execute(f"INSERT INTO {table} VALUES ({marks})", [row[column] for column in columns])

    def user(self, name: str) -> None:
        """Insert a user with this id."""
        self.add([_user(name)], [])

    def device(self, name: str, user: str, last_seen_at: int = 0) -> None:
        """Insert a device with this id."""
        self.add([], [_device(name, user, last_seen_at)])

    def last_seen(self) -> dict[str, int]:
        """All stamps."""
        return dict(self.execute("SELECT id, last_seen_at FROM auth_devices"))  # type: ignore[arg-type]


class SqliteTables(UserTables):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "auth.db"
        self.url = f"sqlite:{self.path}"
        self.connection = apsw.Connection(str(self.path))
        self.connection.pragma("journal_mode", "wal")
        self.connection.execute(SQLITE_TABLES)

    def execute(self, statement: str, bindings: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self.connection.execute(statement, tuple(bindings)))

    def directory(self) -> UserDirectory:
        return SqliteUsers(self.path)


class PostgresTables(UserTables):
    def __init__(self, folder: Path, url: str | None = None) -> None:
        del folder
        self.url = url or server().schema()
        self.connect()
        self.connection.execute(POSTGRES_TABLES.encode())

    def connect(self) -> None:
        """Once more, when the server was away."""
        self.connection = psycopg.connect(self.url, autocommit=True)

    def execute(self, statement: str, bindings: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.replace("?", "%s").encode(), list(bindings))
        return cursor.fetchall() if cursor.description else []

    def directory(self) -> UserDirectory:
        return PostgresUsers(self.url)


TABLES: dict[str, Callable[[Path], UserTables]] = {"sqlite": SqliteTables, "postgres": PostgresTables}


def _user(name: str) -> Row:
    return {
        "id": name, "email": f"{name}@example.org", "name": name.title(), "email_verified": False,
        "created_at": 1, "password_hash": "00", "salt": "00",
    }  # fmt: skip


def _device(name: str, user: str, last_seen_at: int) -> Row:
    return {
        "id": name, "user_id": user, "public_key": "", "name": "Browser", "revoked": False,
        "created_at": 1, "last_seen_at": last_seen_at,
    }  # fmt: skip
