"""The store in a PostgreSQL database, for one daemon or several.

Nothing outside of this package knows psycopg, but for what reads connection strings (`kora_daemon.conninfo`).
"""

from kora_daemon.store.postgres.sessions import Durability
from kora_daemon.store.postgres.store import PostgresStore

__all__ = ["Durability", "PostgresStore"]
