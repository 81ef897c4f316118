"""When a session wants to hear what its peer says next: this is where a fast peer is made to wait."""

from __future__ import annotations

import trio

from kora_daemon.protocol.session import Session
from kora_daemon.server.clock import now
from kora_daemon.server.hub import Peer
from kora_daemon.server.services import Services


class Hearing:
    """Of one session. Once it is given up everything is heard at once: behind that comes the peer's goodbye."""

    def __init__(self, peer: Peer, session: Session, services: Services) -> None:
        self._peer = peer
        self._session = session
        self._writer = services.writer
        self._side = services.side
        self._woken = trio.Event()
        self._given_up = False

    def wake(self) -> None:
        """The session may want to hear more now."""
        self._woken.set()

    def give_up(self) -> None:
        """Nothing that comes is of interest any more."""
        self._given_up = True
        self._woken.set()

    @property
    def is_ready(self) -> bool:
        """Whether the next frame may be handed in now."""
        session = self._session
        wanted = session.hears and not session.uploads.read_again_ms and self._writer.has_room
        return (wanted and self._side.hears(self._peer)) or self._given_up

    async def ready(self) -> None:
        """Return when the next frame may be handed in."""
        while not self._given_up:
            if not self._session.hears:
                await self._next_wake()
            elif not self._writer.has_room:
                await self._writer.wait_for_room()
            elif not self._side.hears(self._peer):
                await self._side.wait(self._peer)
            elif (pause_ms := self._session.uploads.read_again_ms - now().elapsed_ms) > 0:
                with trio.move_on_after(pause_ms / 1000):
                    await self._next_wake()
            else:
                return

    async def _next_wake(self) -> None:
        self._woken = trio.Event()
        await self._woken.wait()
