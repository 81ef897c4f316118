"""When the delivery sequences of a SQLite file begin behind a gap: see `sqlite.unsynced`."""

from __future__ import annotations

from pathlib import Path

import pytest

from kora_daemon.store.sqlite import Durability, SqliteStore, unsynced
from kora_daemon.store.sqlite.unsynced import GAP
from tests.support.log import append, operation

Lives = list[tuple[int, Durability]]
"""Of a server: under which boot of the machine, and with which durability."""


@pytest.mark.parametrize(
    ("lives", "sequences"),
    [
        ([(1, "full"), (2, "full")], [1, 2]),
        ([(1, "normal"), (1, "normal")], [1, 2]),
        ([(1, "normal"), (2, "normal"), (3, "normal")], [1, GAP + 2, 2 * GAP + 3]),
        ([(1, "normal"), (2, "full"), (3, "full")], [1, GAP + 2, GAP + 3]),
        ([(1, "normal"), (1, "full"), (2, "full")], [1, 2, GAP + 3]),
        ([(1, "full"), (1, "normal"), (2, "full")], [1, 2, GAP + 3]),
    ],
)
def test_who_may_have_lost_something_begins_behind_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: Lives, sequences: list[int]
) -> None:
    given = []
    for number, (boot, durability) in enumerate(lives, 1):
        monkeypatch.setattr(unsynced, "boot_id", lambda boot=boot: str(boot))
        store = SqliteStore(tmp_path / "kora.db", durability=durability)
        store.open()
        given += append(store, operation(number))
        store.close()
    assert given == sequences


def test_gaps_add_up_when_nothing_is_written_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for boot in range(3):
        monkeypatch.setattr(unsynced, "boot_id", lambda boot=boot: str(boot))
        store = SqliteStore(tmp_path / "kora.db", durability="normal")
        store.open()
        assert store.frontier() == 0
        store.close()
    store.open()
    assert append(store, operation(1)) == [2 * GAP + 1]
    store.close()


def test_the_system_tells_one_start_from_another() -> None:
    assert unsynced.boot_id() == unsynced.boot_id() != ""
