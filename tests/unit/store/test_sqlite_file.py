"""The file of the SQLite store: as the reference's, nobody else's to read, and tidy behind the commits."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec import Raw

from kora_daemon.errors import StoreCorrupt, StoreUnavailable
from kora_daemon.store.queries import (
    AUTHORS_AFTER,
    DELIVERIES_AFTER,
    DELIVERIES_AT,
    ENTRIES_OF,
    FRONTIER,
    HISTORY,
    KEYS_ABOVE,
    KNOWN_IDS,
    POSITION,
    RECORD_IDS,
    REPLAY,
    SEQUENCE_NUMBER,
    STALE_RECORDS,
    STATES,
    VECTOR_OF,
)
from kora_daemon.store.sqlite import Durability, SqliteStore, connections, functions
from tests.support.log import RECEIVED_AT_MS, append, log_ids, operation, operations

PAGE_BYTES = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kora.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path)
    made.open()
    yield made
    made.close()


def ask(path: Path, statement: str, *bindings: str | int, ours: bool = False) -> list[Any]:
    """The rows as another program reads them, or (`ours`) one that knows the store's own functions."""
    connection = apsw.Connection(str(path))
    if ours:
        functions.register(connection)
    try:
        return connection.execute(statement, bindings).fetchall()
    finally:
        connection.close()


def wal_bytes(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


REFERENCE_COLUMNS = [
    ("id", "TEXT", 0, None, 1),
    ("node_id", "TEXT", 1, None, 0),
    ("type", "TEXT", 1, None, 0),
    ("collection", "TEXT", 1, None, 0),
    ("record_id", "TEXT", 1, None, 0),
    ("data", "TEXT", 0, None, 0),
    ("previous_data", "TEXT", 0, None, 0),
    ("atomic_ops", "TEXT", 0, None, 0),
    ("wall_time", "INTEGER", 1, None, 0),
    ("logical", "INTEGER", 1, None, 0),
    ("timestamp_node_id", "TEXT", 1, None, 0),
    ("sequence_number", "INTEGER", 1, None, 0),
    ("causal_deps", "TEXT", 1, "'[]'", 0),
    ("schema_version", "INTEGER", 1, None, 0),
    ("received_at", "INTEGER", 1, None, 0),
    ("delivery_seq", "INTEGER", 0, None, 0),
]
OUR_COLUMNS = [
    ("transaction_id", "TEXT", 0, None, 0),
    ("mutation_name", "TEXT", 0, None, 0),
    ("record_stamp", "TEXT", 0, None, 0),
]
REFERENCE_INDEXES = {
    "idx_node_seq": "node_id,sequence_number",
    "idx_collection": "collection",
    "idx_received": "received_at",
    "idx_delivery_seq": "delivery_seq",
    "idx_collection_record": "collection,record_id",
}


def test_the_log_tables_are_those_of_the_reference_with_nullable_columns_of_ours(
    store: SqliteStore, path: Path
) -> None:
    described = 'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)'
    assert ask(path, described, "operations") == REFERENCE_COLUMNS + OUR_COLUMNS
    assert ask(path, described, "sync_state") == [
        ("node_id", "TEXT", 0, None, 1),
        ("max_sequence_number", "INTEGER", 1, None, 0),
        ("last_seen_at", "INTEGER", 1, None, 0),
    ]
    indexes = ask(
        path,
        """SELECT i.name, (SELECT group_concat(c.name) FROM pragma_index_info(i.name) AS c)
        FROM pragma_index_list('operations') AS i WHERE i.origin = 'c'""",
    )
    assert dict(indexes) == REFERENCE_INDEXES | {"kora_collection_order": "collection,delivery_seq"}


def test_the_columns_hold_the_exact_json_text(store: SqliteStore, path: Path) -> None:
    data = rb'{ "t":"\ud800", "n":12345678901234567890.10 }'
    append(store, operation(1, data=Raw(data), atomic_ops=Raw(b'{"n":{"type":"max","value":1}}')))
    with store.transaction() as tx:
        second = operation(2, "node-b", causal_deps=["node-a:1"], transaction_id="tx")
        tx.append([second], RECEIVED_AT_MS, [r'{"t":"\ud800"}'])
    rows = ask(
        path,
        """SELECT typeof(data), data, previous_data, atomic_ops, causal_deps, transaction_id, record_stamp
        FROM operations""",
    )
    assert rows == [
        ("text", data.decode(), None, '{"n":{"type":"max","value":1}}', "[]", None, None),
        ("text", '{"title":"2"}', None, None, '["node-a:1"]', "tx", r'{"t":"\ud800"}'),
    ]
    assert ask(path, "SELECT * FROM sync_state") == [("node-a", 1, RECEIVED_AT_MS), ("node-b", 2, RECEIVED_AT_MS)]


def test_a_new_database_is_readable_for_its_owner_only(store: SqliteStore, path: Path) -> None:
    append(store, operation(1))
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert found == {"kora.db": 0o600, "kora.db-wal": 0o600, "kora.db-shm": 0o600}


def test_the_permissions_of_a_file_that_exists_are_left_alone(path: Path) -> None:
    path.touch(mode=0o640)
    path.chmod(0o640)
    store = SqliteStore(path)
    store.open()
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
def test_durability_decides_whether_a_commit_waits_for_the_disk(path: Path, durability: Durability, level: int) -> None:
    store = SqliteStore(path, durability=durability)
    store.open()
    writer = store._connections.writer
    assert writer is not None
    assert (writer.pragma("journal_mode"), writer.pragma("synchronous")) == ("wal", level)
    store.close()


def test_a_probe_writes_to_the_disk(store: SqliteStore, path: Path) -> None:
    written = []
    for _ in range(3):
        store.probe()
        written.append(wal_bytes(path))
    assert written == sorted(set(written))


def test_a_disk_without_room_for_more_than_a_probe_is_full(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LEAST_FREE_BYTES", 1 << 60)
    with pytest.raises(StoreUnavailable, match=r"kora\.db: the disk is full; make room"):
        store.probe()
    assert append(store, operation(1)) == [1]
    monkeypatch.setattr(connections, "LEAST_FREE_BYTES", 1)
    store.probe()


def test_everything_is_there_after_a_restart(store: SqliteStore, path: Path) -> None:
    append(store, *operations(range(1, 4)))
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["kora.db"]
    again = SqliteStore(path)
    again.open()
    assert again.node_id == store.node_id
    assert log_ids(again) == ["node-a:1", "node-a:2", "node-a:3"]
    assert append(again, operation(4)) == [4]
    again.close()


def test_two_daemons_on_one_file_share_one_sequence(store: SqliteStore, path: Path) -> None:
    other = SqliteStore(path)
    other.open()
    assert other.node_id == store.node_id
    assert [append(one, operation(n)) for n, one in enumerate((store, other, other, store), start=1)] == [
        [1],
        [2],
        [3],
        [4],
    ]
    assert log_ids(store) == log_ids(other) == [f"node-a:{n}" for n in range(1, 5)]
    other.close()


def test_a_path_is_always_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore(":memory:")
    store.open()
    append(store, operation(1))
    assert log_ids(store) == ["node-a:1"]
    store.close()
    assert (tmp_path / ":memory:").stat().st_size > 0


# -- the write-ahead log ----------------------------------------------------------------------------------------------


def test_a_checkpoint_lets_the_write_ahead_log_begin_anew(store: SqliteStore, path: Path) -> None:
    append(store, *operations(range(1, 500)))
    grown = wal_bytes(path)
    for first in range(1_000, 6_000, 500):
        store.checkpoint()
        append(store, *operations(range(first, first + 400)))
    assert wal_bytes(path) < 3 * grown


def test_checkpoints_suffice_although_a_write_is_always_under_way(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WAL_LONG_PAGES", 50)
    for number in range(1, 150):
        with store.transaction() as tx:
            store.checkpoint()
            tx.append([operation(number)], RECEIVED_AT_MS)
    assert wal_bytes(path) < 100 * PAGE_BYTES


def test_without_checkpoints_the_write_ahead_log_stays_within_its_limit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WAL_LIMIT_PAGES", 100)
    store = SqliteStore(path)
    store.open()
    for number in range(1, 500):
        append(store, operation(number))
    assert wal_bytes(path) < 150 * PAGE_BYTES
    store.close()


def test_a_page_that_was_cut_short_does_not_hold_back_checkpoints(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAL_LIMIT_PAGES", 100)
    store = SqliteStore(path)
    store.open()
    append(store, *operations(range(1, 50)))
    assert len(store.entries_after(0, 50, max_bytes=1)) == 1
    for number in range(50, 500):
        append(store, operation(number))
    assert wal_bytes(path) < 150 * PAGE_BYTES
    store.close()


def test_a_checkpoint_gives_way_to_that_of_another_connection(store: SqliteStore, path: Path) -> None:
    append(store, operation(1))
    reader, other = apsw.Connection(str(path)), apsw.Connection(str(path))
    reader.execute("BEGIN; SELECT * FROM operations").fetchall()
    other.execute("SELECT * FROM sqlite_schema").fetchall()
    append(store, operation(2))
    beside: list[int] = []

    def while_it_waits_for_the_reader(_: int) -> bool:
        store.checkpoint()
        beside.append(store.frontier())
        return False

    other.set_busy_handler(while_it_waits_for_the_reader)
    with pytest.raises(apsw.BusyError):
        other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    assert beside == [2]
    reader.close()
    other.close()


# -- one moment -------------------------------------------------------------------------------------------------------


def test_causal_keys_are_all_of_one_moment(store: SqliteStore) -> None:
    class Vector(dict[str, int]):
        """While it is asked, the log grows."""

        def get(self, node_id: str, default: Any = None) -> Any:
            append(store, operation(store.frontier() + 1))
            return default

    append(store, operation(1))
    assert [key.sequence for key in store.causal_keys_above(Vector())] == [1]
    assert store.frontier() > 1


# -- no walking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "bindings"),
    [
        (FRONTIER, 0),
        (KNOWN_IDS, 1),
        (VECTOR_OF, 1),
        (AUTHORS_AFTER, 1),
        (DELIVERIES_AFTER, 2),
        (DELIVERIES_AT, 1),
        (ENTRIES_OF, 3),
        (KEYS_ABOVE, 1),
        (POSITION, 0),
        (SEQUENCE_NUMBER, 1),
        (STALE_RECORDS, 2),
        (STATES, 1),
        (HISTORY, 2),
        (RECORD_IDS["log"].format(bounds="record_id > ?"), 3),
        (RECORD_IDS["states"].format(bounds="record_id > ?"), 3),
        (REPLAY, 1),
    ],
)
def test_no_question_walks_through_the_log(store: SqliteStore, path: Path, statement: str, bindings: int) -> None:
    plan = [row[3] for row in ask(path, f"EXPLAIN QUERY PLAN {statement}", *["[]"] * bindings, ours=True)]
    assert any(step.startswith("SEARCH") for step in plan)
    scans = [step for step in plan if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"]
    assert all("VIRTUAL TABLE" in step for step in scans)  # the question's own list


def test_damage_that_shows_while_rows_are_read_is_told_as_such(store: SqliteStore) -> None:
    with pytest.raises(StoreCorrupt, match="the database is damaged"), store.transaction():
        raise apsw.CorruptError("database disk image is malformed")
