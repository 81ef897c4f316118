"""What others write to the log: a command beside this server, another daemon, the reference server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import structlog
import trio

from kora_daemon.errors import StoreError
from kora_daemon.server.beat import next_beat
from kora_daemon.server.hub import Hub
from kora_daemon.server.readers import Readers

WATCH_INTERVAL_S = 0.5
OWN_COMMIT_S = 0.05
MAX_FOLLOWED = 20_000
"""Operations of others that are read into the tail; more than that are not worth it."""
OUTAGE_PAUSE_S = 0.5

log = structlog.get_logger("kora.server")


class LogFollower:
    """Keeps the hub at the end of the log. `floor` is that of the log at the start, `others_wrote` is told of that."""

    def __init__(self, hub: Hub, readers: Readers, floor: int, others_wrote: Callable[[], None]) -> None:
        self._hub = hub
        self._readers = readers
        self._floor = floor
        self._others_wrote = others_wrote
        self._look = trio.Event()

    def look(self) -> None:
        """Somebody has written past the writer's groups: don't wait until it is noticed."""
        self._look.set()

    async def watch(self) -> None:
        """Look how far the log reaches, for ever: the net below all announcements."""
        hub = self._hub
        while True:
            with trio.move_on_at(next_beat(WATCH_INTERVAL_S)):
                await self._look.wait()
            self._look = trio.Event()
            reached = hub.frontier
            with suppress(StoreError):  # the writer meets the same trouble, and reports it
                floor, frontier = await self._readers.read(lambda store: (store.floor(), store.frontier()))
                if floor != self._floor or frontier < reached:
                    log.warning("store.log_replaced", frontier=frontier)
                    self._floor = floor
                    self._others_wrote()
                    hub.begin_anew(frontier)
                if frontier > reached:
                    # A commit of our own is published in a moment.
                    await trio.sleep(OWN_COMMIT_S)
                    hub.reaches(frontier)

    async def follow(self) -> None:
        """Take into the tail what others have written, read once for all sessions, for ever."""
        hub = self._hub
        while True:
            reached = await hub.behind()
            try:
                if reached - hub.frontier > MAX_FOLLOWED:
                    # What was announced may be anybody's word.
                    hub.skip_to(await self._readers.read(lambda store: store.frontier()))
                else:
                    hub.fill(await self._readers.entries_after(hub.frontier))
            except StoreError as error:
                log.warning("store.read_failed", error=str(error))
                await trio.sleep(OUTAGE_PAUSE_S)
            else:
                # Behind the reading: more may have been read than was announced, which will not be announced any more.
                self._others_wrote()
