"""PostgreSQL databases that somebody else has written: taken over as they are, or refused and left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from kora_daemon.errors import StoreCorrupt, StoreError
from kora_daemon.store.postgres import PostgresStore, adoption
from tests.support.log import RECEIVED_AT_MS, append, operation
from tests.support.postgres import server
from tests.support.records import schema_of

REFERENCE_TABLES = """
    CREATE TABLE operations (
        id TEXT PRIMARY KEY, node_id TEXT NOT NULL, type TEXT NOT NULL, collection TEXT NOT NULL,
        record_id TEXT NOT NULL, data TEXT, previous_data TEXT, wall_time BIGINT NOT NULL, logical INTEGER NOT NULL,
        timestamp_node_id TEXT NOT NULL, sequence_number INTEGER NOT NULL, causal_deps TEXT NOT NULL DEFAULT '[]',
        schema_version INTEGER NOT NULL, received_at BIGINT NOT NULL
    );
    CREATE INDEX idx_node_seq ON operations (node_id, sequence_number);
    CREATE TABLE sync_state (
        node_id TEXT PRIMARY KEY, max_sequence_number INTEGER NOT NULL, last_seen_at BIGINT NOT NULL
    );
    INSERT INTO sync_state VALUES ('node-a', 2, 300), ('node-b', 7, 200), ('node-c', 0, 200);
"""
"""As its first versions made them: no atomic operations, no delivery sequence."""
WITH_SEQUENCES = """
    ALTER TABLE operations ADD COLUMN delivery_seq BIGINT;
    CREATE TABLE delivery_counter (id INTEGER PRIMARY KEY, value BIGINT NOT NULL);
"""

OLD_ROWS = [
    # id, node, sequence number, received at
    ("c", "node-a", 1, 300),
    ("a", "node-a", 2, 100),
    ("e", "node-b", 7, 200),
    ("d", "node-b", 6, 200),
    ("B2", "node-c", 6, 200),
]
IN_DELIVERY_ORDER = ["a", "B2", "d", "e", "c"]

Connection = psycopg.Connection[Any]


@pytest.fixture
def url() -> str:
    return server().schema()


@pytest.fixture
def database(url: str) -> Iterator[Connection]:
    """A connection to a database of the reference."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(REFERENCE_TABLES)
        connection.cursor().executemany(
            """INSERT INTO operations VALUES
            (%s, %s, 'insert', 'todos', 'r', '{"title":"\\ud800"}', NULL, 5, 0, 'n', %s, '["x"]', 1, %s)""",
            OLD_ROWS,
        )
        yield connection


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], PostgresStore]]:
    stores: list[PostgresStore] = []

    def open_one() -> PostgresStore:
        stores.append(PostgresStore(url))
        stores[-1].open()
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def dump(connection: Connection) -> list[tuple[Any, ...]]:
    """All that there is: columns, indexes, rows."""
    here = "current_schema()::regnamespace"
    tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema")]
    found = connection.execute(
        f"""SELECT relname::text, attname::text, format_type(atttypid, 0), attcollation FROM pg_class
        JOIN pg_attribute ON attrelid = pg_class.oid WHERE relnamespace = {here} AND attnum > 0 ORDER BY 1, 2"""
    ).fetchall()
    for table in sorted(tables):
        found += connection.execute(f"SELECT * FROM {table} ORDER BY 1".encode()).fetchall()
    return found


def types(connection: Connection) -> dict[str, str]:
    return dict(
        connection.execute(
            """SELECT attname::text, format_type(atttypid, 0) FROM pg_attribute
            WHERE attrelid = 'operations'::regclass AND attnum > 0"""
        ).fetchall()
    )


def counter(connection: Connection) -> int:
    return int(connection.execute("SELECT value FROM delivery_counter").fetchall()[0][0])


def test_a_database_of_the_reference_opens_as_it_is(database: Connection, opened: Callable[[], PostgresStore]) -> None:
    store = opened()
    entries = store.entries_after(0, 10)
    assert [(entry.sequence, entry.operation.id) for entry in entries] == list(enumerate(IN_DELIVERY_ORDER, start=1))
    assert bytes(entries[0].operation.data) == rb'{"title":"\ud800"}'
    assert entries[0].operation.causal_deps == ["x"]
    assert store.version_vector() == {"node-a": 2, "node-b": 7}
    assert counter(database) == 5
    assert append(store, operation(3)) == [6]
    assert store.version_vector() == {"node-a": 3, "node-b": 7}
    assert counter(database) == 6


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, [4, 9, 10, 11, 12]), (9, [4, 9, 10, 11, 12]), (3, [4, 9, 10, 11, 12]), (20, [4, 9, 21, 22, 23])],
    ids=["no counter", "a counter", "a counter that was left behind", "a counter that is ahead"],
)
def test_rows_without_a_delivery_sequence_follow_all_that_was_given(
    database: Connection, opened: Callable[[], PostgresStore], value: int | None, expected: list[int]
) -> None:
    database.execute(WITH_SEQUENCES)
    if value is not None:
        database.execute("INSERT INTO delivery_counter VALUES (1, %s)", [value])
    database.execute("UPDATE operations SET delivery_seq = CASE id WHEN 'e' THEN 9 WHEN 'c' THEN 4 END")
    store = opened()
    found = [(entry.sequence, entry.operation.id) for entry in store.entries_after(0, 10)]
    assert found == list(zip(expected, ["c", "e", "a", "B2", "d"], strict=True))
    assert append(store, operation(3)) == [expected[-1] + 1]
    assert counter(database) == expected[-1] + 1


def test_the_reference_goes_on_beside_us(database: Connection, opened: Callable[[], PostgresStore]) -> None:
    """Its append, as it writes it: the counter first, in one transaction with the row."""
    store = opened()

    def append_as_the_reference(name: str) -> None:
        with database.transaction():
            sequence = database.execute(
                """INSERT INTO delivery_counter (id, value) VALUES (1, 1)
                ON CONFLICT (id) DO UPDATE SET value = delivery_counter.value + 1 RETURNING value"""
            ).fetchall()[0][0]
            database.execute(
                """INSERT INTO operations (id, node_id, type, collection, record_id, data, wall_time, logical,
                timestamp_node_id, sequence_number, causal_deps, schema_version, received_at, delivery_seq)
                VALUES (%s, 'node-r', 'insert', 'todos', 'r', '{}', 5, 0, 'n', 1, '[]', 1, 5, %s)""",
                [name, sequence],
            )

    append_as_the_reference("theirs")
    assert append(store, operation(3), operation(4)) == [7, 8]
    append_as_the_reference("theirs too")
    assert append(store, operation(5)) == [10]
    assert [entry.operation.id for entry in store.entries_after(5, 10)] == [
        "theirs",
        "node-a:3",
        "node-a:4",
        "theirs too",
        "node-a:5",
    ]


def test_numbers_of_a_small_log_get_64_bits(database: Connection, opened: Callable[[], PostgresStore]) -> None:
    store = opened()
    assert types(database)["sequence_number"] == types(database)["schema_version"] == "bigint"
    sent = operation(2**53 - 1, schema_version=2**53 - 1)
    append(store, sent)
    assert store.version_vector(["node-a"]) == {"node-a": 2**53 - 1}
    assert store.entries_after(5, 1)[0].operation.schema_version == 2**53 - 1


def test_a_large_log_is_not_rewritten(
    database: Connection, opened: Callable[[], PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "WIDENED_BYTES", 0)
    store = opened()
    assert types(database)["sequence_number"] == "integer"
    assert append(store, operation(2**31 - 1)) == [6]
    with pytest.raises(StoreError):
        append(store, operation(2**31))
    assert append(store, operation(3)) == [7]


def test_missing_indexes_are_made_even_if_their_names_are_taken(
    database: Connection, opened: Callable[[], PostgresStore]
) -> None:
    """The reference calls the index of field `seq` of the collection `node` as it calls one of the log's."""
    database.execute(
        "DROP INDEX idx_node_seq; CREATE TABLE node (seq INTEGER); CREATE INDEX idx_node_seq ON node (seq)"
    )
    opened()
    found = database.execute(
        "SELECT indexname FROM pg_indexes WHERE tablename = 'operations' AND schemaname = current_schema"
    )
    assert {name for (name,) in found} == {
        "operations_pkey",
        "kora_idx_node_seq",
        "idx_collection",
        "idx_received",
        "idx_delivery_seq",
        "idx_collection_record",
        "kora_record_order",
        "kora_collection_order",
    }


def test_adopting_a_second_time_changes_nothing_and_waits_for_nobody(
    database: Connection, opened: Callable[[], PostgresStore]
) -> None:
    opened().close()
    adopted = dump(database)
    with database.transaction():
        database.execute("LOCK TABLE operations, sync_state, kora_meta IN ROW EXCLUSIVE MODE")
        database.execute("SELECT * FROM delivery_counter FOR UPDATE")
        opened().close()
    assert dump(database) == adopted


def test_servers_that_start_at_once_make_the_tables_once(url: str) -> None:
    stores = [PostgresStore(url) for _ in range(6)]
    with ThreadPoolExecutor(len(stores)) as threads:
        list(threads.map(PostgresStore.open, stores))
    assert len({store.node_id for store in stores}) == 1
    assert [append(store, operation(n)) for n, store in enumerate(stores, start=1)] == [[n] for n in range(1, 7)]
    for store in stores:
        store.close()


def test_a_schema_of_any_name_is_as_good_as_a_database() -> None:
    with server().connect() as connection:
        connection.execute('CREATE SCHEMA "Some""Schema"')
    store = PostgresStore(server().url(options='-csearch_path="Some""Schema"'))
    for _ in range(2):
        store.open()
        append(store, operation(store.frontier() + 1))
        store.close()
    store.open()
    assert store.frontier() == 2
    store.upgrade(schema_of(1, todos={"title": "string"}))
    assert list(store.plan_upgrade(schema_of(1, todos={"title": "string"})).steps) == []
    store.close()


def test_a_new_database_gets_the_id_that_was_given_for_good(url: str) -> None:
    for given in ("chosen", "another"):
        store = PostgresStore(url, node_id=given)
        store.open()
        assert store.node_id == "chosen"
        store.close()


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
    database: Connection, url: str, statement: str, kind: type[StoreError], sentence: str
) -> None:
    database.execute(statement.encode())
    before = dump(database)
    with pytest.raises(kind, match=sentence) as refusal:
        PostgresStore(url).open()
    assert "PostgreSQL at" in str(refusal.value)
    assert dump(database) == before


def test_a_database_that_can_not_hold_all_texts_is_refused() -> None:
    name = server().database("ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    with pytest.raises(StoreError, match="encoding LATIN1"):
        PostgresStore(server().url(name)).open()


def test_an_order_that_is_not_by_code_point_is_never_relied_on(
    database: Connection, opened: Callable[[], PostgresStore]
) -> None:
    """The reference's columns have the order of the database, whatever that is."""
    store = opened()
    ids = ["10", "9", "A", "Z", "a", "z", "Ä", "ä", "\uff5e", "😀"]
    append(
        store,
        *(operation(10 + number, record_id=one) for number, one in enumerate(reversed(ids))),
        *(operation(30 + n, record_id="r", timestamp=operation(0, node).timestamp) for n, node in enumerate("bCa")),
    )
    with store.transaction() as tx:
        assert [one for one in tx.record_ids("todos", None, 99, "log") if one != "r"] == ids
        assert tx.record_ids("todos", "Z", 2, "log") == ["a", "r"]
    found = database.execute(
        "SELECT attcollation::int FROM pg_attribute WHERE attrelid = 'operations'::regclass AND attname = 'record_id'"
    )
    assert found.fetchall() == [(100,)]  # the database's own
    asked = """EXPLAIN SELECT record_id COLLATE "C" FROM operations WHERE collection = 'todos'
        AND record_id COLLATE "C" > 'a' ORDER BY record_id COLLATE "C" LIMIT 9"""
    database.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")
    assert "kora_record_order" in "".join(row[0] for row in database.execute(asked))


def test_received_at_is_kept(database: Connection, opened: Callable[[], PostgresStore]) -> None:
    append(opened(), operation(3))
    assert database.execute("SELECT received_at FROM operations WHERE id = 'node-a:3'").fetchall() == [
        (RECEIVED_AT_MS,)
    ]
