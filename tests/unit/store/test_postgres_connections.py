"""A PostgreSQL database that goes away, hangs, refuses or comes back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import errors

from kora_daemon.errors import StoreCorrupt, StoreError, StoreUnavailable
from kora_daemon.store.postgres import Durability, PostgresStore, sessions
from kora_daemon.store.postgres.errors import ConnectionLost, NoAnswer, store_error
from tests.support.log import RECEIVED_AT_MS, append, log_ids, operation, operations
from tests.support.postgres import PostgresServer, server

Connection = psycopg.Connection[Any]


class Database:
    """A database with a store on it, and a connection to see to both."""

    def __init__(self, running: PostgresServer) -> None:
        self.server = running
        self.name = running.database()
        self.stores: list[PostgresStore] = []

    def store(self, **settings: Any) -> PostgresStore:
        self.stores.append(PostgresStore(self.server.url(self.name), **settings))
        self.stores[-1].open()
        return self.stores[-1]

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """From outside."""
        with self.server.connect(self.name) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def backends(self) -> list[int]:
        """The processes that serve the stores."""
        found = self.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'kora-daemon'")
        return [pid for (pid,) in found if pid is not None]

    def end_sessions(self) -> None:
        """End those of the stores."""
        self.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'kora-daemon'"
        )


@pytest.fixture
def database() -> Iterator[Database]:
    made = Database(server())
    yield made
    for store in made.stores:
        store.close()


READS: dict[str, Callable[[PostgresStore], object]] = {
    "frontier": lambda store: store.frontier(),
    "entries_after": lambda store: store.entries_after(0, 10, 1_000)[0].operation.id,
    "version_vector": lambda store: store.version_vector(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_who_reads_next_does_not_notice_that_an_idle_connection_was_lost(
    database: Database, read: Callable[[PostgresStore], object]
) -> None:
    store = database.store()
    append(store, operation(1))
    before = read(store)
    database.end_sessions()
    assert read(store) == before


def test_who_writes_next_does_not_notice_that_an_idle_connection_was_lost(database: Database) -> None:
    store = database.store()
    append(store, operation(1))
    database.end_sessions()
    assert append(store, operation(2)) == [2]
    database.end_sessions()
    store.probe()


def test_a_write_that_loses_its_connection_did_not_happen(database: Database) -> None:
    store = database.store()
    append(store, operation(1))

    def write() -> None:
        with store.transaction() as tx:
            tx.append([operation(2)], RECEIVED_AT_MS)
            database.end_sessions()

    with pytest.raises(StoreUnavailable, match=r"PostgreSQL at .*/kora_"):
        write()
    assert log_ids(store) == ["node-a:1"]
    assert append(store, operation(2)) == [2]


def test_a_connection_that_is_lost_between_two_questions_of_a_write(database: Database) -> None:
    store = database.store()

    def write() -> None:
        with store.transaction() as tx:
            assert tx.known_ids(["x"]) == set()
            database.end_sessions()
            tx.known_ids(["x"])

    with pytest.raises(StoreUnavailable):
        write()
    assert append(store, operation(1)) == [1]


def test_a_connection_that_is_lost_inside_the_commit(database: Database) -> None:
    """Whether it happened is not known; here it did not."""
    store = database.store()
    append(store, operation(1))
    database.execute(
        """CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON operations DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION die()"""
    )
    with pytest.raises(StoreUnavailable):
        append(store, operation(2))
    database.execute("DROP TRIGGER dies ON operations")
    assert append(store, operation(2)) == [2]


def test_a_snapshot_that_loses_its_connection(database: Database) -> None:
    store = database.store()
    append(store, operation(1))

    def read() -> None:
        with store.snapshot() as moment:
            database.end_sessions()
            list(moment.operations())

    with pytest.raises(StoreUnavailable):
        read()
    assert store.frontier() == 1


def test_a_server_that_is_gone_for_a_while() -> None:
    own = PostgresServer()
    database = Database(own)
    store = database.store()
    append(store, operation(1))
    for end in (own.stop, own.kill):
        end()
        for call in (store.probe, store.frontier, lambda: append(store, operation(2))):
            with pytest.raises(StoreUnavailable):
                call()
        own.start()
        assert store.frontier() == 1
    assert append(store, operation(2)) == [2]
    store.close()
    own.remove()


def test_a_lock_that_somebody_else_keeps_is_waited_for_so_long(database: Database) -> None:
    store = database.store(statement_timeout_s=0.3)
    with database.server.connect(database.name) as other, other.transaction():
        other.execute("SELECT * FROM delivery_counter FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            append(store, operation(1))
        assert store.frontier() == 0  # readers wait for nobody
    assert append(store, operation(1)) == [1]


@pytest.mark.parametrize("settled", [True, False])
def test_a_write_that_stands_still_does_not_hold_up_the_others_for_ever(database: Database, settled: bool) -> None:
    store, other = (database.store(idle_timeout_s=0.3, statement_timeout_s=0.4) for _ in range(2))

    def write() -> None:
        with store.transaction() as tx:
            if not settled:
                tx.append([operation(1)], RECEIVED_AT_MS)
            for _ in range(20):
                with suppress(StoreUnavailable):
                    assert append(other, operation(2)) == [1]
                    return

    with pytest.raises(StoreUnavailable):
        write()
    assert append(store, operation(1)) == [2]
    assert log_ids(store) == ["node-a:2", "node-a:1"]


def test_a_database_that_hangs_is_not_waited_for_for_ever(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SILENCE_S", 0.2)
    store = database.store(statement_timeout_s=0.2)
    append(store, operation(1))
    store.frontier()
    hanging = database.backends()
    for pid in hanging:
        os.kill(pid, signal.SIGSTOP)
    try:
        for call in (store.frontier, store.probe):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                call()
        assert append(store, operation(2)) == [2]  # on another connection
    finally:
        for pid in hanging:
            os.kill(pid, signal.SIGCONT)


def test_waiting_is_not_cut_short(database: Database) -> None:
    store = database.store()
    with database.server.connect(database.name) as other:
        other.execute("BEGIN; SELECT * FROM delivery_counter FOR UPDATE")
        thread = threading.Timer(0.5, lambda: other.execute("ROLLBACK"))
        thread.start()
        assert append(store, operation(1)) == [1]
        thread.join()


def test_no_connection_left(database: Database) -> None:
    store = database.store()
    append(store, operation(1))
    database.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT 0")
    database.execute("CREATE ROLE guest LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO guest")
    guest = PostgresStore(database.server.url(database.name, user="guest"))
    with pytest.raises(StoreUnavailable, match="too many connections"):
        guest.open()
    assert append(store, operation(2)) == [2]


def test_a_user_without_rights(database: Database) -> None:
    append(database.store(), operation(1))
    database.execute("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN")
    store = PostgresStore(database.server.url(database.name, user="reader"))
    with pytest.raises(StoreUnavailable, match="not allowed"):
        store.open()
    database.execute("DROP ROLE reader")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("host=/nowhere dbname=kora user=me password=hush", "PostgreSQL at /nowhere/kora can't be reached"),
        ("postgresql://me:hush@127.0.0.1:1/kora", "PostgreSQL at 127.0.0.1:1/kora can't be reached"),
        ("postgresql://me:hush%@host/kora", "URL is malformed"),
        ("host=x hush", "URL is malformed"),
    ],
)
def test_a_database_that_is_not_there(url: str, sentence: str) -> None:
    store = PostgresStore(url)
    with pytest.raises(StoreError, match=sentence) as refusal:
        store.open()
    assert "hush" not in str(refusal.value)
    with pytest.raises(StoreError):
        store.frontier()


def test_a_database_that_does_not_exist() -> None:
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist'):
        PostgresStore(server().url("nowhere")).open()


def test_a_write_whose_failure_somebody_has_caught_is_no_success(database: Database) -> None:
    store = database.store()
    append(store, operation(1))

    def write() -> None:
        with store.transaction() as tx:
            tx.append([operation(1)], RECEIVED_AT_MS)
            with pytest.raises(StoreError):
                tx.known_ids(["x"])

    with pytest.raises(StoreError):
        write()
    assert log_ids(store) == ["node-a:1"]
    assert append(store, operation(2)) == [2]


def test_tables_that_are_gone(database: Database) -> None:
    store = database.store()
    database.execute("DROP TABLE sync_state")
    with pytest.raises(StoreCorrupt, match="a table is missing"):
        append(store, operation(1))
    database.execute("DELETE FROM delivery_counter")
    with pytest.raises(StoreCorrupt, match="delivery counter is missing"):
        append(store, operation(1))


def test_tables_that_another_server_has_changed(database: Database) -> None:
    store = database.store()
    append(store, operation(1))
    for _ in range(8):
        store.entries_after(0, 10)  # by now a plan is kept
    database.execute("ALTER TABLE operations ALTER COLUMN mutation_name TYPE varchar")
    with pytest.raises(StoreUnavailable, match="changed meanwhile"):
        store.entries_after(0, 10)
    assert len(store.entries_after(0, 10)) == 1


@pytest.mark.parametrize("found", ['["x', "no list", "", "[1]", '["a",1,"b"]', "null"])
def test_a_damaged_row(database: Database, found: str) -> None:
    store = database.store()
    append(store, operation(1, causal_deps=["x"]))
    database.execute(f"UPDATE operations SET causal_deps = '{found}'")
    with pytest.raises(StoreCorrupt, match="damaged"):
        store.deliveries_after(0, 10, 1_000)
    with pytest.raises(StoreCorrupt, match="damaged"):
        store.deliveries_at([1])
    with pytest.raises(StoreCorrupt, match="damaged"):
        store.entries_after(0, 10)
    with pytest.raises(StoreCorrupt, match="damaged"), store.snapshot() as moment:
        list(moment.operations())
    assert store.frontier() == 1


@pytest.mark.parametrize(
    ("durability", "configured", "expected"),
    [("full", "on", "on"), ("full", "off", "on"), ("full", "local", "local"), ("normal", "on", "off")],
)
def test_what_a_commit_waits_for(database: Database, durability: Durability, configured: str, expected: str) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET synchronous_commit = {configured}")
    store = database.store(durability=durability)
    with store.transaction() as tx:
        assert tx._write.fetch("SHOW synchronous_commit") == [(expected,)]


def test_what_an_administrator_has_set_does_no_harm(database: Database) -> None:
    for setting in (
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "statement_timeout = '5s'",
        "bytea_output = 'escape'",
        "client_encoding = 'LATIN1'",
    ):
        with database.server.connect() as outside:
            outside.execute(f"ALTER DATABASE {database.name} SET {setting}".encode())
    store = database.store()
    assert append(store, operation(1, id="é😀")) == [1]
    assert log_ids(store) == ["é😀"]
    store.probe()


def test_the_address_says_more_than_we_do(database: Database) -> None:
    store = PostgresStore(database.server.url(database.name, application_name="mine"), application_name="theirs")
    store.open()
    found = database.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mine'")
    assert found == [(1,)]
    store.close()


STATES = {
    "08006": StoreUnavailable,
    "08P01": StoreUnavailable,
    "25006": StoreUnavailable,
    "25P03": StoreUnavailable,
    "28P01": StoreUnavailable,
    "3D000": StoreUnavailable,
    "40001": StoreUnavailable,
    "40P01": StoreUnavailable,
    "42501": StoreUnavailable,
    "53000": StoreUnavailable,
    "53100": StoreUnavailable,
    "53200": StoreUnavailable,
    "53300": StoreUnavailable,
    "55P03": StoreUnavailable,
    "57014": StoreUnavailable,
    "57P01": StoreUnavailable,
    "57P02": StoreUnavailable,
    "57P03": StoreUnavailable,
    "58030": StoreUnavailable,
    "XX001": StoreCorrupt,
    "XX002": StoreCorrupt,
    "42P01": StoreCorrupt,
    "23505": StoreError,
    "22003": StoreError,
    "54000": StoreError,
    "XX000": StoreError,
}


@pytest.mark.parametrize(("state", "kind"), STATES.items())
def test_what_a_state_means(state: str, kind: type[StoreError]) -> None:
    raised = errors.lookup(state)("their words\nin two lines")
    raised.sqlstate = state
    made = store_error(raised, "PostgreSQL at x/y")
    assert isinstance(made, kind)
    assert kind is not StoreError or type(made) is kind
    assert str(made).startswith("PostgreSQL at x/y: ")
    assert str(made).endswith("(their words in two lines)")


def test_what_has_no_state() -> None:
    assert type(store_error(NoAnswer("x"), "db")) is StoreUnavailable
    assert type(store_error(psycopg.OperationalError("x"), "db")) is ConnectionLost
    assert type(store_error(psycopg.InterfaceError("x"), "db")) is ConnectionLost
    assert type(store_error(psycopg.DataError("x"), "db")) is StoreError


def test_numbers_that_a_database_has_forgotten_are_not_given_again() -> None:
    """As after a crash with durability = "normal", or a failover to a server that lags behind."""
    url = server().schema()
    store = PostgresStore(url)
    store.open()
    with store.transaction() as tx:
        assert tx.append(operations(range(1, 4)), RECEIVED_AT_MS) == [1, 2, 3]
    with psycopg.connect(url, autocommit=True) as lossy:
        lossy.execute("DELETE FROM operations WHERE delivery_seq > 1")
        lossy.execute("UPDATE delivery_counter SET value = 1")
        lossy.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid = %s",
            [store._connections.backend],
        )
    with store.transaction() as tx:
        assert tx.append(operations(range(4, 5)), RECEIVED_AT_MS) == [4]
    store.close()


def test_a_url_with_an_unescaped_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(StoreError, match="write @ in a password as %40") as refused:
        PostgresStore("postgresql://u:p@CANARY@127.0.0.1:1/db").open()
    assert "CANARY" not in str(refused.value)
