"""What an operator sees of a running server, and does to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import trio
from msgspec import Struct

from kora_daemon.errors import StoreError
from kora_daemon.server.beat import next_beat
from kora_daemon.server.connection import Connection
from kora_daemon.server.hub import Hub
from kora_daemon.server.log_size import LogSize
from kora_daemon.server.readers import Readers

LOOKED_AT_ONCE: Final = 200
"""Sessions, before others have their turn."""
SIZE_KEPT_S: Final = 10.0
SAMPLE_INTERVAL_S: Final = 10.0
SAMPLED_S: Final = 3_600.0


class SessionState(Struct, frozen=True):
    """One session at one moment. `lag` is how far its device is behind the log, in operations or a little more."""

    number: int
    node: str
    user: str
    address: str
    transport: str
    phase: str
    age_s: float
    lag: int
    buffered_bytes: int

    @property
    def is_authenticated(self) -> bool:
        """Whether it is known who it is."""
        return self.phase in ("authenticated", "syncing", "streaming")


class Oversight:
    """Looks at the sessions of a server one by one; `log_size` is that of its log."""

    def __init__(
        self,
        hub: Hub,
        readers: Readers,
        connections: Callable[[], Iterable[Connection]],
        log_size: LogSize,
    ) -> None:
        self._hub = hub
        self._readers = readers
        self._connections = connections
        self._log_size = log_size
        self._size: tuple[float, int] | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=int(SAMPLED_S / SAMPLE_INTERVAL_S) + 1)

    async def watch(self) -> None:
        """See how the log grows, for ever."""
        while True:
            self._samples.append((trio.current_time(), self._log_size.operations))
            await trio.sleep_until(next_beat(SAMPLE_INTERVAL_S))

    def growth(self, seconds: float) -> int:
        """By how many operations the log has grown in so many seconds, or since the start."""
        since = trio.current_time() - seconds
        then = next((total for at, total in self._samples if at >= since), None)
        return 0 if then is None else self._log_size.operations - then

    async def sessions(self) -> list[SessionState]:
        """All sessions, in the order of their numbers; taken a few at a time."""
        found: list[SessionState] = []
        for looked_at, connection in enumerate(list(self._connections()), 1):
            found.append(self._state(connection))
            if looked_at % LOOKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return found

    def _state(self, connection: Connection) -> SessionState:
        session, ledger = connection.session, connection.ledger
        return SessionState(
            connection.number,
            session.node_id,
            session.user_id,
            connection.origin.address,
            ledger.transport,
            session.phase.name.lower(),
            trio.current_time() - ledger.begun_at,
            session.lag(self._hub.frontier),
            connection.buffered_bytes,
        )

    async def kick(self, chosen: Callable[[SessionState], bool], *, refuse: bool = False) -> int:
        """Close the chosen sessions; how many these were.

        Their devices come again within a second or so. Refused ones are told that they are not authenticated, upon
        which apps sign their users out.
        """
        wanted = {state.number for state in await self.sessions() if chosen(state)}
        return sum([one.kick(refuse=refuse) for one in list(self._connections()) if one.number in wanted])

    async def store_bytes(self) -> int | None:
        """How much room the store takes, as of a few seconds ago at most; None when it does not answer."""
        now = trio.current_time()
        if self._size is None or now - self._size[0] >= SIZE_KEPT_S:
            try:
                self._size = (now, await self._readers.ask(lambda store: store.size_bytes()))
            except StoreError:
                return None
        return self._size[1]
