"""Which session the requests of a device that polls belong to."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import structlog
import trio

from kora_daemon.server.polling import PollingOptions, PollingTransport, SessionOver
from kora_daemon.server.services import Origin
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.glimpse import Glimpse

REMEMBERED_S = 60.0
"""How long a device can hear that its session is over, and what it was told last."""
MOST_REMEMBERED = 1_000
"""Of such; beyond that the oldest is forgotten, and who asks for it begins like a new device."""

log = structlog.get_logger("kora.polling")


class NoSession(Exception):
    """Another session can't be had now; says why."""


class PollingSessions:
    """The sessions of devices that poll, by a key that only those who are meant have (see `http.credentials`).

    A session begins with the first request of its key, which need not be the handshake. It has one handshake: another
    one, unless it is the same once more, says that the device has begun anew, and so does its session.
    """

    def __init__(self, server: SyncServer) -> None:
        self._server = server
        self._live: dict[bytes, PollingTransport] = {}
        self._over: OrderedDict[bytes, tuple[PollingTransport, float]] = OrderedDict()

    @property
    def options(self) -> PollingOptions:
        """What holds for sessions to come, and for every poll."""
        return self._server.polling_options

    async def of(self, key: bytes, origin: Origin, *, again: bool = False) -> PollingTransport:
        """The session of whoever asks: as it is, one that is over, or a new one. Raises NoSession.

        `again`: rather a new one than one whose end the device has heard of.
        """
        while (session := self._live.get(key)) is not None:
            if not session.has_vanished:
                return session
            await session.left.wait()
        self._forget_old()
        if key in self._over and not (again and self._over[key][0].was_told):
            return self._over[key][0]
        return self._open(key, origin)

    async def take(self, key: bytes, origin: Origin, frame: Frame, message: Glimpse | None) -> None:
        """Hand a message in to the session that it is for. Raises SessionOver and NoSession.

        One that has vanished meanwhile, since a handshake has begun another one, leaves it to that.
        """
        while True:
            if message is not None and message.is_handshake:
                session = await self._for_handshake(key, origin, frame, message)
            else:
                session = await self.of(key, origin, again=True)
            try:
                await session.intake.take(frame, message)
            except SessionOver:
                if not session.has_vanished:
                    raise
            else:
                return

    async def _for_handshake(self, key: bytes, origin: Origin, frame: Frame, handshake: Glimpse) -> PollingTransport:
        while (session := self._live.get(key)) is not None:
            if not session.has_vanished and not session.intake.begins_anew(frame, handshake):
                return session
            session.vanish()
            await session.left.wait()
        return self._open(key, origin)

    def _open(self, key: bytes, origin: Origin) -> PollingTransport:
        if self._server.is_over:
            raise NoSession("The server is shutting down")
        if len(self._live) >= self.options.max_sessions:
            log.warning("polling.refused", address=origin.address, reason="max_polling_sessions")
            raise NoSession("There are too many sessions now")
        before = self._over.pop(key, None)
        session = self._live[key] = PollingTransport(self.options, origin.address, partial(self._left, key))
        session.luggage = self._server.luggage()
        self._server.adopt(session, origin)
        if before is not None:
            before[0].succeeded.set()
        return session

    def _left(self, key: bytes) -> None:
        session = self._live.pop(key)
        if not session.has_vanished:
            self._over[key] = (session, trio.current_time() + REMEMBERED_S)
            self._forget_old()

    def _forget_old(self) -> None:
        while self._over:
            oldest, (_, until) = next(iter(self._over.items()))
            if until > trio.current_time() and len(self._over) <= MOST_REMEMBERED:
                break
            del self._over[oldest]
