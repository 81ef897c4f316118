"""The power goes at random moments: what a SQLite file promises is kept, whatever of the unsynced has arrived.

A daemon writes to a recorded disk. From the recording files are made as they may be found after a power loss at some
moment, and opened as the daemon does. One of them is what the next recording begins with.

`KORA_POWER_CUTS` says how often the power goes, for each setting of `durability`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import apsw
import pytest
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.errors import StoreCorrupt
from kora_daemon.materialization.fold import fold
from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.record import Record, RecordQuery
from kora_daemon.server.sync_server import ServerOptions
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import Durability, SqliteStore, connections, unsynced
from tests.support.app import Device, Sent, device
from tests.support.judging import relation, with_relations
from tests.support.network import running_server
from tests.support.power import Disk, Synced, Told
from tests.support.records import Node, append, apply, bring_to, key_of, schema_of, states

CUTS = int(os.environ.get("KORA_POWER_CUTS", "30"))
RECORDINGS = 3
WRITERS = 3
BATCHES = 12
SEED = int(os.environ.get("KORA_POWER_SEED", "4567"))
SCHEMA = with_relations(
    schema_of(lists={"name": "string"}, todos={"title": "string", "n": "number", "list": "string", "tags": "array"}),
    relation("todoOfList", "todos.list", "lists", "cascade"),
)
BOOTS = count()
"""How often the machine was started."""
COLLECTIONS = ("lists", "todos")
Rows = Mapping[str, list[Record]]


class Expected:
    """What a log means: the rows of its first so many operations, made without SQLite."""

    def __init__(self, entries: list[LogEntry]) -> None:
        self.log = [entry.operation for entry in entries]
        self.sequences = [entry.sequence for entry in entries]
        self.ids = [one.id for one in self.log]
        self.sequence_of = dict(zip(self.ids, self.sequences, strict=True))
        self._rows: dict[int, Rows] = {}

    def rows(self, length: int) -> Rows:
        if length not in self._rows:
            store = MemoryStore()
            store.open()
            with store.transaction() as tx:
                append(tx, *self.log[:length])
            bring_to(store, SCHEMA)
            self._rows[length] = rows_of(store)
        return self._rows[length]


def rows_of(store: SqliteStore | MemoryStore) -> Rows:
    return {name: store.query_collection(name, RecordQuery(include_deleted=True)) for name in COLLECTIONS}


def some_write(one: Device, chance: random.Random) -> Sent:
    """Of few records, so that they have histories; a list that goes takes its todos along."""
    number = chance.randrange(12)
    kind = chance.choice(["insert", "update", "update", "update", "delete"])
    if chance.random() < 0.2:
        return one.write(kind, "lists", f"l{number % 3}", None if kind == "delete" else {"name": str(number)})
    if kind == "delete":
        return one.delete("todos", f"t{number}")
    more = {"atomicOps": {"n": {"type": "increment", "value": 1}}} if kind == "update" else {}
    data = {"title": "x" * chance.randrange(2_000), "n": number, "list": f"l{number % 3}", "tags": [number]}
    return one.write(kind, "todos", f"t{number}", data, **more)


async def write(url: str, name: str, disk: Disk, chance: random.Random) -> None:
    async with device(url, name) as one:
        for _ in range(BATCHES):
            batch = [some_write(one, chance) for _ in range(chance.randrange(1, 8))]
            refused = {refusal["operationId"] for refusal in await one.send(*batch)}
            disk.told(sent["id"] for sent in batch if sent["id"] not in refused)


async def record(folder: Path, disk: Disk, generation: int, durability: Durability, chance: random.Random) -> None:
    """Two daemons, one after the other, with writers and with checkpoints at any time."""
    with disk.recording():
        for life in (1, 2):
            store = SqliteStore(folder / "kora.db", durability=durability)
            async with running_server(store, options=ServerOptions(apply=ApplyRules(SCHEMA))) as host:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_checkpoint, store, chance)
                    async with trio.open_nursery() as writing:
                        for number in range(WRITERS):
                            name = f"writer-{generation}-{life}-{number}"
                            writing.start_soon(write, host.url, name, disk, random.Random(chance.random()))
                    nursery.cancel_scope.cancel()


async def _checkpoint(store: SqliteStore, chance: random.Random) -> None:
    while True:
        await trio.sleep(chance.uniform(0, 0.05))
        await trio.to_thread.run_sync(store.checkpoint)


def moments(disk: Disk, chance: random.Random) -> list[int]:
    """Any, and as many shortly before or after somebody was told something or something was synced."""
    special = [number for number, event in enumerate(disk.events) if isinstance(event, Synced | Told)]
    wanted = -(-CUTS // RECORDINGS)
    near = [chance.choice(special) + chance.randrange(-2, 3) for _ in range(wanted // 2)]
    anywhere = [chance.randrange(len(disk.events)) for _ in range(wanted - len(near))]
    return [min(max(0, one), len(disk.events)) for one in (*near, *anywhere)]


def lay_out(folder: Path, left: Mapping[str, bytes], chance: random.Random) -> None:
    """What there is when the machine has started again."""
    folder.mkdir()
    next(BOOTS)
    for name, content in left.items():
        (folder / name).write_bytes(content)
    if chance.random() < 0.5:
        # Shared memory is a file, too, and some of it may have reached the disk.
        (folder / "kora.db-shm").write_bytes(chance.randbytes(32_768))


def found_in(folder: Path, durability: Durability, expected: Expected, told: Sequence[str]) -> list[str]:
    """Open it as a daemon does; the ids of its log. Everything in there is sound, and it takes writes.

    `told` is what somebody has heard of before the power went.
    """
    store = SqliteStore(folder / "kora.db", durability=durability)
    store.open()
    try:
        bring_to(store, SCHEMA)
        entries = store.entries_after(0, 1_000_000)
        log = [entry.operation for entry in entries]
        assert [entry.sequence for entry in entries] == expected.sequences[: len(log)]
        assert [one.id for one in log] == expected.ids[: len(log)], "the log is not a beginning of what was written"
        assert store.version_vector() == {one.node_id: one.sequence_number for one in log}
        keys = {key_of(one) for one in log}
        assert states(store, keys) == {key: fold(one for one in log if key_of(one) == key) for key in keys}
        assert rows_of(store) == expected.rows(len(log)), "the rows are not what the log says"
        (entry,) = apply(store, Node("after-the-power-came-back").insert("t1", {"title": "new"}))
        heard_of = [expected.sequence_of[one] for one in told]
        assert entry.sequence > max(heard_of, default=0), "who has heard of what was lost would not hear of this"
        connection = apsw.Connection(str(folder / "kora.db"))
        assert connection.pragma("integrity_check") == "ok"
        connection.close()
    finally:
        store.close()
    return [one.id for one in log]


def kept(disk: Disk, moment: int, durability: Durability) -> list[str]:
    """What has to be there after the power went at this moment."""
    if durability == "full":
        return disk.told_before(moment)
    # "normal" keeps what was written when the write-ahead log was synced last.
    return disk.told_before(disk.certain_before(moment, "kora.db-wal"))


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts when a test says so, and its write-ahead log begins anew all the time."""
    monkeypatch.setattr(unsynced, "boot_id", lambda: repr(BOOTS))
    monkeypatch.setattr(connections, "WAL_LONG_PAGES", 20)


async def recorded(
    folder: Path, generation: int, durability: Durability, chance: random.Random
) -> tuple[Disk, Expected]:
    """A recording from what is in a folder on, and what became of it."""
    disk = Disk(folder)
    await record(folder, disk, generation, durability, chance)
    for name, content in disk.at_the_end().items():
        assert (folder / name).read_bytes() == content, "something was not recorded"
    store = SqliteStore(folder / "kora.db", durability=durability)
    store.open()
    expected = Expected(store.entries_after(0, 1_000_000))
    store.close()
    return disk, expected


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_a_power_loss_costs_nothing_that_was_promised(tmp_path: Path, durability: Durability) -> None:
    chance = random.Random(SEED)
    (tmp_path / "recorded-0").mkdir()
    before: list[str] = []
    lost = 0
    for generation in range(RECORDINGS):
        folder = tmp_path / f"recorded-{generation}"
        disk, expected = await recorded(folder, generation, durability, chance)
        for number, moment in enumerate(moments(disk, chance)):
            image = tmp_path / f"image-{generation}-{number}"
            left = disk.left_at(moment, chance)
            lay_out(image, left, chance)
            told = disk.told_before(moment)
            log = found_in(image, durability, expected, told)
            missing = {*before, *kept(disk, moment, durability)} - set(log)
            assert not missing, f"lost {len(missing)} at event {moment}, seed {SEED}: {image}"
            lost += len(set(told) - set(log))
        before = log
        lay_out(tmp_path / f"recorded-{generation + 1}", left, chance)
    if durability == "full":
        assert lost == 0
    print(f"{durability}: the power went {RECORDINGS * -(-CUTS // RECORDINGS)} times; {lost} acknowledged lost")


async def test_a_disk_that_only_says_that_it_syncs_is_found_out(tmp_path: Path) -> None:
    """The campaign would notice commits that don't wait for the disk."""
    chance = random.Random(SEED)
    disk, expected = await recorded(tmp_path, 0, "full", chance)
    disk.events = [one for one in disk.events if not (isinstance(one, Synced) and one.file.endswith("-wal"))]
    lost = 0
    for number in range(8):
        moment = chance.randrange(len(disk.events) // 2, len(disk.events))
        image = tmp_path / f"image-{number}"
        lay_out(image, disk.left_at(moment, chance), chance)
        try:
            told = disk.told_before(moment)
            lost += not set(told) <= set(found_in(image, "full", expected, told))
        except (AssertionError, StoreCorrupt):
            lost += 1
    assert lost


async def test_who_has_heard_of_what_was_lost_hears_of_all_that_comes_after(tmp_path: Path) -> None:
    def started() -> SqliteStore:
        next(BOOTS)
        return SqliteStore(tmp_path / "kora.db", durability="normal")

    async with running_server(started()) as host, device(host.url, "writer") as writer:
        await writer.takes(*(writer.insert("todos", f"kept-{number}") for number in range(5)))
    async with running_server(started()) as host, device(host.url, "listener") as listener:
        left = {name: (tmp_path / name).read_bytes() for name in ("kora.db", "kora.db-wal")}
        async with device(host.url, "writer-2") as writer:
            await writer.takes(*(writer.insert("todos", f"lost-{number}") for number in range(5)))
        await listener.hears(10)
    for name, content in left.items():
        (tmp_path / name).write_bytes(content)
    async with running_server(started()) as host:
        async with device(host.url, "listener-2", listener.watermark) as early, device(host.url, "writer-3") as writer:
            await writer.takes(*(writer.insert("todos", f"new-{number}") for number in range(8)))
            assert len(await early.hears(13)) == 13, "all that is left, and what is new"
        async with device(host.url, "listener-3", listener.watermark) as late:
            assert [one["recordId"] for one in await late.hears(8)] == [f"new-{number}" for number in range(8)]
        async with device(host.url, "listener-4", None) as old:
            assert len(await old.hears(13)) == 13
