"""SIGKILL at random moments, devices writing and listening: nothing acknowledged is ever lost, doubled or unsent."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket

from tests.support.network import Client, Closed, connected
from tests.support.operations import wire_operation
from tests.support.process import Daemon

ROUNDS = int(os.environ.get("KORA_KILL_ROUNDS", "50"))
WRITERS = 4
CONFIG = """
[server]
host = "127.0.0.1"
port = 0
[limits]
max_operations_per_minute = 0
[store]
durability = "{durability}"
"""

LOST = (Closed, OSError, trio.BrokenResourceError, trio_websocket.HandshakeError, trio_websocket.ConnectionClosed)


class Writer:
    """A device that uploads without pause. What was not acknowledged is sent again over the next connection."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.acknowledged: list[str] = []
        self._next = 1
        self._pending: list[dict[str, Any]] = []

    async def live(self, url: str) -> None:
        """Write over one connection until it is lost."""
        try:
            async with connected(url) as client:
                await client.shake_hands(self.node_id)
                while True:
                    await self._upload(client)
        except LOST:
            pass

    async def _upload(self, client: Client) -> None:
        if not self._pending:
            count = random.randint(1, 40)
            self._pending = [self._operation(number) for number in range(self._next, self._next + count)]
            self._next += count
        message_id = await client.upload(*self._pending)
        while True:
            message = await client.hear()
            if message["type"] == "operation-batch":
                await client.acknowledge(message)
            elif message["type"] == "acknowledgment" and message["acknowledgedMessageId"] == message_id:
                break
        self.acknowledged += [operation["id"] for operation in self._pending]
        self._pending = []

    def _operation(self, number: int) -> dict[str, Any]:
        return wire_operation(number, id=f"{self.node_id}:{number}", nodeId=self.node_id)


class Listener:
    """A device that only downloads, with the watermark rules of a stock client."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.watermark = 0
        self.taken: list[str] = []

    async def live(self, url: str) -> None:
        """Listen over one connection until it is lost."""
        try:
            async with connected(url) as client:
                await client.shake_hands(self.node_id, self.watermark)
                while True:
                    await self._take(client, await client.hear())
        except LOST:
            pass

    async def _take(self, client: Client, batch: dict[str, Any]) -> None:
        if batch["type"] != "operation-batch" or batch["baseDeliverySequence"] != self.watermark:
            return
        self.taken += [operation["id"] for operation in batch["operations"]]
        self.watermark = batch["maxDeliverySequence"]
        await client.acknowledge(batch)


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_what_was_acknowledged_survives_every_kill(tmp_path: Path, durability: str) -> None:
    writers = [Writer(f"writer-{number}") for number in range(WRITERS)]
    listener = Listener("listener")
    rounds = ROUNDS if durability == "full" else max(1, ROUNDS // 5)
    with Daemon(tmp_path, CONFIG.format(durability=durability)) as daemon:
        for _ in range(rounds):
            async with trio.open_nursery() as devices:
                for device in (*writers, listener):
                    devices.start_soon(device.live, daemon.url)
                await trio.sleep(random.uniform(0.02, 0.5))
                daemon.kill()
            daemon.start()
        log = await _everything(daemon.url)
        async with trio.open_nursery() as devices:
            devices.start_soon(listener.live, daemon.url)
            with trio.fail_after(20):
                while len(listener.taken) < len(log):
                    await trio.sleep(0.02)
            devices.cancel_scope.cancel()

    acknowledged = [operation for writer in writers for operation in writer.acknowledged]
    assert acknowledged, "the devices never got anything through"
    assert max(Counter(log).values()) == 1
    assert set(acknowledged) <= set(log)
    assert listener.taken == log


async def _everything(url: str) -> list[str]:
    reader = Listener("fresh-device")
    async with connected(url) as client:
        await client.shake_hands(reader.node_id)
        while True:
            batch = await client.hear()
            await reader._take(client, batch)
            if batch["isFinal"]:
                return reader.taken
