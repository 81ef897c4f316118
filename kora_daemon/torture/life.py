"""The daemon from one start to its end: what `kora_daemon.daemon` puts together, without the process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import trio
from msgspec import Struct

from kora_daemon.http.listener import Listener, ListenerOptions
from kora_daemon.http.surface import surface
from kora_daemon.server.machine import running_on
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.status import Status
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.torture.machine import SimulatedMachine
from kora_daemon.torture.network import Network
from kora_daemon.torture.people import People
from kora_daemon.torture.store import TroubledStore


class Circumstances(Struct, frozen=True):
    """How each life of the daemon is configured."""

    options: ServerOptions
    listening: ListenerOptions


class Life:
    """Lives until it is stopped or killed."""

    def __init__(
        self, store: TroubledStore, machine: SimulatedMachine, network: Network, circumstances: Circumstances
    ) -> None:
        self._store = store
        self._machine = machine
        self._network = network
        self._circumstances = circumstances
        with running_on(machine):
            self.server = SyncServer(store.as_store, People(), circumstances.options)
        self._scope = trio.CancelScope()
        self._put, self._accepted = trio.open_memory_channel[tuple[trio.abc.Stream, str]](1_000)

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until the end. Raises StoreError when the store does not answer at the start."""
        with running_on(self._machine), self._scope:
            async with trio.open_nursery() as core:
                await self.server.start(core)
                listener = Listener(self.server, surface(self.server, "/"), self._circumstances.listening)
                async with trio.open_nursery() as connections:
                    with self._network.open_to(self._knock):
                        ready()
                        async for stream, address in self._accepted:
                            connections.start_soon(listener.serve_stream, stream, address)
                    connections.cancel_scope.cancel()

    def _knock(self, stream: trio.abc.Stream, address: str) -> None:
        with suppress(trio.WouldBlock):
            self._put.send_nowait((stream, address))

    @property
    def status(self) -> Status:
        """Of the server."""
        return self.server.get_status()

    async def stop(self) -> None:
        """Let it finish, as a signal does."""
        await self.server.stop()
        self._scope.cancel()

    def kill(self) -> None:
        """End it at once: from now on nothing that it still does reaches the store or the network."""
        self._machine.die()
        self._store.die()
        self._network.cut_all()
        self._network.answer = None
        self._scope.cancel()
