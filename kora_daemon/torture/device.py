"""A simulated device: a client, a clock that may be wrong, and connections that come and go."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import trio

from kora_daemon.torture.client import Client, Offline, Sent
from kora_daemon.torture.links import Link, Lost, PollingLink, WebSocketLink
from kora_daemon.torture.moments import Moments
from kora_daemon.torture.network import Network, Unreachable
from kora_daemon.torture.trace import Trace
from kora_daemon.torture.weather import EPOCH_MS

ACKNOWLEDGMENT_S = 30.0
"""After that a client gives an upload up, and its connection with it."""
PAUSE_S = 1.0
"""Until it connects again, at most."""
Transport = Literal["websocket", "http"]


class Device:
    """Connects, and again whenever that fails."""

    def __init__(self, client: Client, network: Network, moments: Moments, transport: Transport, trace: Trace) -> None:
        self.client = client
        self.name = client.node_id
        self.transport = transport
        self.clock_ahead_ms = 0
        self._network = network
        self._moments = moments
        self._trace = trace
        self._link: Link | None = None
        self._reads = trio.Event()
        self._reads.set()
        self._starts = 0
        self._scope = trio.CancelScope()

    @property
    def wall_ms(self) -> int:
        """What its clock shows."""
        return EPOCH_MS + int(trio.current_time() * 1000) + self.clock_ahead_ms

    @property
    def is_idle(self) -> bool:
        """Connected, with nothing of its own under way."""
        return self._link is not None and self.client.is_idle

    def stall(self, stalled: bool) -> None:
        """Stop to read, or go on."""
        if not stalled:
            self._reads.set()
        elif self._reads.is_set():
            self._reads = trio.Event()

    def restart(self, *, wiped: bool = False) -> None:
        """The app is started again; what it keeps it has, unless its database is gone."""
        if wiped:
            self.client.wipe()
        self._starts += 1
        self._scope.cancel()

    def write(self, operations: Iterable[Sent]) -> None:
        """Keep new operations, and send them when it is time."""
        for one in operations:
            self._say(self.client.write(one))

    def show(self) -> None:
        """Tell the others that somebody is here."""
        self._say(self.client.show())

    async def live(self) -> None:
        """Be there, for ever."""
        while True:
            with trio.CancelScope() as self._scope:
                self._trace.note(self.name, f"offline: {await self._connect_once()}")
            await self._moments.pause(self.client.random.random() * PAUSE_S)

    async def _connect_once(self) -> str:
        """One connection from beginning to end; how it ended."""
        streams: list[trio.abc.Stream] = []
        try:
            async with trio.open_nursery() as tasks:
                try:
                    return await self._talk(await self._open(tasks, streams))
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            self._link = None
            with trio.CancelScope(shield=True):
                for one in streams:
                    await one.aclose()

    async def _open(self, tasks: trio.Nursery, streams: list[trio.abc.Stream]) -> Link | str:
        async def connect() -> trio.abc.Stream:
            streams.append(await self._network.connect(self.name))
            return streams[-1]

        try:
            if self.transport == "http":
                identity = {"x-kora-session": f"start-{self._starts}-of-{self.name}"}
                if self.client.user:
                    identity["authorization"] = f"Bearer {self.client.user}"
                polling = PollingLink(connect, identity, tasks)
                await polling.open()
                return polling
            websocket = WebSocketLink(await connect(), tasks)
            await websocket.open()
        except (Unreachable, Lost) as error:
            return repr(error)
        return websocket

    async def _talk(self, link: Link | str) -> str:
        if isinstance(link, str):
            return link
        self._link = link
        greeting = self.client.greet()
        self._trace.note(self.name, f"greets at {greeting.get('lastDeliverySequence')}")
        link.say(greeting)
        awaited, give_up_at = "", math.inf
        try:
            while True:
                await self._reads.wait()
                if self.client.in_flight != awaited:
                    awaited = self.client.in_flight
                    give_up_at = trio.current_time() + ACKNOWLEDGMENT_S if awaited else math.inf
                message = await _heard(link, give_up_at)
                self._say(self.client.take(message, self.wall_ms))
        except (Lost, Offline) as error:
            return str(error)
        except trio.TooSlowError:
            return "no acknowledgment"

    def _say(self, messages: Iterable[Sent]) -> None:
        if self._link is not None:
            for one in messages:
                self._link.say(one)


async def _heard(link: Link, give_up_at: float) -> Sent:
    """The next message. Raises TooSlowError when it does not come in time, which mostly is for ever."""
    if give_up_at == math.inf:
        return await link.hear()
    with trio.fail_at(give_up_at):
        return await link.hear()
