"""Two daemons on one PostgreSQL, four writers and two listeners, while all three are killed at random: what was
acknowledged is in the log once, and with every listener, in one order.

`KORA_CHAOS_SECONDS` says how long the chaos lasts.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket

from kora_daemon.store.postgres import PostgresStore
from tests.support.devices import inserts
from tests.support.network import Client, Closed, connected
from tests.support.postgres import PostgresServer
from tests.support.process import Daemon

CHAOS_S = float(os.environ.get("KORA_CHAOS_SECONDS", "12"))
BATCH = 5
CONFIG = """
[server]
host = "127.0.0.1"
port = {port}
[store]
kind = "postgres"
url = "{url}"
outage_patience = 8.0
connect_timeout = 3.0
[limits]
max_operations_per_minute = 0
[log]
level = "warning"
"""
FAILURES = (Closed, OSError, trio_websocket.HandshakeError, trio_websocket.ConnectionClosed, trio.TooSlowError)


class Place:
    """A daemon that comes back on the same port after it was killed."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.daemon = Daemon(folder, CONFIG.format(port=self.port, url=url))
        self.url = f"ws://127.0.0.1:{self.port}/"


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    server = PostgresServer(fsync="on", full_page_writes="on")
    yield server
    server.remove()


@pytest.fixture
def places(tmp_path: Path, database: PostgresServer) -> Iterator[list[Place]]:
    url = database.url(database.database())
    made = [Place(tmp_path / name, url) for name in ("one", "two")]
    for place in made:
        place.daemon.start()
    yield made
    for place in made:
        if place.daemon.process.poll() is None:
            place.daemon.kill()


class Writer:
    """A device that uploads until it is told to stop, and sends again what was not acknowledged."""

    def __init__(self, node: str, places: list[Place]) -> None:
        self.node = node
        self.places = places
        self.acknowledged = 0
        self.stopping = False

    async def run(self) -> None:
        turn = random.Random(self.node)
        while not self.stopping:
            try:
                with trio.fail_after(30):
                    async with connected(turn.choice(self.places).url) as client:
                        await client.shake_hands(self.node)
                        await self.upload(client)
            except* FAILURES:
                await trio.sleep(0.1)

    async def upload(self, client: Client) -> None:
        while not self.stopping:
            batch = inserts(self.node, self.acknowledged + 1, self.acknowledged + BATCH)
            message_id = await client.upload(*batch)
            while True:
                message = await client.hear()
                if message["type"] == "operation-batch":
                    await client.acknowledge(message)
                assert message["type"] != "operation-rejected"
                if message.get("acknowledgedMessageId") == message_id:
                    self.acknowledged += BATCH
                    break


class Listener:
    """A device that only takes, at one daemon, and goes on from its watermark after each interruption."""

    def __init__(self, node: str, place: Place) -> None:
        self.node = node
        self.place = place
        self.watermark = 0
        self.taken: list[str] = []
        self.wanted = -1

    async def run(self) -> None:
        while len(self.taken) != self.wanted:
            try:
                async with connected(self.place.url) as client:
                    response = await client.shake_hands(self.node, self.watermark)
                    assert response["serverMaxDeliverySequence"] >= self.watermark, "the log never goes back"
                    while len(self.taken) != self.wanted:
                        await self.take(client, await client.hear())
            except* FAILURES:
                await trio.sleep(0.1)

    async def take(self, client: Client, message: dict[str, Any]) -> None:
        if message["type"] != "operation-batch":
            return
        if message["baseDeliverySequence"] == self.watermark:
            self.taken += [operation["id"] for operation in message["operations"]]
            self.watermark = message["maxDeliverySequence"]
            await client.acknowledge(message)


async def chaos(places: list[Place], database: PostgresServer, seed: int) -> None:
    """Kill and restart, at random, for a while; everything runs at the end."""
    chance = random.Random(seed)
    ends_at = trio.current_time() + CHAOS_S
    while trio.current_time() < ends_at:
        await trio.sleep(chance.uniform(0.5, 2.0))
        if chance.random() < 0.5:
            await trio.to_thread.run_sync(database.kill)
            await trio.sleep(chance.uniform(0.0, 1.0))
            await trio.to_thread.run_sync(database.start)
        else:
            daemon = chance.choice(places).daemon
            await trio.to_thread.run_sync(daemon.kill)
            await trio.sleep(chance.uniform(0.0, 0.5))
            await trio.to_thread.run_sync(daemon.start)


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_or_doubled_and_all_hear_it_in_one_order(
    places: list[Place], database: PostgresServer
) -> None:
    writers = [Writer(f"writer-{number}", places) for number in range(4)]
    listeners = [Listener(f"listener-{number}", place) for number, place in enumerate(places)]
    with trio.fail_after(CHAOS_S + 90):
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(listener.run)
            async with trio.open_nursery() as writing:
                for writer in writers:
                    writing.start_soon(writer.run)
                await chaos(places, database, seed=int(CHAOS_S))
                for writer in writers:
                    writer.stopping = True
            log = [entry.operation.id for entry in entries(places)]
            for listener in listeners:
                listener.wanted = len(log)
            # One more operation ends their waiting.
            last = Writer("last", places)
            log_length = len(log)
            async with connected(places[0].url) as client:
                await client.shake_hands("last")
                await client.upload(*inserts("last", 1, 1))
                for listener in listeners:
                    listener.wanted = log_length + 1
                while (await client.hear()).get("type") != "acknowledgment":
                    pass
            assert last.acknowledged == 0
    sequences = [entry.sequence for entry in entries(places)]
    log = [entry.operation.id for entry in entries(places)]
    assert sequences == sorted(set(sequences))
    assert len(log) == len(set(log))
    acknowledged = {f"{writer.node}/{number}" for writer in writers for number in range(1, writer.acknowledged + 1)}
    assert acknowledged
    assert acknowledged <= set(log)
    for listener in listeners:
        assert listener.taken == log


def entries(places: list[Place]) -> list[Any]:
    """The log as a third party reads it."""
    url = places[0].daemon.config.read_text().split('url = "')[1].split('"')[0]
    store = PostgresStore(url)
    store.open()
    try:
        return store.entries_after(0, 1_000_000)
    finally:
        store.close()
