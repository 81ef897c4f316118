"""One simulated world: a daemon that dies and comes again, devices, people, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import structlog
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.errors import StoreError
from kora_daemon.http.listener import ListenerOptions
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from kora_daemon.store.contract import Store
from kora_daemon.torture.client import Client, OldClient
from kora_daemon.torture.device import Device
from kora_daemon.torture.faults import Faults
from kora_daemon.torture.life import Circumstances, Life
from kora_daemon.torture.machine import SimulatedMachine
from kora_daemon.torture.moments import Moments
from kora_daemon.torture.network import Network
from kora_daemon.torture.oracle import has_everything, judge
from kora_daemon.torture.people import SCHEMA
from kora_daemon.torture.schedule import Happening, draw_schedule, draw_size
from kora_daemon.torture.store import TroubledStore
from kora_daemon.torture.trace import Trace
from kora_daemon.torture.user import User
from kora_daemon.torture.weather import Weather
from kora_daemon.torture.witness import Witness

SETTLES_S = 150.0
"""How long everything may take to come to rest once nothing goes wrong any more."""
LOOKS_S = 0.5
_USERS = ("alice", "alice", "bob", "bob", "visitor", "", "reader", "admin")


class World:
    """Everything that one seed brings about; `store` is open, and closed by whoever has made it."""

    def __init__(self, seed: int, store: Store, trace: Trace) -> None:
        self._random = Random(seed)
        self._size = draw_size(self._random)
        self.trace = trace
        self.witness = Witness(store, trace)
        self.weather = Weather()
        self._moments = Moments()
        self.network = Network(self._branch(), self._moments)
        self._store = store
        self._circumstances = self._draw_circumstances()
        self.devices = [self._draw_device(number) for number in range(self._random.choice(self._size.devices))]
        for device in self.devices:
            device.client.shuffles = all(one.client.has_watermark for one in self.devices)
        self._user = User(self._branch(), self.witness)
        self.schedule = draw_schedule(self._branch(), self._size, len(self.devices))
        self._life: Life | None = None
        self._is_over = False
        self.lives = 0

    def _branch(self) -> Random:
        """Chance for one part, so that what one part draws does not change what others draw."""
        return Random(self._random.getrandbits(64))

    def _draw_circumstances(self) -> Circumstances:
        chance = self._random
        options = ServerOptions(
            batch_size=chance.choice((2, 5, 100)),
            uploads=UploadLimits(max_operations_per_minute=0),
            polling=PollingOptions(hold_s=chance.choice((1.0, 25.0))),
            apply=ApplyRules(SCHEMA, cascade_levels=2),
            auth=AuthRules(shared_data=True),
            shutdown_grace=2.0,
            shutdown_spread=0.2,
            outage_patience=chance.choice((0.0, 0.0, 5.0)),
            ping_interval=chance.choice((2.0, 25.0)),
            node_binding=chance.choice(("off", "enforce")),
        )
        return Circumstances(options, ListenerOptions(max_buffered_bytes=chance.choice((64_000, 1 << 20))))

    def _draw_device(self, number: int) -> Device:
        chance = self._random
        user = "alice" if number < 2 else chance.choice(_USERS)
        kind = OldClient if chance.random() < 0.2 else Client
        client = kind(f"device-{number}", user, self._branch(), self.witness)
        client.packs = chance.random() < 0.3
        return Device(
            client,
            self.network,
            self._moments,
            chance.choice(("websocket", "websocket", "websocket", "http")),
            self.trace,
        )

    # The run

    async def run(self) -> None:
        """Live through the schedule, come to rest, be judged."""
        with _listening(self.witness.logged_event):
            async with trio.open_nursery() as everything:
                everything.start_soon(self._moments.work)
                everything.start_soon(self._keep_daemon)
                for device in self.devices:
                    self.trace.note(
                        device.name, f"{type(device.client).__name__} of {device.client.user} by {device.transport}"
                    )
                    everything.start_soon(device.live)
                faults = Faults(self.network, self.weather, self._kill, self._stop, everything)
                for happening in self.schedule:
                    await trio.sleep_until(happening.at_s)
                    if self.witness.violations:
                        break
                    self._happens(happening, faults)
                await trio.sleep_until(self._size.length_s + 1)
                await self._come_to_rest(everything)
                everything.cancel_scope.cancel()

    def _happens(self, happening: Happening, faults: Faults) -> None:
        device = self.devices[happening.device]
        if happening.kind == "write":
            device.write(self._user.act(device.client, device.wall_ms))
        elif happening.kind == "show presence":
            device.show()
        else:
            self.trace.note("FAULT", happening.text)
            faults.strike(happening, device)

    def _kill(self) -> None:
        if self._life is not None:
            self._life.kill()

    async def _stop(self) -> None:
        if self._life is not None:
            await self._life.stop()

    async def _keep_daemon(self) -> None:
        """Start it again whenever it ends, as a service manager does."""
        pauses = self._branch()
        while not self._is_over:
            store = TroubledStore(self._store, self.weather, self.witness.committed)
            life = Life(
                store, SimulatedMachine(self._branch(), self.weather, self._moments), self.network, self._circumstances
            )
            self.lives += 1
            try:
                self._life = life
                await life.run(lambda: self.trace.note("daemon", "is ready"))
            except* StoreError as errors:
                self.trace.note("daemon", f"ends: {errors.exceptions[0]!r}")
            finally:
                self._life = None
            self.trace.note("daemon", "is gone")
            await trio.sleep(pauses.random())

    async def _come_to_rest(self, tasks: trio.Nursery) -> None:
        self.trace.note("FAULT", "no more")
        self.weather.clear_up()
        for device in self.devices:
            device.clock_ahead_ms = 0
        if await self._everybody_has_everything():
            self._add_newcomers(tasks)
            await self._everybody_has_everything()
        if self._life is None:
            self.witness.complain("the daemon does not come again")
        else:
            judge(self.witness, [one.client for one in self.devices], self._life.status)
        self._is_over = True
        await self._stop()

    def _add_newcomers(self, tasks: trio.Nursery) -> None:
        """Devices that have nothing yet get exactly what the others have."""
        for user in self._random.sample(("alice", "bob", "admin"), 1):
            client = Client(f"newcomer-of-{user}", user, self._branch(), self.witness)
            self.devices.append(Device(client, self.network, self._moments, "websocket", self.trace))
            tasks.start_soon(self.devices[-1].live)

    async def _everybody_has_everything(self) -> bool:
        """Wait for that, or for the first violation; whether it came about."""
        with trio.move_on_after(SETTLES_S):
            while not self.witness.violations:
                rests = all(has_everything(one.client, self.witness) and one.is_idle for one in self.devices)
                if rests and self._is_counted():
                    return True
                await trio.sleep(LOOKS_S)
        return False

    def _is_counted(self) -> bool:
        """Whether the daemon has found out how many operations there are, after a commit that was in doubt."""
        life = self._life
        return life is not None and not life.server.is_over and life.status.total_operations == len(self.witness.log)


@contextmanager
def _listening(heard: Callable[[str, str, object], None]) -> Iterator[None]:
    """Let what would be written to the log be heard instead."""

    def hear(_logger: Any, level: str, event: Any) -> Any:  # noqa: ANN401  as structlog has it
        heard(event["event"], level, event.get("exc_info"))
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    processors.insert(0, hear)
    try:
        yield
    finally:
        processors.remove(hear)
