"""A connection to PostgreSQL that breaks inside a COMMIT: it was done, and nobody said so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from kora_daemon.server.options import ServerOptions
from kora_daemon.store.postgres import PostgresStore
from tests.support import postgres
from tests.support.devices import insert
from tests.support.network import eventually, running_server, streaming

DONE = b"COMMIT\0"
"""The end of what the database answers to one."""


class Line:
    """Carries what a store and its database say; it breaks before the answer to a COMMIT as often as it is told to."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.answers_to_lose = 0

    async def carry(self, store: trio.SocketStream) -> None:
        async with store, await trio.open_unix_socket(str(self._database)) as database, trio.open_nursery() as both:
            both.start_soon(self._ask, store, database)
            async for piece in database:
                if self.answers_to_lose and DONE in piece:
                    self.answers_to_lose -= 1
                    break
                await store.send_all(piece)
            both.cancel_scope.cancel()

    async def _ask(self, store: trio.SocketStream, database: trio.SocketStream) -> None:
        async for piece in store:
            await database.send_all(piece)
        await database.send_eof()


@asynccontextmanager
async def line() -> AsyncIterator[tuple[Line, str]]:
    server = postgres.server()
    made = Line(server.socket)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, made.carry, 0)
        port = listeners[0].socket.getsockname()[1]
        yield made, server.url(server.database(), host="localhost", port=str(port))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("patience_s", [0.0, 20.0])
async def test_what_was_committed_without_an_answer_is_counted(patience_s: float) -> None:
    async with (
        line() as (broken, url),
        running_server(PostgresStore(url), options=ServerOptions(outage_patience=patience_s)) as host,
    ):
        async with streaming(host.url, "a") as a:
            await a.upload(insert("a", 1))
            assert (await a.hear())["type"] == "acknowledgment"
            broken.answers_to_lose = 1
            await a.upload(insert("a", 2), insert("a", 3))
            await eventually(lambda: host.server.get_status().total_operations == 3)
            await eventually(lambda: host.server.get_status().frontier == 3)
        assert broken.answers_to_lose == 0
        assert host.server.measures.outages == 1
        async with streaming(host.url, "b", 3) as b:
            await b.upload(insert("b", 1))
            await eventually(lambda: host.server.get_status().total_operations == 4)
