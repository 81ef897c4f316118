"""The user tables of an `@korajs/auth` installation, as far as sync cares (auth.md section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from threading import Lock
from typing import Final, Protocol

import structlog

from kora_daemon.errors import StoreError

MOST_WAITING: Final = 10_000
"""Stamps. With more devices than this in a second the rest get theirs the next time they come."""

log = structlog.get_logger("kora.auth")


class UserDirectory(Protocol):
    """Looks users up and stamps devices. Every call blocks and may be made from any thread; raises StoreError."""

    def missing(self) -> list[str]:
        """The tables and columns that should be there and are not; nothing is ever created."""
        ...

    def look_up(
        self, user_ids: Collection[str], device_ids: Collection[str]
    ) -> tuple[Mapping[str, tuple[str, str]], Collection[str]]:
        """E-mail and name of those users that exist, and which of the devices are revoked.

        An id that the database can't hold is not there.
        """
        ...

    def stamp(self, last_seen_ms: Mapping[str, int]) -> None:
        """Set when devices were last seen, in one go. Those that do not exist stay out, and no stamp goes back."""
        ...

    def close(self) -> None:
        """Give up the connections; the next call makes new ones."""
        ...


class LastSeen:
    """Stamps that wait to be written: at most one for a device in `interval_s`, all in one statement."""

    def __init__(self, directory: UserDirectory, interval_s: float) -> None:
        self._directory = directory
        self._interval_s = interval_s
        self._lock = Lock()
        self._waiting: dict[str, int] = {}
        self._stamped: dict[str, float] = {}

    def saw(self, device_id: str, now: float) -> None:
        """A device has logged in. Costs nothing but memory."""
        with self._lock:
            before = self._stamped.get(device_id)
            if before is not None and now - before < self._interval_s:
                return
            if len(self._waiting) < MOST_WAITING:
                self._waiting[device_id] = int(now * 1000)
                self._stamped[device_id] = now

    def write(self, now: float) -> None:
        """Write what waits. A failure is a line in the log: no login depends on it."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            if len(self._stamped) > MOST_WAITING:
                self._stamped = {one: at for one, at in self._stamped.items() if now - at < self._interval_s}
        if not waiting:
            return
        try:
            self._directory.stamp(waiting)
        except StoreError as error:
            log.warning("auth.stamp_failed", devices=len(waiting), problem=str(error))
            with self._lock:
                for device_id in waiting:
                    self._stamped.pop(device_id, None)
