"""What the service manager hears of the daemon's life, from its start to its end."""

from __future__ import annotations

from functools import partial

import trio

from kora_daemon.http.listener import Listener
from kora_daemon.server.beat import next_beat
from kora_daemon.server.pulse import Pulse
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.watchdog import Watchdog
from kora_daemon.service_manager import ServiceManager

REPORT_INTERVAL_S = 2.0
STEP_S = 30.0
"""What a start asks for again and again: migrations take as long as they take."""
MARGIN_S = 10.0
"""For what comes behind the sessions when the daemon stops: the last commit, the store."""


class Supervision:
    """The daemon under the eyes of a service manager."""

    def __init__(self, manager: ServiceManager, server: SyncServer, listener: Listener) -> None:
        self._manager = manager
        self._server = server
        self._listener = listener

    async def starting(self) -> None:
        """Ask for time, until cancelled."""
        while True:
            self._manager.tell("STATUS=Opening the store", f"EXTEND_TIMEOUT_USEC={STEP_S * 1_000_000:.0f}")
            await trio.sleep(STEP_S / 3)

    async def running(self) -> None:
        """Say that devices can connect, then how it goes whenever that has changed; feed the watchdog."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report)
            if self._manager.watchdog_s is not None:
                # A third: once to ask, once to wait for the answer, and then the time is over.
                feed = partial(self._manager.tell, "WATCHDOG=1")
                nursery.start_soon(Watchdog(feed, self._manager.watchdog_s / 3, self._pulses).run)

    def stopping(self, grace_s: float) -> None:
        """Say goodbye, which takes up to twice `grace_s`: sessions that are not done are cut off."""
        self._manager.tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={(2 * grace_s + MARGIN_S) * 1_000_000:.0f}")

    async def _report(self) -> None:
        told = self._line()
        self._manager.tell("READY=1", f"STATUS={told}")
        while True:
            await trio.sleep_until(next_beat(REPORT_INTERVAL_S))
            if self._server.is_over:
                return  # only the store is still to be closed
            if (line := self._line()) != told:
                told = line
                self._manager.tell(f"STATUS={told}")

    def _line(self) -> str:
        """Everybody on the machine may read it, so no more than numbers; the log says the rest."""
        status = self._server.get_status()
        state = "Stopping" if self._server.draining else "Running"
        trouble = "" if status.store_failure is None else "; the store does not take writes, the log says why"
        devices, operations = _count(status.connected_clients, "device"), _count(status.total_operations, "operation")
        return f"{state}: {devices}, {operations}{trouble}"

    def _pulses(self) -> list[Pulse]:
        return [*self._server.pulses, *self._listener.pulses]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
