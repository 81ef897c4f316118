"""Where connections come in."""

from __future__ import annotations

import errno
import math
import resource

import structlog
import trio

from kora_daemon.server.pulse import SIGN_OF_LIFE_S, Pulse

KEPT_DESCRIPTORS = 64
"""For store, files and commands; at most a quarter of what the process may have. A store that can't open its file would
cost those their connection who have one."""
_OUT_OF_THEM = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_PAUSE_S = 0.1
"""For the system to come round. The connection stays where it is, so there is no waiting for another one."""
_SAID_EVERY_S = 60.0

log = structlog.get_logger("kora.listener")


class Door(trio.abc.Listener[trio.SocketStream]):
    """A listener with a pulse, which turns away whom the process has no descriptors for."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self._said_at = -math.inf
        self._turned_away = 0
        self.pulse = Pulse("listener")

    async def accept(self) -> trio.SocketStream:
        """The next connection."""
        while True:
            self.pulse.beat()
            with trio.CancelScope(deadline=trio.current_time() + SIGN_OF_LIFE_S):
                stream = await self._next()
                if stream is not None:
                    return stream

    async def _next(self) -> trio.SocketStream | None:
        """The next one that may come in, None for one that may not."""
        try:
            stream = await self._listener.accept()
        except OSError as error:
            if error.errno not in _OUT_OF_THEM:
                raise
            self._complain()
            await trio.sleep(_PAUSE_S)
            return None
        # A new descriptor is always the lowest that is free.
        if stream.socket.fileno() < _highest_for_connections():
            return stream
        stream.socket.close()
        self._turned_away += 1
        self._complain()
        return None

    def _complain(self) -> None:
        now = trio.current_time()
        if now - self._said_at >= _SAID_EVERY_S:
            self._said_at = now
            log.error("listener.out_of_descriptors", limit=_limit(), turned_away=self._turned_away)

    async def aclose(self) -> None:
        """Accept no more."""
        await self._listener.aclose()


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _highest_for_connections() -> int:
    limit = _limit()
    return limit - min(KEPT_DESCRIPTORS, limit // 4)
