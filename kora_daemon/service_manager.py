"""Who has started the daemon and looks after it: systemd, or whatever speaks its protocol (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Self

import structlog

SEND_TIMEOUT_S = 1.0
"""For the other side to take a datagram."""

log = structlog.get_logger("kora.daemon")


class ServiceManager:
    """Is told how the daemon fares; without an `address` nobody is.

    `watchdog_s`: how long it waits for a sign of life before it ends us, None when it does not.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = address
        self._is_reachable = True
        self.watchdog_s = watchdog_s

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Self:
        """The one that the environment names. It is named there no more, so that no child speaks for the daemon."""
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds, process = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        is_watched = microseconds.isdecimal() and process in ("", str(os.getpid()))
        return cls(address, int(microseconds) / 1_000_000 if is_watched else None)

    def tell(self, *assignments: str) -> None:
        """Send assignments (`READY=1`) in one datagram. That nobody takes it costs a second at most, and a warning."""
        if self._address is None:
            return
        path = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outlet:
                outlet.settimeout(SEND_TIMEOUT_S)
                outlet.sendto("\n".join(assignments).encode(), path)
            self._is_reachable = True
        except OSError as error:
            if self._is_reachable:
                log.warning("service_manager.unreachable", socket=self._address, problem=str(error))
            self._is_reachable = False
