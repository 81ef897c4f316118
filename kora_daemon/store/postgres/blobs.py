"""Blobs in the database of the log, for all daemons that share it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from kora_daemon.errors import StoreCorrupt
from kora_daemon.materialization.blobs import is_blob_hash
from kora_daemon.store.blobs.contract import ANY_SIZE, BlobEntry, Kept, sha256_of
from kora_daemon.store.blobs.quota import Quota
from kora_daemon.store.pool import ConnectionPool
from kora_daemon.store.postgres.errors import ConnectionLost, translating
from kora_daemon.store.postgres.queries import BEGIN_ADOPTION
from kora_daemon.store.postgres.sessions import Durability, PatientConnection, Session

T = TypeVar("T")

_PAGE = 1_000
_TABLES = """
    CREATE TABLE IF NOT EXISTS kora_blobs (
        hash BYTEA PRIMARY KEY,
        size_bytes BIGINT NOT NULL,
        stored_at BIGINT NOT NULL,
        unused_since BIGINT,
        content BYTEA STORAGE EXTERNAL NOT NULL
    );
    CREATE TABLE IF NOT EXISTS kora_blob_holders (
        hash BYTEA NOT NULL, holder TEXT COLLATE "C" NOT NULL, PRIMARY KEY (hash, holder)
    )
"""
"""What comes in parts is compressed already, as a rule. Times are ms since the epoch."""
_MISSING = "SELECT 1 WHERE to_regclass('kora_blobs') IS NULL OR to_regclass('kora_blob_holders') IS NULL"
_KEEP = """
    WITH has AS (
        INSERT INTO kora_blob_holders (hash, holder) SELECT $1::bytea, unnest($2::text[]) ON CONFLICT DO NOTHING
    )
    INSERT INTO kora_blobs (hash, size_bytes, stored_at, content) VALUES ($1, length($3::bytea), $4, $3)
    ON CONFLICT (hash) DO UPDATE SET
        stored_at = greatest(kora_blobs.stored_at, excluded.stored_at), size_bytes = excluded.size_bytes,
        content = CASE WHEN sha256(kora_blobs.content) = kora_blobs.hash THEN kora_blobs.content
            ELSE excluded.content END
    RETURNING xmax = 0
"""
"""Whether the row is new. A content that is as it should be is not written again."""
_SIZE = "SELECT size_bytes FROM kora_blobs WHERE hash = $1"
_CONTENT = "SELECT content FROM kora_blobs WHERE hash = $1 AND size_bytes <= $2"
_HEAD = "SELECT substring(content FOR $2::integer) FROM kora_blobs WHERE hash = $1"
_HELD_BY = "SELECT holder FROM kora_blob_holders WHERE hash = $1 AND holder = ANY($2::text[])"
_ENTRIES = f"""
    SELECT hash, size_bytes, stored_at, unused_since,
        ARRAY(SELECT holder FROM kora_blob_holders WHERE kora_blob_holders.hash = kora_blobs.hash)
    FROM kora_blobs WHERE hash > $1 ORDER BY hash LIMIT {_PAGE}
"""
_USED = "SELECT coalesce(sum(size_bytes), 0)::bigint FROM kora_blobs"
_MARK = "UPDATE kora_blobs SET unused_since = $2 WHERE hash = $1 RETURNING hash"
_DELETE = """
    WITH gone AS (DELETE FROM kora_blobs WHERE hash = $1 AND stored_at < $2 RETURNING hash),
        with_it AS (DELETE FROM kora_blob_holders WHERE hash IN (SELECT hash FROM gone))
    SELECT hash FROM gone
"""


class PostgresBlobs:
    """A `BlobStore` in the database that `url` names, over at most `connections` connections of its own.

    Holds at most `max_bytes`, 0 = any number. `durability` and the timeouts as of `PostgresStore`.
    """

    def __init__(  # noqa: PLR0913
        self,
        url: str,
        *,
        max_bytes: int = 0,
        durability: Durability = "full",
        connections: int = 4,
        application_name: str = "kora-daemon",
        connect_timeout_s: float = 10,
        statement_timeout_s: float = 30,
    ) -> None:
        session = Session(
            url, f"{application_name} blobs", durability, connect_timeout_s, statement_timeout_s, statement_timeout_s
        )
        self._session = session
        self._pool = ConnectionPool(connections, lambda: session.connect("writer"))
        self._quota = Quota(max_bytes, lambda: int(self._rows(_USED)[0][0]))

    def open(self) -> None:
        """Make the tables where they are missing."""

        def make(connection: PatientConnection) -> None:
            if connection.execute(_MISSING.encode()).fetchall():
                with connection.transaction():
                    connection.execute(BEGIN_ADOPTION.encode())
                    connection.execute(_TABLES.encode())

        self._with_connection(make)

    def close(self) -> None:
        """Close the connections."""
        self._pool.drain()

    def put(self, hexadecimal: str, content: bytes, holders: Collection[str], now_ms: int) -> Kept:
        """Keep a content durably; see the contract."""
        name = _stored(hexadecimal)
        size = 0 if self._rows(_SIZE, name) else len(content)
        with self._quota.room_for(size) as has_room:
            if not has_room:
                return Kept.FULL
            ((is_new,),) = self._rows(_KEEP, name, list(holders), content, now_ms)
        return Kept.NEW if is_new else Kept.KNOWN

    def has(self, hexadecimal: str) -> bool:
        """Whether a content is kept."""
        return bool(self._rows(_SIZE, _stored(hexadecimal)))

    def get(self, hexadecimal: str, max_bytes: int = ANY_SIZE) -> bytes | None:
        """The content; see the contract."""
        rows = self._rows(_CONTENT, _stored(hexadecimal), max_bytes)
        if not rows:
            return None
        content: bytes = rows[0][0]
        if sha256_of(content) != hexadecimal:
            raise StoreCorrupt(f"{self._session.name}: the blob {hexadecimal} is damaged; delete it, or restore it")
        return content

    def head(self, hexadecimal: str, size_bytes: int) -> bytes:
        """The first bytes of a content; see the contract."""
        return b"".join(head for (head,) in self._rows(_HEAD, _stored(hexadecimal), size_bytes))

    def held_by(self, hexadecimal: str, holders: Collection[str]) -> set[str]:
        """Which of these have shown to have the content."""
        return {holder for (holder,) in self._rows(_HELD_BY, _stored(hexadecimal), list(holders))}

    def entries(self) -> Iterator[BlobEntry]:
        """All that is kept, a page at a time."""
        rows = self._rows(_ENTRIES, b"")
        while rows:
            for name, size_bytes, stored_at, unused_since, holders in rows:
                yield BlobEntry(name.hex(), size_bytes, stored_at, unused_since, frozenset(holders))
            rows = self._rows(_ENTRIES, rows[-1][0])

    def mark(self, hexadecimal: str, unused_since_ms: int | None) -> None:
        """Remember since when no record refers to a content; see the contract."""
        self._rows(_MARK, _stored(hexadecimal), unused_since_ms)

    def delete(self, hexadecimal: str, before_ms: int) -> bool:
        """Delete a content unless it was stored at this time or later."""
        return bool(self._rows(_DELETE, _stored(hexadecimal), before_ms))

    def _rows(self, statement: str, *bindings: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  what SQL takes
        return self._with_connection(
            lambda connection: connection.execute(statement.encode(), bindings, binary=True).fetchall()
        )

    def _with_connection(self, call: Callable[[PatientConnection], T]) -> T:
        """Once more on a new connection when the one at hand was lost while it lay idle."""
        try:
            return self._once(call)
        except ConnectionLost:
            self._pool.drain()
            return self._once(call)

    def _once(self, call: Callable[[PatientConnection], T]) -> T:
        with translating(self._session.name), self._pool.borrow() as connection:
            return call(connection)


def _stored(hexadecimal: str) -> bytes:
    if not is_blob_hash(hexadecimal):
        raise ValueError(f"found {hexadecimal[:80]!r}, expected a SHA-256 of 64 hexadecimal digits in lower case")
    return bytes.fromhex(hexadecimal)
