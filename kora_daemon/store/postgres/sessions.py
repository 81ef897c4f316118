"""Connections to one PostgreSQL database, set up for what they are for."""

from __future__ import annotations

import json
from collections.abc import Generator
from time import monotonic
from typing import Any, Literal, TypeVar

import psycopg
from msgspec import Struct
from psycopg.conninfo import make_conninfo
from psycopg.types.numeric import Int8Dumper

from kora_daemon.conninfo import BadConninfo, parameters
from kora_daemon.errors import StoreError, StoreUnavailable
from kora_daemon.store.postgres.errors import NoAnswer, translating

Durability = Literal["full", "normal"]
"""Whether a commit survives a power loss, or only the death of the database's processes."""
Role = Literal["writer", "reader", "listener"]

READER_IDLE_S = 900
"""How long a snapshot may be held without being read. It keeps the database from tidying up."""
SILENCE_S = 5
"""How much later than the database we notice that a statement takes too long: then it is the database that hangs."""
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT = 15, 5, 3
"""A peer that has vanished is noticed after half a minute, by both sides."""

T = TypeVar("T")


class Session(Struct, frozen=True):
    """How to connect. `statement_timeout_s` and `idle_timeout_s` bound a statement and a pause inside a write."""

    url: str
    application_name: str
    durability: Durability
    connect_timeout_s: float
    statement_timeout_s: float
    idle_timeout_s: float

    @property
    def name(self) -> str:
        """The database in messages, without user and password. Raises StoreError for a malformed URL."""
        given = self._parameters()
        host = given.get("host") or given.get("hostaddr") or "this host"
        port = f":{given['port']}" if given.get("port") else ""
        return f"PostgreSQL at {host}{port}/{given.get('dbname') or given.get('user') or ''}"

    @property
    def patience_s(self) -> float:
        """How long to wait for one answer."""
        return self.statement_timeout_s + SILENCE_S

    def connect(self, role: Role) -> PatientConnection:
        """A new connection, set up for its role. Raises StoreUnavailable."""
        made = self.reach()
        with translating(self.name):
            try:
                # One type for all numbers, so that one prepared statement does for all of them.
                made.adapters.register_dumper(int, Int8Dumper)
                made.execute(_SET_UP.encode(), [json.dumps(self._settings(role))])
            except BaseException:
                made.close()
                raise
        return made

    def reach(self) -> PatientConnection:
        """A new connection whose session is as the database made it. Raises StoreUnavailable."""
        defaults: dict[str, Any] = {
            "application_name": self.application_name,
            "connect_timeout": max(2, round(self.connect_timeout_s)),
            "keepalives": 1,
            "keepalives_idle": _KEEPALIVE_IDLE_S,
            "keepalives_interval": _KEEPALIVE_INTERVAL_S,
            "keepalives_count": _KEEPALIVE_COUNT,
        }
        conninfo = make_conninfo(**defaults | self._parameters() | {"client_encoding": "UTF8"})
        try:
            made = PatientConnection.connect(conninfo, autocommit=True, cursor_factory=psycopg.RawCursor)
        except psycopg.Error as error:
            words = " ".join(str(error).split())
            raise StoreUnavailable(
                f"{self.name} can't be reached; check that it runs, and the URL ({words})"
            ) from error
        made.patience_s = self.patience_s
        return made

    def _parameters(self) -> dict[str, Any]:
        try:
            return parameters(self.url)
        except BadConninfo as bad:
            raise StoreError(f"the PostgreSQL URL is malformed; expected {bad}") from None

    def _settings(self, role: Role) -> dict[str, str]:
        idle_s = self.idle_timeout_s if role == "writer" else READER_IDLE_S
        settings = {
            "statement_timeout": f"{round(self.statement_timeout_s * 1000)}ms",
            # A server that hangs, or was cut off, while it holds the lock of all writers must not hold up the others.
            "idle_in_transaction_session_timeout": f"{round(idle_s * 1000)}ms",
            "idle_session_timeout": "0",
            "tcp_keepalives_idle": str(_KEEPALIVE_IDLE_S),
            "tcp_keepalives_interval": str(_KEEPALIVE_INTERVAL_S),
            "tcp_keepalives_count": str(_KEEPALIVE_COUNT),
            "default_transaction_isolation": "read committed",
            "default_transaction_read_only": "off" if role == "writer" else "on",
            "synchronous_commit": "on" if self.durability == "full" else "off",
            # Compiling costs more than any of our statements.
            "jit": "off",
            "bytea_output": "hex",
            "extra_float_digits": "1",
        }
        if role == "writer":
            # A plan that was made while tables were small must not be kept when they have grown.
            settings |= dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off")
        return settings


_SET_UP = """
    SELECT set_config(key, value, false) FROM json_each_text($1::json)
    WHERE current_setting(key, true) IS NOT NULL
        AND NOT (key = 'synchronous_commit' AND value = 'on' AND current_setting(key) <> 'off')
"""
"""Leaves out what an older version does not know, and a `synchronous_commit` that is stronger than ours."""


class PatientConnection(psycopg.Connection[Any]):
    """A connection that does not wait for ever: `patience_s` for one answer, None for as long as it takes."""

    patience_s: float | None = None

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:  # noqa: ANN401
        """As psycopg waits, but for the end of patience."""
        if self.patience_s is not None:
            gen = _impatient(gen, self.patience_s)
        return super().wait(gen, *args, **kwargs)


def _impatient(waiting: Generator[Any, Any, T], patience_s: float) -> Generator[Any, Any, T]:
    """The same, but it raises `NoAnswer` when it takes longer; psycopg resumes it every tenth of a second."""
    deadline = monotonic() + patience_s
    try:
        wanted = next(waiting)
        while True:
            ready = yield wanted
            if not ready and monotonic() > deadline:
                raise NoAnswer(f"not a word for {patience_s:g} s")
            wanted = waiting.send(ready)
    except StopIteration as done:
        result: T = done.value
        return result
