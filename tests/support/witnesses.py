"""Devices that live through whatever is done to a daemon, and bear witness: what was acknowledged is stored, once, and
reached every listener in one order.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio_websocket

from tests.support.devices import inserts
from tests.support.network import Client, Closed, connected, eventually

LOST = (
    Closed,
    OSError,
    trio.BrokenResourceError,
    trio.TooSlowError,
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
)
PAUSE_S = 0.05
"""Between two connections. A stock client takes longer; here more can happen."""
PATIENCE_S = 60.0
LARGEST_BATCH = 40

Place = Callable[[], str]
"""The URL of a daemon, which may change when it comes back."""


class Witness:
    """A device that comes back whenever its connection is lost."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.source: str | None = None
        """The address that it comes from, where it matters."""
        self.connections = 0
        self.at_work = False
        """It has a connection, and its handshake behind it."""

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to do."""
        return False

    async def live(self, place: Place) -> None:
        """Do what it does, until cancelled or done."""
        while not self.is_done:
            try:
                async with connected(place(), source=self.source) as client:
                    await self._sync(client)
            except* LOST:
                pass
            finally:
                self.at_work = False
            await trio.sleep(PAUSE_S)

    def _welcomed(self, response: dict[str, Any]) -> None:
        assert response["accepted"] is True, response
        self.connections += 1
        self.at_work = True

    async def _sync(self, client: Client) -> None:
        raise NotImplementedError


class Writer(Witness):
    """Uploads without pause. What was not acknowledged is sent again over the next connection."""

    def __init__(self, node_id: str, pause_s: float = 0.0) -> None:
        super().__init__(node_id)
        self.acknowledged: list[str] = []
        self.stopping = False
        self._pause_s = pause_s
        self._next = 1
        self._pending: list[dict[str, Any]] = []

    @property
    def is_done(self) -> bool:
        """Whether it was told to stop, and all it wrote is acknowledged."""
        return self.stopping and not self._pending

    async def _sync(self, client: Client) -> None:
        self._welcomed(await client.shake_hands(self.node_id))
        while not self.is_done:
            await self._upload(client)
            await trio.sleep(self._pause_s)

    async def _upload(self, client: Client) -> None:
        if not self._pending:
            count = random.randint(1, LARGEST_BATCH)
            self._pending = inserts(self.node_id, self._next, self._next + count - 1)
            self._next += count
        message_id = await client.upload(*self._pending)
        async for message in client.messages():
            assert message["type"] != "operation-rejected", message
            if message["type"] == "operation-batch":
                await client.acknowledge(message)
            elif message["type"] == "acknowledgment" and message["acknowledgedMessageId"] == message_id:
                break
        self.acknowledged += [operation["id"] for operation in self._pending]
        self._pending = []


class Listener(Witness):
    """Only downloads, with the watermark rules of a stock client."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self.watermark = 0
        self.taken: list[str] = []

    async def _sync(self, client: Client) -> None:
        response = await client.shake_hands(self.node_id, self.watermark)
        self._welcomed(response)
        assert response["serverMaxDeliverySequence"] >= self.watermark, "the log went back, or so it says"
        async for message in client.messages():
            await self.take(client, message)

    async def take(self, client: Client, message: dict[str, Any]) -> None:
        """Take a message: a batch that goes on from the watermark."""
        if message["type"] != "operation-batch" or message["baseDeliverySequence"] != self.watermark:
            return
        self.taken += [operation["id"] for operation in message["operations"]]
        self.watermark = message["maxDeliverySequence"]
        await client.acknowledge(message)


class Witnesses:
    """All of them together. `places` are those of the daemons; the devices are spread over them."""

    def __init__(self, *places: Place, writers: int = 4, listeners: int = 2, pause_s: float = 0.0) -> None:
        self.places = places
        self.writers = [Writer(f"writer-{number}", pause_s) for number in range(writers)]
        self.listeners = [Listener(f"listener-{number}") for number in range(listeners)]

    @property
    def acknowledged(self) -> list[str]:
        """The ids of all operations that somebody was told are stored."""
        return [operation for writer in self.writers for operation in writer.acknowledged]

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """They write and listen as long as this is open; at the end all that was written is acknowledged."""
        for writer in self.writers:
            writer.stopping = False
        async with trio.open_nursery() as nursery:
            for devices in (self.writers, self.listeners):
                for number, device in enumerate(devices):
                    nursery.start_soon(device.live, self.places[number % len(self.places)])
            yield
            for writer in self.writers:
                writer.stopping = True
            await eventually(lambda: all(writer.is_done for writer in self.writers), PATIENCE_S)
            nursery.cancel_scope.cancel()

    async def at_work(self) -> None:
        """Return once all of them are connected."""
        await eventually(lambda: all(one.at_work for one in (*self.writers, *self.listeners)), PATIENCE_S)

    async def make_progress(self, operations: int = 1) -> None:
        """Return once so many more operations were acknowledged."""
        wanted = len(self.acknowledged) + operations
        await eventually(lambda: len(self.acknowledged) >= wanted, PATIENCE_S)

    async def come_again(self) -> None:
        """Return once all writers have made another connection."""
        before = [one.connections for one in self.writers]
        await eventually(
            lambda: all(one.connections > times for one, times in zip(self.writers, before, strict=True)), PATIENCE_S
        )

    async def agree(self) -> list[str]:
        """The log, when nobody writes any more; everybody has seen nothing else."""
        log = await _everything(self.places[0]())
        async with trio.open_nursery() as nursery:
            for number, listener in enumerate(self.listeners):
                nursery.start_soon(listener.live, self.places[number % len(self.places)])
            await eventually(lambda: all(len(one.taken) >= len(log) for one in self.listeners), PATIENCE_S)
            nursery.cancel_scope.cancel()
        assert self.acknowledged, "the devices never got anything through"
        assert sorted(self.acknowledged) == sorted(log), _difference(self.acknowledged, log)
        assert max(Counter(log).values()) == 1
        for listener in self.listeners:
            assert listener.taken == log
        return log


def _difference(acknowledged: list[str], log: list[str]) -> str:
    lost, doubled = set(acknowledged) - set(log), [one for one, times in Counter(log).items() if times > 1]
    return f"lost {sorted(lost)}, doubled {doubled}, never acknowledged {sorted(set(log) - set(acknowledged))}"


async def _everything(url: str) -> list[str]:
    reader = Listener("fresh-device")
    with trio.fail_after(PATIENCE_S):
        async with connected(url) as client:
            await client.shake_hands(reader.node_id)
            async for batch in client.messages():
                await reader.take(client, batch)
                if batch["isFinal"]:
                    break
    return reader.taken
