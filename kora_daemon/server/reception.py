"""Where connections come in, and where those are that did."""

from __future__ import annotations

from itertools import count

import trio

from kora_daemon.server.connection import Connection
from kora_daemon.server.services import Origin, Services
from kora_daemon.server.transport import Transport


class Reception:
    """Numbers the connections of a server, from 1, and lets in as many as there may be."""

    def __init__(self) -> None:
        self.connections: dict[Connection, trio.CancelScope] = {}
        """Those that have not come to their end, with what cuts them off."""
        self._numbers = count(1)
        self._admitted = 0
        """Connections that were not refused for want of room."""

    async def serve(
        self, transport: Transport, origin: Origin | None, services: Services, most: int, *, draining: bool
    ) -> None:
        """Serve one device until it is gone, or tell it that there are `most` others (0 = any number).

        Without an origin it has no address that it could share with others. When `draining`, it is sent away at once.
        """
        address = None if origin is None else origin.address
        limit = "max_connections" if 0 < most <= self._admitted else services.lobby.limit_reached(address)
        connection = Connection(next(self._numbers), transport, services, origin or Origin(), limit_reached=limit)
        if limit is None:
            self._admitted += 1
            services.lobby.enter(connection.number, address)
        if draining:
            connection.drain()
        with trio.CancelScope() as scope:
            self.connections[connection] = scope
            try:
                await connection.run()
            finally:
                services.lobby.leave(connection.number)
                self._admitted -= limit is None
                del self.connections[connection]
