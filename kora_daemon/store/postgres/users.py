"""The user tables of `@korajs/auth` in a PostgreSQL database that another program owns (auth.md section 3).

Nothing is created, altered or migrated; all that is ever written is `auth_devices.last_seen_at`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from threading import Lock
from typing import TypeVar

from kora_daemon.store.pool import ConnectionPool
from kora_daemon.store.postgres.errors import ConnectionLost, translating
from kora_daemon.store.postgres.sessions import PatientConnection, Session

T = TypeVar("T")

_COLUMNS = {
    "auth_users": ("id", "email", "name"),
    "auth_devices": ("id", "revoked", "last_seen_at"),
}
_MISSING = """
    SELECT wanted.name, to_regclass(wanted.name) IS NOT NULL,
        ARRAY(SELECT attname::text FROM pg_attribute
              WHERE attrelid = to_regclass(wanted.name) AND attnum > 0 AND NOT attisdropped)
    FROM unnest($1::text[]) AS wanted (name)
"""
_LOOK_UP = """
    SELECT true, id::text, email::text, name::text FROM auth_users WHERE id = ANY($1::text[])
    UNION ALL
    SELECT false, id::text, NULL, NULL FROM auth_devices WHERE id = ANY($2::text[]) AND revoked
"""
_STAMP = """
    UPDATE auth_devices SET last_seen_at = stamp.at
    FROM unnest($1::text[], $2::bigint[]) AS stamp (id, at)
    WHERE auth_devices.id = stamp.id AND last_seen_at < stamp.at
"""


class PostgresUsers:
    """Looks users up in the database behind `url`, and stamps devices. Every call blocks, from any thread."""

    def __init__(
        self,
        url: str,
        *,
        readers: int = 4,
        application_name: str = "kora-daemon auth",
        connect_timeout_s: float = 5.0,
        statement_timeout_s: float = 5.0,
    ) -> None:
        self._session = Session(url, application_name, "normal", connect_timeout_s, statement_timeout_s, 10.0)
        self._readers = ConnectionPool(readers, lambda: self._session.connect("reader"))
        self._writer: PatientConnection | None = None
        self._writing = Lock()

    def missing(self) -> list[str]:
        """The tables and columns that should be there and are not. Raises StoreError."""
        rows = self._read(lambda connection: connection.execute(_MISSING.encode(), [list(_COLUMNS)]).fetchall())
        found: list[str] = []
        for table, is_there, columns in rows:
            found += [f"{table}.{one}" for one in _COLUMNS[table] if one not in columns] if is_there else [table]
        return found

    def look_up(
        self, user_ids: Collection[str], device_ids: Collection[str]
    ) -> tuple[Mapping[str, tuple[str, str]], Collection[str]]:
        """E-mail and name of those users that exist, and which of the devices are revoked. Raises StoreError."""
        asked = [[one for one in ids if _fits(one)] for ids in (user_ids, device_ids)]
        rows = self._read(lambda connection: connection.execute(_LOOK_UP.encode(), asked).fetchall())
        users = {name: (email, full_name) for is_user, name, email, full_name in rows if is_user}
        return users, {name for is_user, name, _, _ in rows if not is_user}

    def stamp(self, last_seen_ms: Mapping[str, int]) -> None:
        """Set when devices were last seen, in one statement. Raises StoreError."""
        # In one order for all daemons: two that stamp the same devices must not wait for each other.
        stamps = sorted((one, at) for one, at in last_seen_ms.items() if _fits(one))
        with self._writing:
            try:
                self._stamp([one for one, _ in stamps], [at for _, at in stamps])
            except ConnectionLost:
                self._stamp([one for one, _ in stamps], [at for _, at in stamps])

    def close(self) -> None:
        """Close the connections."""
        self._readers.drain()
        with self._writing:
            self._give_up()

    def _stamp(self, ids: list[str], times: list[int]) -> None:
        try:
            if self._writer is None:
                self._writer = self._session.connect("writer")
            with translating(self._session.name):
                self._writer.execute(_STAMP.encode(), [ids, times])
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _read(self, call: Callable[[PatientConnection], T]) -> T:
        """Once more on a new connection when the one at hand was lost while it lay idle."""
        try:
            return self._read_once(call)
        except ConnectionLost:
            self._readers.drain()
            return self._read_once(call)

    def _read_once(self, call: Callable[[PatientConnection], T]) -> T:
        with translating(self._session.name), self._readers.borrow() as connection:
            return call(connection)


def _fits(text: str) -> bool:
    """Whether PostgreSQL can hold a text: there is no UTF-8 for half a surrogate pair, and no NUL in a text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
