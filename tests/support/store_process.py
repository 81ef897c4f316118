"""Another process with a SQLite store, for tests that kill it or take its rights away.

`python -m tests.support.store_process SCENARIO PATH`
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from threading import Thread

from kora_daemon.errors import StoreUnavailable
from kora_daemon.store.sqlite import SqliteStore
from tests.support.log import append, log_ids, operation, operations

GROUP = 7
NOBODY = 65_534
SMALL_FILE_BYTES = 256 << 10


def write_for_ever(path: Path) -> None:
    """Append groups until killed, checkpoints beside; print the delivery sequence of each commit when it is done."""
    store = SqliteStore(path, durability="normal")
    store.open()
    Thread(target=_checkpoint_for_ever, args=[store], daemon=True).start()
    while True:
        first = store.frontier() + 1
        committed = append(store, *operations(range(first, first + GROUP)))
        print(committed[-1], flush=True)


def _checkpoint_for_ever(store: SqliteStore) -> None:
    while True:
        store.checkpoint()


def outgrow_the_limit(path: Path) -> None:
    """Write until files may grow no further, then lift the limit and write on."""
    store = SqliteStore(path)
    store.open()
    append(store, operation(1))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILE_BYTES, hard))
    written = 1
    try:
        while written < 100_000:
            append(store, operation(written + 1))
            written += 1
        raise AssertionError("the limit was never reached")
    except StoreUnavailable as error:
        print(error)
    assert log_ids(store) == [f"node-a:{number}" for number in range(1, written + 1)]
    _expect_unavailable(lambda: append(store, *operations(range(written + 1, written + 5_000))))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert append(store, operation(written + 1)) == [written + 1]
    assert store.version_vector() == {"node-a": written + 1}
    store.close()


def lose_the_right_to_write(path: Path) -> None:
    """As an ordinary user: a database and a folder that may be read only, and their return."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    store = SqliteStore(path)
    store.open()
    append(store, operation(1))
    store.close()
    path.chmod(0o400)
    _expect_unavailable(store.open)
    path.chmod(0o600)
    path.parent.chmod(0o500)
    _expect_unavailable(SqliteStore(path.with_name("new.db")).open)
    path.parent.chmod(0o700)
    store.open()
    assert append(store, operation(2)) == [2]
    store.close()


def _expect_unavailable(call: object) -> None:
    assert callable(call)
    try:
        call()
    except StoreUnavailable as error:
        print(error)
    else:
        raise AssertionError("expected StoreUnavailable")


if __name__ == "__main__":
    {scenario.__name__: scenario for scenario in (write_for_ever, outgrow_the_limit, lose_the_right_to_write)}[
        sys.argv[1]
    ](Path(sys.argv[2]))
