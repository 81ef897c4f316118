"""Who serves a SQLite file: one daemon, told by a lock that the system takes back when the process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from kora_daemon.config.settings import StoreSettings
from kora_daemon.errors import StoreError, StoreUnavailable


class StoreServed(StoreError):
    """A daemon serves the store already."""


@contextmanager
def serving(settings: StoreSettings) -> Iterator[None]:
    """Be the one that serves the store. Raises `StoreServed` when somebody else is.

    The lock is on a file beside the database (`kora.db-serving`), not on the database itself: SQLite's own locks on
    that would go with ours.
    """
    if settings.kind != "sqlite":
        yield
        return
    database = settings.path.resolve()
    path = database.with_name(database.name + "-serving")
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path} can't be opened: {error.strerror}; check its folder") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreServed(f"{settings.path} is served by another daemon; stop that one first") from None
        yield
    finally:
        os.close(descriptor)
