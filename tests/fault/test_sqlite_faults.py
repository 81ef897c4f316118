"""Real trouble under the SQLite store: nothing promised is lost, nothing half done stays, and it works again after."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from kora_daemon.errors import StoreCorrupt, StoreUnavailable
from kora_daemon.store.sqlite import SqliteStore
from tests.support.log import RECEIVED_AT_MS, append, log_ids, operation, operations
from tests.support.store_process import GROUP

ROOT = Path(__file__).parents[2]
PAGE_BYTES = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "kora.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path, busy_timeout_ms=50)
    made.open()
    yield made
    made.close()


def process(scenario: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.store_process", scenario, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_process(scenario: str, path: Path) -> list[str]:
    """The lines it printed."""
    running = process(scenario, path)
    printed, trouble = running.communicate(timeout=60)
    assert running.returncode == 0, trouble
    return printed.splitlines()


# -- killed -----------------------------------------------------------------------------------------------------------


def test_a_process_killed_in_the_middle_of_writes_has_lost_nothing_it_reported(path: Path) -> None:
    chance = random.Random(4567)
    for _ in range(6):
        writer = process("write_for_ever", path)
        assert writer.stdout is not None
        reported = 0
        for _ in range(chance.randrange(1, 80)):
            reported = int(writer.stdout.readline())
        writer.kill()
        reported = max([reported, *map(int, writer.stdout.read().split())])
        writer.wait()
        _assert_whole(path, reported)


def _assert_whole(path: Path, reported: int) -> None:
    store = SqliteStore(path)
    store.open()
    entries = store.entries_after(0, 1_000_000)
    assert len(entries) >= reported > 0
    assert len(entries) % GROUP == 0
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry.operation.sequence_number for entry in entries] == list(range(1, len(entries) + 1))
    assert store.version_vector() == {"node-a": len(entries)}
    store.close()
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    connection.close()


# -- full -------------------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_a_write_whole_and_takes_it_when_there_is_room(store: SqliteStore, path: Path) -> None:
    append(store, operation(1))
    connection = store._connections.writer
    assert connection is not None
    connection.pragma("max_page_count", connection.pragma("page_count") + 5)
    with pytest.raises(StoreUnavailable, match=r"kora\.db: the disk is full; make room") as refusal:
        append(store, *operations(range(2, 1_000)))
    assert isinstance(refusal.value.__cause__, apsw.FullError)
    assert log_ids(store) == ["node-a:1"]
    assert append(store, operation(2)) == [2]


def test_a_commit_that_can_not_be_written_did_not_happen(path: Path) -> None:
    first, second = run_process("outgrow_the_limit", path)
    assert first.startswith(f"{path}: reading or writing it failed")
    assert second.startswith(str(path))


# -- locked -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(store: SqliteStore, path: Path) -> Iterator[apsw.Connection]:
    """Another program's connection in the middle of a write."""
    append(store, operation(1))
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


@pytest.mark.parametrize("write", [lambda store: append(store, operation(2)), lambda store: store.probe()])
def test_a_lock_of_another_process_is_named_and_waited_out(
    store: SqliteStore, locked: apsw.Connection, write: Callable[[SqliteStore], object]
) -> None:
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"kora\.db: another process holds its lock"):
            write(store)
    assert log_ids(store) == ["node-a:1"]
    locked.execute("ROLLBACK")
    write(store)
    assert log_ids(store)[0] == "node-a:1"


def test_a_store_can_not_be_opened_while_another_process_writes(locked: apsw.Connection, path: Path) -> None:
    late = SqliteStore(path, busy_timeout_ms=50)
    with pytest.raises(StoreUnavailable, match="another process holds its lock"):
        late.open()
    locked.execute("ROLLBACK")
    late.open()
    assert log_ids(late) == ["node-a:1"]
    late.close()


# -- gone -------------------------------------------------------------------------------------------------------------


def test_a_write_to_a_database_without_a_name_is_refused_until_it_is_back(store: SqliteStore, path: Path) -> None:
    append(store, operation(1))
    assert store.frontier() == 1
    away = path.parent.rename(path.parent.with_name("away"))
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"kora\.db"):
            append(store, operation(2))
        with pytest.raises(StoreUnavailable, match=r"kora\.db"):
            store.probe()
    with pytest.raises(StoreUnavailable, match=r"kora\.db"):
        store.frontier()
    away.rename(path.parent)
    assert append(store, operation(2)) == [2]
    assert log_ids(store) == ["node-a:1", "node-a:2"]


def test_a_database_that_was_deleted_is_not_made_anew_behind_the_back_of_the_server(
    store: SqliteStore, path: Path
) -> None:
    append(store, operation(1))
    for file in path.parent.iterdir():
        file.unlink()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            append(store, operation(2))
    assert not path.exists()


def test_another_file_in_its_place_is_not_written_to(store: SqliteStore, path: Path) -> None:
    append(store, operation(1))
    away = path.parent.rename(path.parent.with_name("away"))
    path.parent.mkdir()
    other = SqliteStore(path)
    other.open()
    with pytest.raises(StoreUnavailable, match="restart the server"):
        append(store, operation(2))
    with pytest.raises(StoreUnavailable, match="restart the server"):
        store.probe()
    with pytest.raises(StoreUnavailable, match="restart the server"):
        store.frontier()
    assert log_ids(other) == []
    other.close()
    shutil.rmtree(path.parent)
    away.rename(path.parent)
    assert append(store, operation(2)) == [2]


def test_the_file_vanishes_between_the_first_statement_and_the_commit(store: SqliteStore, path: Path) -> None:
    away = path.parent.with_name("away")

    def append_while_the_folder_goes() -> None:
        with store.transaction() as tx:
            tx.append([operation(1)], RECEIVED_AT_MS)
            path.parent.rename(away)

    with pytest.raises(StoreUnavailable):
        append_while_the_folder_goes()
    away.rename(path.parent)
    assert log_ids(store) == []


def test_a_database_that_may_not_be_written_is_refused_until_it_may() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        private = Path(folder) / "of-nobody"
        private.mkdir()
        os.chmod(private, 0o700)
        if os.geteuid() == 0:
            os.chown(private, 65_534, 65_534)
        file, new = run_process("lose_the_right_to_write", private / "kora.db")
    assert file.startswith(f"{private / 'kora.db'}: it can't be")
    assert new.startswith(f"{private / 'new.db'}: check that the file and its folder exist")


@pytest.mark.parametrize("place", ["missing/kora.db", ""])
def test_a_path_where_no_file_can_be_is_unavailable(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    with pytest.raises(StoreUnavailable, match=str(path)):
        SqliteStore(path).open()


# -- damaged ----------------------------------------------------------------------------------------------------------


def deliver_all(path: Path) -> None:
    store = SqliteStore(path)
    try:
        store.open()
        store.deliveries_after(0, 1_000_000, 1 << 30)
    finally:
        store.close()


def read_all(path: Path) -> None:
    store = SqliteStore(path)
    try:
        store.open()
        store.entries_after(0, 1_000_000)
    finally:
        store.close()


@pytest.fixture
def filled(path: Path) -> Path:
    store = SqliteStore(path, durability="normal")
    store.open()
    append(store, *operations(range(1, 2_000)))
    store.close()
    return path


def overwrite(path: Path, start: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)


def test_a_file_that_is_no_database_is_corrupt_and_left_alone(path: Path) -> None:
    text = b"[server]\nport = 4567\n" * 100
    path.write_bytes(text)
    with pytest.raises(StoreCorrupt, match=rf"{path}: this is no SQLite database; check the path") as refusal:
        read_all(path)
    assert isinstance(refusal.value.__cause__, apsw.NotADBError)
    assert path.read_bytes() == text


def test_a_file_that_was_cut_short_is_corrupt(filled: Path) -> None:
    os.truncate(filled, filled.stat().st_size // 2 // PAGE_BYTES * PAGE_BYTES)
    with pytest.raises(StoreCorrupt, match=rf"{filled}: the database is damaged; stop the server and restore"):
        read_all(filled)


def test_a_file_with_garbage_in_it_is_corrupt(filled: Path) -> None:
    pages = filled.stat().st_size // PAGE_BYTES
    overwrite(filled, 8 * PAGE_BYTES, random.Random(1).randbytes((pages - 8) * PAGE_BYTES))
    with pytest.raises(StoreCorrupt, match=str(filled)):
        read_all(filled)


def test_damage_that_is_found_while_running_is_corrupt_and_leaves_the_process_alone(
    store: SqliteStore, path: Path
) -> None:
    append(store, *operations(range(1, 2_000)))
    store.close()
    store.open()
    pages = path.stat().st_size // PAGE_BYTES
    overwrite(path, 8 * PAGE_BYTES, bytes((pages - 8) * PAGE_BYTES))
    with pytest.raises(StoreCorrupt, match=str(path)):
        store.entries_after(0, 1_000_000)
    with pytest.raises(StoreCorrupt, match=str(path)):
        append(store, *operations(range(2_000, 4_000)))


def damage(path: Path, column: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(f"UPDATE operations SET {column} WHERE delivery_seq = 1000")
    connection.close()


@pytest.mark.parametrize(
    "column",
    ["causal_deps = 'no list'", "causal_deps = '[1]'", "node_id = CAST(x'FF' AS TEXT)", "id = CAST(x'FF' AS TEXT)"],
)
def test_a_row_that_can_not_be_read_is_corrupt(filled: Path, column: str) -> None:
    damage(filled, column)
    with pytest.raises(StoreCorrupt, match=f"{filled}: a row of the log is damaged"):
        read_all(filled)


@pytest.mark.parametrize("found", ["", "no list", "[1]", '["cut short', '{"a":1}', "null", '["a",1]', "x'FF'"])
def test_causes_that_are_no_list_of_texts_do_not_reach_devices(filled: Path, found: str) -> None:
    damage(filled, f"causal_deps = '{found}'" if found != "x'FF'" else "causal_deps = CAST(x'FF' AS TEXT)")
    with pytest.raises(StoreCorrupt, match=f"{filled}: a row of the log is damaged"):
        deliver_all(filled)


@pytest.mark.parametrize("written", ["[ ]", '["a", "b"]', ' ["a"]', r'["\ud800"]'])
def test_causes_that_somebody_else_wrote_in_another_form_are_as_good(filled: Path, written: str) -> None:
    damage(filled, f"causal_deps = '{written}'")
    deliver_all(filled)
