"""Databases that somebody else has written: taken over as they are, or refused and left alone."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from kora_daemon.errors import StoreCorrupt, StoreError
from kora_daemon.store.sqlite import SqliteStore
from tests.support.log import append, operation

REFERENCE_TABLES = """
    CREATE TABLE operations (
        id TEXT PRIMARY KEY, node_id TEXT NOT NULL, type TEXT NOT NULL, collection TEXT NOT NULL,
        record_id TEXT NOT NULL, data TEXT, previous_data TEXT, wall_time INTEGER NOT NULL, logical INTEGER NOT NULL,
        timestamp_node_id TEXT NOT NULL, sequence_number INTEGER NOT NULL, causal_deps TEXT NOT NULL DEFAULT '[]',
        schema_version INTEGER NOT NULL, received_at INTEGER NOT NULL
    );
    CREATE INDEX idx_node_seq ON operations (node_id, sequence_number);
    CREATE TABLE sync_state (
        node_id TEXT PRIMARY KEY, max_sequence_number INTEGER NOT NULL, last_seen_at INTEGER NOT NULL
    );
    CREATE TABLE todos (id TEXT PRIMARY KEY NOT NULL, title TEXT);
"""
"""As its first versions made them: no atomic operations, no delivery sequence. And a collection."""

OLD_ROWS = [
    # id, node, sequence number, received at
    ("c", "node-a", 1, 300),
    ("a", "node-a", 2, 100),
    ("e", "node-b", 7, 200),
    ("d", "node-b", 6, 200),
    ("b2", "node-c", 6, 200),
]
IN_DELIVERY_ORDER = ["a", "b2", "d", "e", "c"]


def write(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def adopt(path: Path) -> None:
    store = SqliteStore(path)
    store.open()
    store.close()


def dump(path: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path))
    found: list[tuple[object, ...]] = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
    ).fetchall()
    for name in ("operations", "sync_state", "kora_meta"):
        if connection.table_exists(None, name):
            found += connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()
    connection.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of the reference."""
    made = tmp_path / "reference.db"
    connection = apsw.Connection(str(made))
    connection.execute(REFERENCE_TABLES)
    connection.executemany(
        """INSERT INTO operations VALUES
        (?, ?, 'insert', 'todos', 'r', '{"title":"\\ud800"}', NULL, 5, 0, 'n', ?, '["x"]', 1, ?)""",
        OLD_ROWS,
    )
    connection.execute("INSERT INTO sync_state VALUES ('node-a', 2, 300), ('node-b', 7, 200), ('node-c', 0, 200)")
    connection.close()
    return made


def test_a_database_of_the_reference_opens_as_it_is(path: Path) -> None:
    store = SqliteStore(path)
    store.open()
    entries = store.entries_after(0, 10)
    assert [(entry.sequence, entry.operation.id) for entry in entries] == list(enumerate(IN_DELIVERY_ORDER, start=1))
    assert bytes(entries[0].operation.data) == rb'{"title":"\ud800"}'
    assert entries[0].operation.causal_deps == ["x"]
    assert store.version_vector() == {"node-a": 2, "node-b": 7}
    assert append(store, operation(3)) == [6]
    assert store.version_vector() == {"node-a": 3, "node-b": 7}
    store.close()


def test_rows_without_a_delivery_sequence_follow_those_that_have_one(path: Path) -> None:
    write(
        path,
        "ALTER TABLE operations ADD COLUMN delivery_seq INTEGER",
        "UPDATE operations SET delivery_seq = 9 WHERE id = 'e'",
        "UPDATE operations SET delivery_seq = 4 WHERE id = 'c'",
    )
    store = SqliteStore(path)
    store.open()
    found = [(entry.sequence, entry.operation.id) for entry in store.entries_after(0, 10)]
    assert found == [(4, "c"), (9, "e"), (10, "a"), (11, "b2"), (12, "d")]
    assert store.frontier() == 12
    assert append(store, operation(3)) == [13]
    store.close()


def test_a_missing_index_is_made(path: Path) -> None:
    adopt(path)
    write(path, "DROP INDEX idx_delivery_seq", "DROP INDEX idx_collection_record")
    adopt(path)
    names = {row[1] for row in dump(path) if row[0] == "index"}
    assert {"idx_node_seq", "idx_delivery_seq", "idx_collection_record", "idx_collection", "idx_received"} <= names


def test_adopting_a_second_time_changes_nothing(path: Path) -> None:
    adopt(path)
    adopted = dump(path)
    adopt(path)
    assert dump(path) == adopted


@pytest.mark.parametrize(
    ("statement", "kind", "sentence"),
    [
        ("ALTER TABLE operations DROP COLUMN wall_time", StoreCorrupt, "operations has no column wall_time"),
        ("ALTER TABLE sync_state DROP COLUMN last_seen_at", StoreCorrupt, "sync_state has no column last_seen_at"),
        (
            "CREATE TABLE kora_meta (key TEXT PRIMARY KEY, value TEXT); INSERT INTO kora_meta VALUES ('format', '2')",
            StoreError,
            "newer version",
        ),
    ],
)
def test_a_database_that_is_refused_is_left_as_it_was(
    path: Path, statement: str, kind: type[StoreError], sentence: str
) -> None:
    write(path, statement)
    before = path.read_bytes()
    with pytest.raises(kind, match=sentence) as refusal:
        SqliteStore(path).open()
    assert str(path) in str(refusal.value)
    assert path.read_bytes() == before
