"""What PostgreSQL's and psycopg's exceptions mean, in our own (architecture section 6), by SQLSTATE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from kora_daemon.errors import StoreCorrupt, StoreError, StoreUnavailable

_GONE = "the connection was lost; check that the database runs and can be reached"
_STATES: dict[str, tuple[type[StoreError], str]] = {
    # A state, or the class of all states that begin so and are not listed themselves.
    "08": (StoreUnavailable, _GONE),
    "0A000": (StoreUnavailable, "its tables have been changed meanwhile; try again"),
    "25006": (StoreUnavailable, "it only reads for now; connect to the primary, or wait for it"),
    "25P03": (StoreUnavailable, "it has ended a transaction that stood still; look for what holds this server up"),
    "25P04": (StoreUnavailable, "it has ended a transaction that took too long; look for its load"),
    "28": (StoreUnavailable, "it refuses the login; check user and password of the URL"),
    "3D000": (StoreUnavailable, "there is no database of this name; create it, or check the URL"),
    "3F000": (StoreUnavailable, "there is no schema to put tables into; create it, or check search_path"),
    "40": (StoreUnavailable, "it has undone the write in favour of another one; try again"),
    "42501": (StoreUnavailable, "this user is not allowed to do that; grant the rights, or use another user"),
    "42P01": (StoreCorrupt, "a table is missing; stop the server, restore the database from a backup"),
    "42703": (StoreCorrupt, "a column is missing; stop the server, restore the database from a backup"),
    "53": (StoreUnavailable, "it has run out of memory or something else; give it more"),
    "53100": (StoreUnavailable, "its disk is full; make room on it"),
    "53300": (StoreUnavailable, "it has no connection left; raise max_connections, or run fewer servers"),
    "54": (StoreError, "a row is too large for it"),
    "55": (StoreUnavailable, "something else holds a lock on it for too long; look for what does"),
    "57": (StoreUnavailable, "it is going down, or coming up; wait for it"),
    "57014": (StoreUnavailable, "it did not answer in time; look for its load, or what holds a lock"),
    "57P04": (StoreUnavailable, "the database was dropped; create it again, or check the URL"),
    "58": (StoreUnavailable, "reading or writing its files failed; check its disk"),
    "XX001": (StoreCorrupt, "the database is damaged; stop the server and restore it from a backup"),
    "XX002": (StoreCorrupt, "an index of the database is damaged; stop the server and run REINDEX"),
}


_LOST = {"08000", "08003", "08006", "25P03", "25P04", "57P01", "57P02", "57P05"}
"""States with which the database ends the connection."""
_TIMED_OUT = "57014"


class ConnectionLost(StoreUnavailable):
    """The connection is no more; another one may work at once."""


class TimedOut(StoreUnavailable):
    """A statement took too long, or what it waited for."""


class NoAnswer(psycopg.OperationalError):
    """The database has gone silent."""


def store_error(error: psycopg.Error, database: str) -> StoreError:
    """What an exception of psycopg means: the database, the trouble, what to do, and PostgreSQL's own words."""
    words = f"({' '.join(str(error).split()) or type(error).__name__})"
    state = error.sqlstate
    if state is None:
        if isinstance(error, NoAnswer):
            return StoreUnavailable(f"{database} does not answer; check that it runs and can be reached {words}")
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return ConnectionLost(f"{database}: {_GONE} {words}")
        return StoreError(f"{database}: {words}")
    kind, sentence = _STATES.get(state) or _STATES.get(state[:2]) or (StoreError, "it refused what was asked of it")
    if state in _LOST:
        kind = ConnectionLost
    elif state == _TIMED_OUT:
        kind = TimedOut
    return kind(f"{database}: {sentence} {words}")


@contextmanager
def translating(database: str) -> Iterator[None]:
    """Turn psycopg's exceptions about the database of this name into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise store_error(error, database) from error
