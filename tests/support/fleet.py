"""Many devices that live through the restarts of a daemon: they write, listen, come back, and remember everything."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import trio
import trio_websocket

from tests.support.devices import insert
from tests.support.network import Client, Closed, connected

FIRST_DELAY_S, LONGEST_DELAY_S, JITTER = 1.0, 30.0, 0.25
"""As of the stock client (wire.md section 12)."""
PATIENCE_S = 60.0
"""For a connection to be open. A stock client has 10 s; but here, slow is not refused."""
UNREACHABLE = (OSError, trio.TooSlowError, trio_websocket.HandshakeError)
LOST = (Closed, trio.BrokenResourceError, trio_websocket.ConnectionClosed)


class Device:
    """One of the fleet. What was not acknowledged it sends again over the next connection."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.written: list[dict[str, Any]] = []
        self.acknowledged: list[str] = []
        self.heard: list[str] = []
        """What others have written. What it wrote itself comes back to it at times, which the stock client knows."""
        self.refused = 0
        """Attempts to connect that came to nothing."""
        self.dialled_at: list[float] = []
        self.welcomed_at: list[float] = []
        self.closed: list[Closed] = []
        self.closed_at: list[float] = []
        self.is_synced = False
        self._watermark = 0
        self._client: Client | None = None
        self._in_flight = ""
        self._messages = count(1)

    @property
    def has_everything_acknowledged(self) -> bool:
        """Whether nothing it wrote is still to be stored."""
        return len(self.acknowledged) == len(self.written)

    def has_written(self, operation_id: str) -> bool:
        """Whether it is one of its own."""
        return operation_id.startswith(f"{self.name}/")

    async def write(self) -> None:
        """Write one more; it is uploaded in its turn."""
        self.written.append(insert(self.name, len(self.written) + 1))
        await self._upload()

    async def live(self, url: str) -> None:
        """Connect, and again whenever the connection is lost, until cancelled."""
        attempts = count()
        while True:
            self.dialled_at.append(trio.current_time())
            try:
                async with connected(url, connect_timeout=PATIENCE_S) as client:
                    attempts = count()
                    await self._sync(client)
            except Closed as closed:
                self.closed.append(closed)
                self.closed_at.append(trio.current_time())
            except LOST:
                pass
            except UNREACHABLE:
                self.refused += 1
            finally:
                self._client, self._in_flight, self.is_synced = None, "", False
            delay = min(FIRST_DELAY_S * 2 ** next(attempts), LONGEST_DELAY_S)
            await trio.sleep(delay * (1 + JITTER * random.uniform(-1, 1)))

    async def _sync(self, client: Client) -> None:
        response = await client.shake_hands(self.name, self._watermark)
        assert response["accepted"] is True
        self.welcomed_at.append(trio.current_time())
        self._client = client
        await self._upload()
        async for message in client.messages():
            if message["type"] == "acknowledgment" and message["acknowledgedMessageId"] == self._in_flight:
                self.acknowledged.append(self.written[len(self.acknowledged)]["id"])
                self._in_flight = ""
                await self._upload()
            elif message["type"] == "operation-batch" and message["baseDeliverySequence"] == self._watermark:
                self.heard += [one["id"] for one in message["operations"] if not self.has_written(one["id"])]
                self._watermark = message["maxDeliverySequence"]
                self.is_synced = self.is_synced or message["isFinal"]
                await client.acknowledge(message)

    async def _upload(self) -> None:
        """Send the next operation, unless one is on its way."""
        client = self._client
        if client is None or self._in_flight or self.has_everything_acknowledged:
            return
        self._in_flight = f"upload-{next(self._messages)}"
        batch = {"type": "operation-batch", "operations": [self.written[len(self.acknowledged)]], "isFinal": True}
        with suppress(*LOST):  # its other task notices, too
            await client.say({**batch, "batchIndex": 0, "messageId": self._in_flight})


class Fleet:
    """The devices, and what became of them all together."""

    def __init__(self, size: int) -> None:
        self.devices = [Device(f"device-{number}") for number in range(size)]
        self._reader = Device("reader")

    @asynccontextmanager
    async def living(self, url: str) -> AsyncIterator[None]:
        """All of them live as long as this is open."""
        async with trio.open_nursery() as nursery:
            for device in self.devices:
                nursery.start_soon(device.live, url)
            nursery.start_soon(self._reader.live, url)
            yield
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def writing(self, per_s: float) -> AsyncIterator[None]:
        """One after the other writes something as long as this is open."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, per_s)
            yield
            nursery.cancel_scope.cancel()

    async def _write(self, per_s: float) -> None:
        for number in count():
            with trio.CancelScope(shield=True):
                await self.devices[number % len(self.devices)].write()
            await trio.sleep(1 / per_s)

    async def comes(self, times: int) -> None:
        """Return once each of them was welcomed so many times, and is in sync."""
        await self._until(lambda: all(len(one.welcomed_at) >= times and one.is_synced for one in self.devices))

    async def settles(self) -> list[str]:
        """Return once everybody has everything; the log, as one hears it that writes nothing."""
        await self._until(lambda: all(one.has_everything_acknowledged for one in self.devices))
        written = sum(len(one.written) for one in self.devices)
        await self._until(lambda: all(len(one.heard) + len(one.written) >= written for one in self.devices))
        await self._until(lambda: len(self._reader.heard) >= written)
        return self._reader.heard

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await trio.sleep(0.02)

    def acknowledged(self) -> Iterator[str]:
        """The ids of all operations that somebody was told are stored."""
        for one in self.devices:
            yield from one.acknowledged
