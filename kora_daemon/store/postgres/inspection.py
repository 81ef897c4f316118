"""A look at a PostgreSQL database that changes nothing: for `kora doctor`, with or without a daemon on it.

Sessions are left as the database, or a pooler in front of it, has made them: a pooler may give what we set to others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Literal

from msgspec import Struct

from kora_daemon.materialization.upgrade import Upgrade
from kora_daemon.model.schema import Schema
from kora_daemon.store.inspection import LogFacts
from kora_daemon.store.postgres.catalog import plan
from kora_daemon.store.postgres.errors import translating
from kora_daemon.store.postgres.sessions import PatientConnection, Session
from kora_daemon.store.tables import COLLECTIONS, META, OPERATIONS

Pooling = Literal["none", "session", "transaction"]

CONNECTIONS_BESIDE_READERS = 3
"""Of one daemon: one writes, one listens to the others, one speaks to them."""
CONNECTIONS_FOR_BLOBS = 4
"""Of one daemon that keeps blobs in the database."""

_TURNS = 20
"""In each of them somebody else may take what we look for, and give it back."""
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '{}ms'"
_FACTS = """
    SELECT current_setting('server_version'), current_setting('server_version_num')::int,
        current_setting('server_encoding'),
        pg_is_in_recovery() OR (SELECT reset_val = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only'),
        current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0),
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
        (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
        (SELECT count(*)::int FROM pg_stat_activity WHERE datname IS NOT NULL
            AND coalesce(backend_type, 'client backend') = 'client backend'
            AND NOT (usename = current_user AND application_name = current_setting('application_name'))),
        (SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user
            AND starts_with(application_name, $1)),
        current_user::text, current_schema()::text, has_schema_privilege(current_schema(), 'CREATE'),
        ARRAY(SELECT relname::text FROM pg_class WHERE relname = ANY($2::text[]) AND relkind IN ('r', 'p')
            AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
            AND NOT pg_has_role(relowner, 'USAGE') ORDER BY relname)
"""
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
_HAS = "SELECT to_regclass(quote_ident($1)) IS NOT NULL"
_FORMAT = "SELECT value::int FROM kora_meta WHERE key = 'format'"
_NEWEST = "SELECT max(received_at) FROM operations"
_PROCESS = "SELECT pg_backend_pid()"


_one_at_a_time = Lock()
"""Where few connections are left, a look is not to take the last of them from a daemon."""


class DatabaseFacts(Struct, frozen=True):
    """What a database says of itself. `connections` are those that ordinary users may have, of all databases.

    The limits of user and database are -1 where there are none. `in_use` are the connections of all but those that look
    like this one, `ours` those of daemons with this name. `foreign_tables` belong to others: we can't alter them.
    """

    version: str
    version_number: int
    encoding: str
    only_reads: bool
    survives_power_loss: bool
    connections: int
    user_limit: int
    database_limit: int
    in_use: int
    ours: int
    user: str
    schema: str | None
    may_create: bool | None
    foreign_tables: list[str]


def database_facts(session: Session, application_name: str, tables: Sequence[str]) -> DatabaseFacts:
    """What the database says of itself, of daemons with this name, and of these tables. Raises StoreError."""
    with _looking(session) as connection:
        rows = connection.execute(_FACTS.encode(), [application_name, list(tables)]).fetchall()
        return DatabaseFacts(*rows[0])


def clock_difference_s(session: Session) -> float:
    """How far the database's clock is ahead of ours, in seconds; exact to half of a round trip. Raises StoreError."""
    with _looking(session) as connection:
        before = time.time()
        ((theirs,),) = connection.execute(_CLOCK.encode()).fetchall()
        return float(theirs) - (before + time.time()) / 2


def log_facts(session: Session) -> LogFacts | None:
    """What the log tables say, None where there are none yet. Raises StoreError."""
    with _looking(session) as connection:
        if not _has(connection, OPERATIONS.name):
            return None
        ((newest,),) = connection.execute(_NEWEST.encode()).fetchall()
        rows = connection.execute(_FORMAT.encode()).fetchall() if _has(connection, META.name) else []
        return LogFacts(rows[0][0] if rows else None, newest)


def pending_upgrade(session: Session, schema: Schema) -> Upgrade | None:
    """What brings the tables to a schema, None where a daemon has not made any yet. Raises StoreError."""
    with _looking(session) as connection:
        if not _has(connection, COLLECTIONS.name):
            return None
        return plan(lambda query: connection.execute(query.encode()).fetchall(), schema)


def pooling(session: Session) -> Pooling:
    """What stands between us and the database, and for how long it lets a session have the same process of it.

    A pooler has no process of its own to name, so it names one that serves nobody. Whether a session keeps what serves
    it shows when two take turns. Raises StoreError.
    """
    with _one_at_a_time, translating(session.name), session.reach() as first:
        serving = _process(first)
        if first.info.backend_pid == serving:
            return "none"
        with session.reach() as second:
            for _ in range(_TURNS):
                with second.transaction():
                    if _process(second) == serving or _process(first) != serving:
                        return "transaction"
    return "session"


@contextmanager
def _looking(session: Session) -> Iterator[PatientConnection]:
    """A connection in a transaction that reads."""
    with _one_at_a_time, translating(session.name), session.reach() as connection:
        connection.prepare_threshold = None
        connection.execute(_BEGIN.format(round(session.statement_timeout_s * 1000)).encode())
        yield connection
        connection.execute(b"ROLLBACK")


def _has(connection: PatientConnection, table: str) -> bool:
    ((found,),) = connection.execute(_HAS.encode(), [table]).fetchall()
    return bool(found)


def _process(connection: PatientConnection) -> int:
    ((process,),) = connection.execute(_PROCESS.encode()).fetchall()
    return int(process)
