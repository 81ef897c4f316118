"""What the daemons on one database tell each other, over LISTEN and NOTIFY.

Two connections of its own: one hears, one speaks. A word that is too long for a notification goes into a table that
is not logged, and the notification says where.
"""

from __future__ import annotations

from collections.abc import Callable

from kora_daemon.errors import StoreUnavailable
from kora_daemon.store.postgres import queries
from kora_daemon.store.postgres.errors import translating
from kora_daemon.store.postgres.sessions import PatientConnection, Session

LONGEST_NOTIFICATION_BYTES = 7_900
"""PostgreSQL takes fewer than 8,000."""
_MOST_DIGITS = 18
"""Of a number that a BIGINT holds."""


class PostgresChannel:
    """A `Channel`; see the contract. `own_backend` is the process that commits for us, whose news are none.

    One thread may speak while another opens and hears: each has a connection of its own, which nobody else closes
    under its feet (libpq does not survive that).
    """

    def __init__(self, session: Session, own_backend: Callable[[], int | None]) -> None:
        self._session = session
        self._own_backend = own_backend
        self._hearing: PatientConnection | None = None
        self._speaking: PatientConnection | None = None

    def open(self) -> None:
        """Connect and listen, anew if need be. Raises StoreUnavailable."""
        if self._hearing is not None:
            self._hearing.close()
            self._hearing = None
        hearing = self._session.connect("listener")
        try:
            with translating(self._session.name):
                hearing.execute(queries.LISTEN.encode())
        except BaseException:
            hearing.close()
            raise
        self._hearing = hearing

    def close(self) -> None:
        """Hear and say no more. Idempotent; not while another thread is in here."""
        for connection in (self._hearing, self._speaking):
            if connection is not None:
                connection.close()
        self._hearing = self._speaking = None

    def fileno(self) -> int:
        """Readable when there is something to drain. Raises StoreUnavailable when it is not open."""
        return self._open(self._hearing).fileno()

    def drain(self) -> tuple[int | None, list[bytes]]:
        """What was heard since, in order. Asks the database for long words.

        Raises StoreUnavailable when the connection is lost.
        """
        hearing = self._open(self._hearing)
        frontier: int | None = None
        words: list[bytes] = []
        own = self._own_backend()
        with translating(self._session.name):
            # Until nothing comes: what arrives behind a query lies here, and makes nothing readable.
            while heard := list(hearing.notifies(timeout=0)):
                news = [
                    int(one.payload)
                    for one in heard
                    if one.channel == queries.CHANNEL and one.pid != own and _is_number(one.payload)
                ]
                frontier = max([*news, *([] if frontier is None else [frontier])], default=None)
                words += self._in_full(hearing, [one.payload for one in heard if one.channel != queries.CHANNEL])
        return frontier, words

    def _in_full(self, hearing: PatientConnection, words: list[str]) -> list[bytes]:
        """The words, in order. A number stands for a long one; one that is gone was said a minute ago."""
        wanted = [int(word) for word in words if _is_number(word)]
        found = hearing.execute(queries.LONG_WORDS.encode(), [wanted]).fetchall() if wanted else []
        long_words = {str(number): body for number, body in found}
        said = [long_words.get(word) if _is_number(word) else word for word in words]
        return [word.encode() for word in said if word is not None]

    def send(self, word: bytes) -> None:
        """Say a word. Raises StoreUnavailable."""
        text = word.decode()
        statement = queries.SAY if len(word) <= LONGEST_NOTIFICATION_BYTES else queries.SAY_AT_LENGTH
        with translating(self._session.name):
            if self._speaking is None:
                self._speaking = self._session.connect("writer")
            try:
                self._speaking.execute(statement.encode(), [text])
            except BaseException:
                self._speaking.close()
                self._speaking = None
                raise

    def _open(self, connection: PatientConnection | None) -> PatientConnection:
        if connection is None:
            raise StoreUnavailable(f"{self._session.name} is not listened to")
        return connection


def _is_number(payload: str) -> bool:
    """Whether it is one of ours: whoever may connect to the database may notify anything."""
    return payload.isascii() and payload.isdecimal() and len(payload) <= _MOST_DIGITS
