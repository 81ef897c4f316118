"""What it costs to judge live sessions again: wall time, look-ups and CPU of a round, for users in tables.

`python -m tests.benchmarks.bench_rechecks [SESSIONS]`: by default 1,000 sessions of as many users with a device each,
in scopes from a template; user tables in SQLite and in PostgreSQL, in memory transports. CPU is this process's.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import median

import structlog
import trio

from kora_daemon.auth.kora import KoraAuthProvider
from kora_daemon.auth.kora_tokens import KoraTokens
from kora_daemon.auth.scoping import TableScoping
from kora_daemon.auth.templates import parse_table
from kora_daemon.auth.users import UserDirectory
from kora_daemon.server import rechecks
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.transport import memory_transport
from kora_daemon.store.memory import MemoryStore
from tests.support.auth import TABLES
from tests.support.tokens import SECRET

ROUNDS = 10


class Counted:
    """A directory that counts what it is asked."""

    def __init__(self, directory: UserDirectory) -> None:
        self._directory = directory
        self.look_ups = 0

    def missing(self) -> list[str]:
        return self._directory.missing()

    def look_up(
        self, user_ids: Collection[str], device_ids: Collection[str]
    ) -> tuple[Mapping[str, tuple[str, str]], Collection[str]]:
        self.look_ups += 1
        return self._directory.look_up(user_ids, device_ids)

    def stamp(self, last_seen_ms: Mapping[str, int]) -> None:
        self._directory.stamp(last_seen_ms)

    def close(self) -> None:
        self._directory.close()


async def measure(name: str, sessions: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = TABLES[name](Path(folder))
        for number in range(sessions):
            tables.user(f"user-{number}")
            tables.device(f"phone-{number}", f"user-{number}")
        directory = Counted(tables.directory())
        scopes = TableScoping(parse_table({"todos": {"userId": "{sub}"}, "notes": {"ownerId": "{user.email}"}}))
        provider = KoraAuthProvider([SECRET], directory, scopes)
        rules = AuthRules(revalidate=0, shared_data=True)
        server = SyncServer(MemoryStore(), provider, ServerOptions(auth=rules, max_unauthenticated=0))
        tokens = KoraTokens([SECRET])
        async with trio.open_nursery() as nursery:
            await server.start(nursery)
            for number in range(sessions):
                transport, peer = memory_transport()
                nursery.start_soon(server.handle_connection, transport)
                shown = tokens.issue(f"user-{number}", f"phone-{number}", "access", time.time(), 900)
                handshake = {
                    "type": "handshake", "messageId": "1", "nodeId": f"node-{number}", "versionVector": {},
                    "schemaVersion": 1, "lastDeliverySequence": 0, "authToken": shown,
                }  # fmt: skip
                await peer.send(json.dumps(handshake))
                assert b'"accepted":true' in await peer.receive()
            await report(name, sessions, server, directory)
            await server.stop()


async def report(name: str, sessions: int, server: SyncServer, directory: Counted) -> None:
    walls, cpus, asked = [], [], directory.look_ups
    for _ in range(ROUNDS):
        before = [one.identity for one in server._reception.connections]
        contexts = [one.context for one in before if one]
        server._rechecks.soon()
        # From the moment that it begins: what a round costs, not how long it is waited for.
        while all(one.judged_at < trio.current_time() - 1 for one in before if one):
            await trio.sleep(0)
        wall, cpu = time.perf_counter(), time.process_time()
        while any(one and one.context is context for one, context in zip(before, contexts, strict=True)):
            await trio.sleep(0.001)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        await trio.sleep(1.2)
    print(
        f"{name:9} {sessions:6} sessions: {median(walls) * 1000:6.0f} ms, CPU {median(cpus) * 1000:6.0f} ms, "
        f"{(directory.look_ups - asked) / ROUNDS:.0f} look-ups of {rechecks.CHUNK}"
    )


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for kind in TABLES:
        trio.run(measure, kind, int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
