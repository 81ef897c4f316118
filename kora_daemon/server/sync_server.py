"""The sync server without a network: a store, a provider, and connections over whatever transport they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio
from msgspec.structs import replace

from kora_daemon.apply.trusted import ConditionalWrite, Mutation, TrustedOutcome
from kora_daemon.auth.contract import AuthProvider
from kora_daemon.errors import NotRunning, StoreUnavailable
from kora_daemon.model.record import Record, RecordQuery
from kora_daemon.model.schema import Schema
from kora_daemon.protocol.actions import GOING_AWAY
from kora_daemon.server.assembly import Foundations, assemble, reassemble
from kora_daemon.server.awareness import AwarenessRelay
from kora_daemon.server.backups import Backups
from kora_daemon.server.data_plane import DataPlane
from kora_daemon.server.explain import Explanation, explain
from kora_daemon.server.follower import LogFollower
from kora_daemon.server.housekeeping import keep_house, open_store
from kora_daemon.server.identification import Identification
from kora_daemon.server.journal import Journal
from kora_daemon.server.lame_duck import send_away
from kora_daemon.server.ledger import Telemetry
from kora_daemon.server.lobby import Lobby
from kora_daemon.server.log_size import LogSize
from kora_daemon.server.lookout import Lookout
from kora_daemon.server.luggage import Luggage
from kora_daemon.server.measures import Measures
from kora_daemon.server.neighbours import Neighbours
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.oversight import Oversight
from kora_daemon.server.polling import PollingOptions
from kora_daemon.server.pulse import Pulse
from kora_daemon.server.reception import Reception
from kora_daemon.server.rechecks import Rechecks
from kora_daemon.server.services import Origin, Services
from kora_daemon.server.status import Status
from kora_daemon.server.tail import Tail
from kora_daemon.server.threads import ThreadPool
from kora_daemon.server.transport import Transport
from kora_daemon.server.writer import Writer
from kora_daemon.store.blobs.contract import BlobStore
from kora_daemon.store.channel import Channel
from kora_daemon.store.contract import Store


class SyncServer:
    """Syncs the devices that are handed to it with `handle_connection`.

    `start` inside a nursery of yours, `stop` when done. The stores are opened and closed by the server, the provider
    tended and closed. With `blobs`, the bytes of files are kept there.
    """

    def __init__(
        self,
        store: Store,
        auth: AuthProvider,
        options: ServerOptions | None = None,
        blobs: BlobStore | None = None,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._options = options or ServerOptions()
        self._identification = Identification(auth, self._options.auth)
        self._reception = Reception()
        self._rechecks = Rechecks(self._identification, lambda: list(self._reception.connections))
        self.lookout = Lookout()
        self._lobby = Lobby(self._options.max_unauthenticated, self._options.max_unauthenticated_per_address)
        self._stop = trio.Event()
        self._stopped = trio.Event()
        self._begun = False
        self._services: Services | None = None
        self._channel: Channel | None = None
        self._core: trio.Nursery | None = None
        self._started_at = 0.0
        self._telemetry = Telemetry(Measures(), Journal())
        self._foundations = Foundations(store, blobs, self._identification, self._lobby, self._telemetry)
        self._oversight: Oversight | None = None
        self._backups: Backups | None = None

    async def start(self, nursery: trio.Nursery) -> None:
        """Open the store and start the tasks; returns when connections can be handled. Raises StoreError."""
        await nursery.start(self.run)

    async def stop(self) -> None:
        """Finish what is being written, acknowledge it, close the sessions and the store."""
        self._stop.set()
        if self._begun:
            await self._stopped.wait()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The whole life of the server; `start` is this in a nursery."""
        self._begun = True
        thread = ThreadPool("kora-store", 1, patience_s=1.0)
        try:
            await open_store(self._store, self._options.apply.schema, thread)
            if self._blobs is not None:
                await thread.run(self._blobs.open)
            floor = await thread.run(self._store.floor)
            services = assemble(self._foundations, self._options, await thread.run(self._store.frontier))
            await services.writer.log_size.count(thread)
            self._started_at = trio.current_time()
            async with trio.open_nursery() as core:
                self._core = core
                core.start_soon(self.lookout.run)
                core.start_soon(services.hub.run)
                core.start_soon(services.hub.sweep.run)
                core.start_soon(self.measures.watch_loop)
                core.start_soon(services.side.run)
                core.start_soon(keep_house, self._store, services.writer)
                core.start_soon(self._identification.tend)
                core.start_soon(self._rechecks.run)
                follower = LogFollower(services.hub, services.readers, floor, services.writer.log_size.doubt)
                self._backups = Backups(
                    self._store, services.writer, _changed(services.writer.log_size, follower), self.journal
                )
                core.start_soon(follower.watch)
                core.start_soon(follower.follow)
                core.start_soon(self._write, services.writer, core.cancel_scope)
                channel = self._store.channel()
                if channel is not None:
                    self._channel = channel
                    neighbours = Neighbours(channel, services.side, services.hub.reaches)
                    core.start_soon(neighbours.listen)
                    core.start_soon(neighbours.speak)
                self._services = services
                self._oversight = Oversight(
                    services.hub, services.readers, lambda: self._reception.connections, services.writer.log_size
                )
                core.start_soon(self._oversight.watch)
                task_status.started()
                await self._stop.wait()
                self.journal.record("server.draining", sessions=len(services.hub))
                grace_s, spread_s = self._options.shutdown_grace, self._options.shutdown_spread
                await send_away(services.hub, self._reception.connections, grace_s, spread_s)
                with trio.move_on_after(grace_s):
                    await services.side.finish()
                services.writer.finish()
        finally:
            self._services = self._core = None
            with trio.CancelScope(shield=True):
                await self._close(ThreadPool("kora-store", 1, patience_s=0.0))
            self._stopped.set()

    async def _close(self, thread: ThreadPool) -> None:
        await self._identification.close()
        for opened in (self._channel, self._blobs, self._store):
            if opened is not None:
                try:
                    await thread.run(opened.close)
                except StoreUnavailable:  # no thread: at the end nobody minds a call that blocks
                    opened.close()

    def reconfigure(self, auth: AuthProvider, options: ServerOptions) -> None:
        """Use this provider and these options for the sessions to come.

        Those that are there are judged again by this provider. May be called from any thread.
        """
        # What accepted scopes look like goes with how records are moved, which can't change under way.
        self._options = options = replace(options, accepted_scope=self._options.accepted_scope)
        self._identification.replace(auth, options.auth)
        self._lobby.allow(options.max_unauthenticated, options.max_unauthenticated_per_address)
        self._rechecks.soon()
        if self._services is not None:
            self._services = reassemble(self._foundations, options, self._services)

    async def _write(self, writer: Writer, core: trio.CancelScope) -> None:
        await writer.run()
        self._core = None
        core.cancel()

    async def handle_connection(self, transport: Transport, origin: Origin | None = None) -> None:
        """Serve one device over `transport`; returns when it has gone. Its troubles stay in here."""
        if self._stop.is_set() and self.is_over:
            await transport.close(GOING_AWAY, "server is shutting down")
            return
        most = self._options.max_connections
        await self._reception.serve(transport, origin, self._running, most, draining=self.draining)

    def adopt(self, transport: Transport, origin: Origin) -> None:
        """Serve a device whose transport outlives the task that brings it; returns at once."""
        if self._core is None:
            raise NotRunning
        self._core.start_soon(self.handle_connection, transport, origin)

    def luggage(self) -> Luggage:
        """Of a connection that is not known yet."""
        return Luggage(self._lobby.luggage_room)

    @property
    def polling_options(self) -> PollingOptions:
        """What devices may cost that come by HTTP requests."""
        return self._options.polling

    @property
    def _running(self) -> Services:
        if self._services is None:
            raise NotRunning
        return self._services

    @property
    def oversight(self) -> Oversight:
        """What an operator sees and does."""
        if self._oversight is None:
            raise NotRunning
        return self._oversight

    @property
    def backups(self) -> Backups:
        """Its log as a file, in both directions."""
        if self._backups is None:
            raise NotRunning
        return self._backups

    @property
    def options(self) -> ServerOptions:
        """How it behaves now."""
        return self._options

    @property
    def store_kind(self) -> str:
        """The name of the store: memory, sqlite, postgres, or somebody else's."""
        return type(self._store).__name__.removesuffix("Store").lower()

    @property
    def writer(self) -> Writer:
        """Who writes to its log."""
        return self._running.writer

    @property
    def measures(self) -> Measures:
        """What it has done so far."""
        return self._telemetry.measures

    @property
    def journal(self) -> Journal:
        """What has happened lately."""
        return self._telemetry.journal

    @property
    def draining(self) -> bool:
        """Whether it is about to stop, or has not begun."""
        return self._stop.is_set() or self.is_over

    @property
    def is_over(self) -> bool:
        """Whether it has stopped, or not begun: it takes no connections."""
        return self._services is None or self._core is None

    @property
    def log_tail(self) -> Tail:
        """The newest part of the log, as of now."""
        return self._running.hub.tail

    @property
    def pulses(self) -> Sequence[Pulse]:
        """Of the tasks that all sessions depend on, as long as it runs."""
        return () if self._services is None else (self._services.writer.pulse, self._services.side.awareness.pulse)

    @property
    def store_failure(self) -> str | None:
        """Why the store does not take writes, None while it does."""
        return self._running.writer.failure

    @property
    def awareness(self) -> AwarenessRelay:
        """Who is present of those without scopes."""
        return self._running.side.awareness.unrestricted

    async def check_store(self) -> None:
        """Ask the store something; raises StoreError when it does not answer."""
        await self._running.readers.ask(lambda store: store.frontier())

    async def explain(self, node_id: str, operation_id: str) -> Explanation:
        """Why an operation was or was not delivered to the sessions of a device. Raises StoreError."""
        readers = self._running.readers
        sessions = [(one.session, one.granted) for one in self._reception.connections if one.session.node_id == node_id]
        return await explain(node_id, operation_id, await readers.find(operation_id), sessions, readers.shows)

    # Records and trusted writes

    @property
    def schema(self) -> Schema | None:
        """The app's schema, as long as the server lives."""
        return self._options.apply.schema

    @property
    def data(self) -> DataPlane:
        """Records, and writes by the server's own side."""
        return DataPlane(self._running.readers, self._running.writer, self.schema)

    async def apply(self, mutation: Mutation) -> TrustedOutcome:
        """See `DataPlane.apply`."""
        return await self.data.apply(mutation)

    async def apply_conditional(self, write: ConditionalWrite) -> TrustedOutcome:
        """See `DataPlane.apply_conditional`."""
        return await self.data.apply_conditional(write)

    async def query_collection(self, collection: str, query: RecordQuery | None = None) -> list[Record]:
        """The records that a query finds. Raises `QueryError` and `StoreError`."""
        return await self.data.query(collection, query)

    async def find_record(self, collection: str, record_id: str) -> Record | None:
        """A live record, None where there is none. Raises `QueryError` and `StoreError`."""
        return await self.data.find_record(collection, record_id)

    async def count_collection(self, collection: str, where: Mapping[str, object] | None = None) -> int:
        """How many live records have these values. Raises `QueryError` and `StoreError`."""
        return await self.data.count(collection, where)

    async def materialize_collection(self, collection: str) -> list[Record]:
        """All live records of a collection, also without a schema. Raises `StoreError`."""
        return await self._running.readers.read(lambda store: store.materialize_collection(collection))

    def get_connection_count(self) -> int:
        """Connections, whether their handshake is done or not."""
        return len(self._running.hub)

    def get_status(self) -> Status:
        """The server now."""
        services = self._running
        return Status(
            services.rules.server_node_id,
            round(trio.current_time() - self._started_at, 3),
            len(services.hub),
            services.writer.log_size.operations,
            services.hub.frontier,
            services.writer.failure,
        )


def _changed(log_size: LogSize, follower: LogFollower) -> Callable[[int], None]:
    """What is to be done when the log has changed past the writer's groups, and has so many operations now."""

    def changed(operations: int) -> None:
        log_size.operations = operations
        follower.look()

    return changed
