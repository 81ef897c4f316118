"""The store in one SQLite file. Nothing outside of this package knows the SQLite binding."""

from kora_daemon.store.sqlite.connections import Durability
from kora_daemon.store.sqlite.store import SqliteStore

__all__ = ["Durability", "SqliteStore"]
