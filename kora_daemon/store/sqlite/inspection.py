"""A look at a SQLite file that changes nothing: for `kora doctor`, with or without a daemon on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from kora_daemon.materialization.upgrade import Upgrade
from kora_daemon.model.schema import Schema
from kora_daemon.store.inspection import LogFacts
from kora_daemon.store.sqlite.catalog import plan
from kora_daemon.store.sqlite.errors import translating
from kora_daemon.store.tables import COLLECTIONS, META, OPERATIONS

_BUSY_TIMEOUT_MS = 1_000
_FLAGS = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
_NAMES = "SELECT name FROM sqlite_schema WHERE type = 'table'"
_FORMAT = "SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = 'format'"
_NEWEST = "SELECT max(received_at) FROM operations"


def log_facts(path: Path) -> LogFacts | None:
    """What the log tables of a file say, None where there are none yet. Raises StoreError."""
    with _reading(path) as connection:
        names = {name for (name,) in connection.execute(_NAMES)}
        if OPERATIONS.name not in names:
            return None
        ((newest,),) = connection.execute(_NEWEST)
        found = list(connection.execute(_FORMAT)) if META.name in names else []
        return LogFacts(found[0][0] if found else None, newest)


def pending_upgrade(path: Path, schema: Schema) -> Upgrade | None:
    """What brings the tables of a file to a schema, None where a daemon has not made any yet. Raises StoreError."""
    with _reading(path) as connection:
        connection.execute("BEGIN")  # one view for all that is asked of the catalogue
        names = {name for (name,) in connection.execute(_NAMES)}
        return plan(connection, schema) if COLLECTIONS.name in names else None


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    """A connection that leaves the file and its folder as they are.

    Where there is no write-ahead log, SQLite would make one to read; nobody has anything in it then.
    """
    wal = path.with_name(path.name + "-wal")
    is_closed = not wal.exists() or not wal.stat().st_size
    address = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if is_closed else ''}"
    with translating(path), closing(apsw.Connection(address, flags=_FLAGS)) as connection:
        connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
        yield connection
