"""What goes wrong, done to the parts that it is done to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from kora_daemon.torture.device import Device
from kora_daemon.torture.network import Network
from kora_daemon.torture.schedule import Happening, Kind
from kora_daemon.torture.weather import Weather

SLOW_CALL_S = 0.3


class Faults:
    """Brings them about; those that last pass by themselves, in tasks of a nursery. `kill` and `stop` end a daemon."""

    def __init__(
        self,
        network: Network,
        weather: Weather,
        kill: Callable[[], None],
        stop: Callable[[], Awaitable[None]],
        tasks: trio.Nursery,
    ) -> None:
        self._network = network
        self._weather = weather
        self._tasks = tasks
        self._kinds: dict[Kind, Callable[[Happening, Device], None]] = {
            "cut": lambda _, device: network.cut(device.name),
            "partition": self._lasting(self._part),
            "stall": self._lasting(self._stall),
            "restart app": lambda _, device: device.restart(),
            "wipe app": lambda _, device: device.restart(wiped=device.client.has_watermark),
            "device clock": self._set_device_clock,
            "daemon clock": self._set_daemon_clock,
            "slow store": self._lasting(self._slow_down),
            "store out": self._lasting(self._take_store),
            "commit fails": lambda *_: self._fail_commit(),
            "commit in doubt": lambda *_: self._doubt_commit(),
            "disk trouble": self._lasting(self._trouble_disk),
            "kill": lambda *_: kill(),
            "restart": lambda *_: tasks.start_soon(stop),
        }

    def strike(self, happening: Happening, device: Device) -> None:
        """Let one happen, to this device if it is about one."""
        self._kinds[happening.kind](happening, device)

    def _lasting(self, fault: Callable[[Device, float], Awaitable[None]]) -> Callable[[Happening, Device], None]:
        return lambda happening, device: self._tasks.start_soon(fault, device, happening.lasts_s)

    async def _part(self, device: Device, lasts_s: float) -> None:
        self._network.part(device.name)
        await trio.sleep(lasts_s)
        self._network.join(device.name)

    async def _stall(self, device: Device, lasts_s: float) -> None:
        device.stall(True)
        await trio.sleep(lasts_s)
        device.stall(False)

    def _set_device_clock(self, happening: Happening, device: Device) -> None:
        device.clock_ahead_ms = happening.skew_ms

    def _set_daemon_clock(self, happening: Happening, _device: Device) -> None:
        self._weather.clock_ahead_ms = happening.skew_ms

    async def _slow_down(self, _device: Device, lasts_s: float) -> None:
        self._weather.call_s = SLOW_CALL_S
        await trio.sleep(lasts_s)
        self._weather.clear_calls()

    async def _take_store(self, _device: Device, lasts_s: float) -> None:
        self._weather.store_is_out = True
        await trio.sleep(lasts_s)
        self._weather.store_is_out = False

    def _fail_commit(self) -> None:
        self._weather.commits_to_fail += 1

    def _doubt_commit(self) -> None:
        self._weather.commits_to_doubt += 1

    async def _trouble_disk(self, device: Device, lasts_s: float) -> None:
        """A disk that fails takes its time first: much waits behind what is not going to be."""
        self._fail_commit()
        await self._slow_down(device, lasts_s)
