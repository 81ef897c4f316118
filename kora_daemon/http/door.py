"""Where connections come in."""

from __future__ import annotations

import trio

from kora_daemon.server.pulse import SIGN_OF_LIFE_S, Pulse


class Door(trio.abc.Listener[trio.SocketStream]):
    """A listener with a pulse."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.pulse = Pulse("listener")

    async def accept(self) -> trio.SocketStream:
        """The next connection."""
        while True:
            self.pulse.beat()
            with trio.CancelScope(deadline=trio.current_time() + SIGN_OF_LIFE_S):
                return await self._listener.accept()

    async def aclose(self) -> None:
        """Accept no more."""
        await self._listener.aclose()
