"""The service manager's watchdog is fed while the daemon makes progress, and only then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event

import structlog
import trio

from kora_daemon.server.pulse import Pulse
from kora_daemon.server.threads import ThreadPool

EVENT_LOOP = "event loop"

log = structlog.get_logger("kora.watchdog")


class Watchdog:
    """Feels the pulses every `interval_s`, and calls `feed` (in a thread) when none of them stands still.

    It lives in a thread of its own and asks the event loop for them: a loop that hangs has to be noticed by somebody
    who does not, so that the log says what it was before the service manager ends us.
    """

    def __init__(self, feed: Callable[[], None], interval_s: float, pulses: Callable[[], Iterable[Pulse]]) -> None:
        self._feed = feed
        self._interval_s = interval_s
        self._pulses = pulses
        self._standing_still: list[str] = []

    async def run(self) -> None:
        """Watch until cancelled."""
        over = Event()
        watch = partial(self._watch, trio.lowlevel.current_trio_token(), over)
        try:
            await ThreadPool("kora-watchdog", 1).run_abandonable(watch)
        finally:
            over.set()

    def _watch(self, loop: trio.lowlevel.TrioToken, over: Event) -> None:
        while not over.wait(self._interval_s):
            standing_still = self._ask(loop)
            if over.is_set():
                return
            if standing_still != self._standing_still:
                self._standing_still = standing_still
                if standing_still:
                    log.error("watchdog.stands_still", parts=standing_still)
                else:
                    log.warning("watchdog.goes_on")
            if not standing_still:
                self._feed()

    def _ask(self, loop: trio.lowlevel.TrioToken) -> list[str]:
        """What stands still."""
        answer: SimpleQueue[list[str]] = SimpleQueue()
        try:
            loop.run_sync_soon(lambda: answer.put([pulse.part for pulse in self._pulses() if pulse.stands_still]))
            return answer.get(timeout=self._interval_s)
        except trio.RunFinishedError:
            return []
        except Empty:
            return [EVENT_LOOP]
