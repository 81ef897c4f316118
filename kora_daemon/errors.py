"""The error tree. A refused operation is not an error: it is a value (`model.outcome.Rejection`)."""

from __future__ import annotations


class KoraError(Exception):
    """Everything this package raises on purpose."""


class ConfigError(KoraError):
    """The configuration can't be used.

    `problems` holds one sentence for each thing that is wrong, each beginning with its path in the file.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ProtocolError(KoraError):
    """A frame that is no message of the protocol (wire.md section 2)."""

    def __init__(self, message: str, *, code: str = "MALFORMED_MESSAGE", retriable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retriable = retriable


class SessionMisuse(KoraError):
    """Our own code did what the session's table does not allow: a bug, never the peer's doing."""


class StoreError(KoraError):
    """The store could not do what was asked of it; nothing of it was done."""


class StoreUnavailable(StoreError):
    """The store does not answer for now (disk full, locked, I/O error); the same call may succeed later."""


class StoreLocked(StoreUnavailable):
    """Another process writes to the database just now, and has for longer than one call waits."""


class StoreCorrupt(StoreError):
    """The database is damaged or is none; an operator has to look at it."""


class MigrationNeeded(StoreError):
    """The tables of the database are not those of the schema; `kora migrate` brings them there."""


class NotRunning(KoraError, RuntimeError):
    """A server was asked something before its start, or when it was over."""

    def __init__(self) -> None:
        super().__init__("the server is not running: call start first")


class ListenError(KoraError):
    """An address can't be listened on."""


class AuthUnavailable(KoraError):
    """The provider can't decide now; says nothing about the token (auth.md section 5)."""
