"""Long jobs killed at random moments, or run beside a daemon: in the end everything is as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
import trio

from kora_daemon.materialization.columns import Dialect, record_of, record_row
from kora_daemon.materialization.fold import RecordState, fold
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey, RecordQuery
from kora_daemon.schema_file import load_schema
from tests.support.app import Device, Sent, device
from tests.support.cli import Kora, schema_text
from tests.support.process import Daemon
from tests.support.records import Node, apply

ROUNDS = int(os.environ.get("KORA_KILL_ROUNDS", "5"))
RECORDS = 400
OPERATIONS = 2_000
ACKNOWLEDGED_WITHIN_S = 5.0
"""Far more than it takes, and far less than the 30 s after which a client gives up."""

TODO = {"title": "string", "n": "number", "done": "boolean", "tags": {"kind": "array", "itemKind": "string"}}
FIRST = schema_text(1, todos=TODO, lists={"name": "string"})
NOTE = {"title": "string", "n": "number"}
SECOND = schema_text(2, todos={**TODO, "later": "string"}, lists={"name": "string"}, notes=NOTE)


def history(chance: random.Random, operations: int) -> list[Operation]:
    """Operations of three devices on `RECORDS` records, as they arrive: some of them late."""
    nodes = [Node(name) for name in ("phone", "laptop", "tablet")]
    made = []
    for number in range(operations):
        node, which = chance.choice(nodes), chance.randrange(RECORDS)
        collection = ("todos", "todos", "lists", "notes")[which % 4]
        at = 1_000 * number - chance.choice((0, 0, 0, 500_000, 2_000_000))
        made.append(change(chance, node, collection, f"r{which:03}", max(at, 1)))
    return made


def change(chance: random.Random, node: Node, collection: str, record_id: str, at: int) -> Operation:
    text = f"{node.name} {node.count}"
    what = chance.random()
    if what < 0.1:
        return node.delete(record_id, collection=collection, at=at)
    if what < 0.3:
        data = {"title": text, "n": chance.randrange(9), "name": text, "later": chance.choice((None, text))}
        return node.insert(record_id, data, collection=collection, at=at)
    if what < 0.5:
        atomic = {"n": {"type": "increment", "value": 1}}
        return node.update(record_id, {"n": 1}, collection=collection, at=at, atomic=atomic)
    if what < 0.6:
        return node.update(record_id, {"later": text, "tags": [text]}, collection=collection, at=at)
    return node.update(record_id, {"title": text, "name": text, "done": what < 0.8}, collection=collection, at=at)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Kora:
    """A database of the first schema. Not to be changed."""
    return made(tmp_path_factory.mktemp("filled"), 4567, OPERATIONS)


def made(folder: Path, seed: int, operations: int) -> Kora:
    kora = Kora(folder, FIRST)
    assert kora("migrate").code == 0
    arrived = history(random.Random(seed), operations)
    with kora.store() as store:
        for first in range(0, len(arrived), 1_000):
            apply(store, *arrived[first : first + 1_000])
    return kora


def copy_of(kora: Kora, folder: Path, schema: str = FIRST) -> Kora:
    folder.mkdir()
    shutil.copy(kora.database, folder / "kora.db")
    return Kora(folder, schema)


def assert_folded(kora: Kora) -> None:
    """States and rows of all collections are those of the log."""
    schema = load_schema(kora.folder / "schema.json")
    with kora.store() as store:
        store.use_schema(schema)
        operations: dict[RecordKey, list[Operation]] = {}
        for entry in store.entries_after(0, 1_000_000):
            key = RecordKey(entry.operation.collection, entry.operation.record_id)
            operations.setdefault(key, []).append(entry.operation)
        folded: dict[RecordKey, RecordState] = {
            key: fold(ones) for key, ones in operations.items() if key.collection in schema.collections
        }
        with store.transaction() as tx:
            assert (tx.stale_records(), tx.refills()) == ([], {})
            assert tx.states(folded) == folded
        for name, collection in schema.collections.items():
            kinds = collection.kinds
            assert store.query_collection(name, RecordQuery(include_deleted=True)) == [
                record_of(kinds, record_row(kinds, key.record_id, state, Dialect.SQLITE))
                for key, state in sorted(folded.items())
                if key.collection == name
            ]
            assert store.count_collection(name) == sum(
                state.live for key, state in folded.items() if key.collection == name
            )


# -- killed -----------------------------------------------------------------------------------------------------------


class Killer:
    """Kills commands at random: some steps into their work, or after some time."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.hits = 0
        """Kills that left rows to be made."""

    def rounds(self) -> Iterator[int]:
        """`ROUNDS`, and some more as long as no kill has come in the middle of the work."""
        for number in range(10 * ROUNDS):
            if number < ROUNDS or not self.hits:
                yield number

    def kill(self, kora: Kora, *command: str) -> None:
        """Begin a command and kill it, unless it ends before."""
        with kora.begun(*command) as process, position_of(kora) as position:
            if self._chance.random() < 0.3:
                # Most of the first second goes into the start.
                time.sleep(self._chance.uniform(0.4, 1.6))
            else:
                self._wait_for_steps(process, position)
            process.kill()
            process.wait()
        self.hits += is_unfinished(kora)

    def _wait_for_steps(self, process: subprocess.Popen[str], position: Callable[[], object]) -> None:
        before, steps = position(), self._chance.randrange(1, 9)
        while process.poll() is None and steps:
            time.sleep(0.0005)
            now = position()
            steps -= now != before
            before = now
        time.sleep(self._chance.uniform(0, 0.015))


@contextmanager
def position_of(kora: Kora) -> Iterator[Callable[[], object]]:
    """How far a job is, as often as one asks."""
    connection = apsw.Connection(str(kora.database), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(1_000)
    yield lambda: list(connection.execute("SELECT name, refill FROM kora_collections ORDER BY name"))
    connection.close()


def is_unfinished(kora: Kora) -> bool:
    """Whether rows are still to be made."""
    return bool(kora.sql("SELECT 1 FROM kora_collections WHERE refill IS NOT NULL"))


def finish(kora: Kora, *command: str) -> None:
    ended = kora(*command)
    assert ended.code == 0, ended.err
    assert not is_unfinished(kora)


def assert_equal(kora: Kora, undisturbed: Kora) -> None:
    """Log, states, rows and stamps of both are the same, and those that they should be."""
    assert kora.tables() == undisturbed.tables()
    found, expected = kora.contents(), undisturbed.contents()
    assert found.keys() == expected.keys()
    for table, rows in expected.items():
        assert found[table] == rows, table
    assert_folded(kora)


@pytest.mark.slow
def test_a_migration_that_is_killed_ends_as_if_it_had_not_been(filled: Kora, tmp_path: Path) -> None:
    undisturbed = copy_of(filled, tmp_path / "undisturbed", SECOND)
    finish(undisturbed, "migrate")
    killer = Killer(seed=1)
    killed: list[Kora] = []
    for number in killer.rounds():
        if not killed or not is_unfinished(killed[-1]):
            killed.append(copy_of(filled, tmp_path / f"killed-{number}", SECOND))
        killer.kill(killed[-1], "migrate")
    for one in killed:
        finish(one, "migrate")
        assert_equal(one, undisturbed)
    assert killer.hits


@pytest.mark.slow
def test_a_backfill_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(filled: Kora, tmp_path: Path) -> None:
    undisturbed, killed = (copy_of(filled, tmp_path / name) for name in ("undisturbed", "killed"))
    for kora in (undisturbed, killed):
        kora.sql("UPDATE todos SET title = 'wrong', _deleted = 0, n = 5")
        kora.sql("DELETE FROM lists WHERE id < 'r200'")
        kora.sql("INSERT INTO lists (id, name) VALUES ('r', 'boo'), ('r1', 'boo'), ('z', 'boo')")
        kora.sql('UPDATE kora_records SET state = \'[1,[1,0,"x"],true,{"title":"wrong"},{}]\'')
        kora.sql("UPDATE operations SET record_stamp = NULL WHERE collection = 'lists'")
    finish(undisturbed, "backfill")
    killer = Killer(seed=2)
    for _ in killer.rounds():
        killer.kill(killed, "backfill")
    finish(killed, "backfill")
    assert_equal(killed, undisturbed)
    assert killer.hits


@pytest.mark.slow
def test_a_restore_that_is_killed_can_be_done_again(filled: Kora, tmp_path: Path) -> None:
    backup = tmp_path / "backup.kora"
    assert made(_folder(tmp_path / "source"), 89, OPERATIONS * 3 // 4)("backup", str(backup)).code == 0
    undisturbed, killed = (copy_of(filled, tmp_path / name) for name in ("undisturbed", "killed"))
    finish(undisturbed, "restore", str(backup))
    whole = {filled.sql("SELECT count(*) FROM operations")[0], undisturbed.sql("SELECT count(*) FROM operations")[0]}
    killer = Killer(seed=3)
    for _ in killer.rounds():
        killer.kill(killed, "restore", str(backup))
        assert killed.sql("SELECT count(*) FROM operations")[0] in whole
    finish(killed, "restore", str(backup))
    assert_equal(killed, undisturbed)
    assert killer.hits


@pytest.mark.slow
def test_a_daemon_finishes_what_a_killed_migration_has_left(filled: Kora, tmp_path: Path) -> None:
    undisturbed = copy_of(filled, tmp_path / "undisturbed", SECOND)
    finish(undisturbed, "migrate")
    killed = copy_of(filled, tmp_path / "killed", SECOND)
    killer = Killer(seed=4)
    killer.kill(killed, "migrate")
    with Daemon(killed.folder, killed.config.read_text()) as daemon:
        assert daemon.stop() == 0
    assert not is_unfinished(killed)
    assert_equal(killed, undisturbed)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


# -- beside a daemon --------------------------------------------------------------------------------------------------


class Writer:
    """A device that uploads without pause, and notes how long each acknowledgment takes."""

    def __init__(self, one: Device, seed: int) -> None:
        self._device = one
        self._chance = random.Random(seed)
        self.slowest_s = 0.0
        self.batches = 0

    async def write(self) -> None:
        while True:
            batch = [self._operation() for _ in range(self._chance.randrange(1, 20))]
            begun = time.monotonic()
            with trio.CancelScope(shield=True):
                assert await self._device.send(*batch) == []
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
            self.batches += 1
            await trio.lowlevel.checkpoint()

    def _operation(self) -> Sent:
        which = self._chance.randrange(RECORDS + 50)
        collection, record_id = ("todos", "todos", "lists", "notes")[which % 4], f"r{which:03}"
        text = f"{self._device.node_id} {self._device.count}"
        what = self._chance.random()
        if what < 0.2:
            return self._device.delete(collection, record_id)
        if what < 0.4:
            atomic = {"n": {"type": "increment", "value": 1}}
            return self._device.write("update", collection, record_id, {"n": 1}, atomicOps=atomic)
        if what < 0.6:
            return self._device.insert(collection, record_id, title=text, n=5, name=text)
        return self._device.update(collection, record_id, title=text, name=text)


@pytest.mark.slow
async def test_a_backfill_beside_a_daemon_disturbs_no_upload_and_ends_right(filled: Kora, tmp_path: Path) -> None:
    kora = copy_of(filled, tmp_path / "kora")
    kora.sql("UPDATE todos SET title = 'wrong'")
    kora.sql('UPDATE kora_records SET state = \'[1,[1,0,"x"],true,{"title":"wrong"},{}]\' WHERE record_id > \'r100\'')
    with Daemon(kora.folder, kora.config.read_text()) as daemon:
        async with device(daemon.url, "watch-a") as a, device(daemon.url, "watch-b") as b:
            writers = [Writer(one, seed) for seed, one in enumerate((a, b))]
            async with trio.open_nursery() as nursery:
                for one in writers:
                    nursery.start_soon(one.write)
                for _ in range(2):
                    ended = await trio.to_thread.run_sync(lambda: kora.child("backfill"))
                    assert (ended.code, ended.out) == (0, "All rows are those of the log.\n"), ended.err
                nursery.cancel_scope.cancel()
            for one in writers:
                assert one.batches
                assert one.slowest_s < ACKNOWLEDGED_WITHIN_S
        assert daemon.stop() == 0
    assert_folded(kora)


@pytest.mark.slow
async def test_a_backfill_killed_beside_a_daemon_and_done_again_ends_right(filled: Kora, tmp_path: Path) -> None:
    kora = copy_of(filled, tmp_path / "kora")
    kora.sql("UPDATE todos SET title = 'wrong'")
    killer = Killer(seed=5)
    with Daemon(kora.folder, kora.config.read_text()) as daemon:
        async with device(daemon.url, "writer") as one:
            writer = Writer(one, 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.write)
                for _ in range(max(1, ROUNDS // 2)):
                    await trio.to_thread.run_sync(lambda: killer.kill(kora, "backfill"))
                ended = await trio.to_thread.run_sync(lambda: kora.child("backfill"))
                assert ended.code == 0, ended.err
                nursery.cancel_scope.cancel()
            assert writer.slowest_s < ACKNOWLEDGED_WITHIN_S
        assert daemon.stop() == 0
    assert_folded(kora)
