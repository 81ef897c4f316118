"""Somebody else with a role in the database: what they notify is a word of nobody's, and stops no daemon."""

from __future__ import annotations

import json

import psycopg
import pytest

from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.postgres.channel import PostgresChannel
from tests.support import postgres
from tests.support.devices import insert
from tests.support.network import eventually, running_server, streaming

NONSENSE = ("9" * 7_000, "9" * 19, "999999999999999999", "-1", "\u0661\u0662", "", "{", "null", "x" * 7_000)


@pytest.mark.parametrize("name", ["kora_frontier", "kora_words"])
async def test_notifications_that_make_no_sense(name: str) -> None:
    server = postgres.server()
    database = server.database()
    async with running_server(PostgresStore(server.url(database))) as host, streaming(host.url, "a") as a:
        channel = host.server._channel
        assert isinstance(channel, PostgresChannel)
        await eventually(lambda: channel._hearing is not None)
        with psycopg.connect(server.url(database), autocommit=True) as other:
            for payload in NONSENSE:
                other.execute("SELECT pg_notify(%s, %s)", (name, payload))
        word = {"version": 1, "speaker": "z", "here": {"2": ["", {"user": {"name": "Zoe"}}]}}
        channel.send(json.dumps(word).encode())
        await eventually(lambda: len(host.server.awareness.get_states()) == 1)
        await a.upload(insert("a", 1))
        assert (await a.hear())["type"] == "acknowledgment"
