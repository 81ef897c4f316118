"""What operators do to a store besides serving it: migrate, backfill, backup, restore. For commands and HTTP alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kora_daemon.apply.pipeline import Pipeline
from kora_daemon.apply.refill import Progress, refill
from kora_daemon.apply.restore import merge_log, replace_log
from kora_daemon.apply.trusted import TrustedOutcome, TrustedWrite, commit_trusted, with_record_ids
from kora_daemon.apply.unknown_fields import unknown_conditions, unknown_fields
from kora_daemon.backup import Backup, export_backup
from kora_daemon.config import Settings
from kora_daemon.errors import KoraError, StoreError, StoreLocked
from kora_daemon.materialization.shape import Refill
from kora_daemon.model.schema import Schema
from kora_daemon.parts import apply_rules, build_store, required_schema
from kora_daemon.server.clock import new_id, wall_ms
from kora_daemon.server.housekeeping import LOCK_PATIENCE_S
from kora_daemon.store.contract import Store

PAUSE_S = 0.003
"""Between two writes of a long job: a daemon beside it gets its turn."""
LOCK_PAUSE_S = 0.2


def check_kept(settings: Settings) -> None:
    """Raises KoraError for a store that nobody but the daemon could see the contents of."""
    if settings.store.kind == "memory":
        raise KoraError('store.kind is "memory": its contents are those of the running daemon, and gone with it')


@contextmanager
def opened_store(
    settings: Settings, tell: Callable[[str], None] | None = None, *, must_exist: bool = False
) -> Iterator[Store]:
    """The store of the settings, open. Raises what `check_kept` raises.

    With `tell`, another process that writes to the database is waited for, which is told once. `must_exist`: for what
    makes no sense with an empty store, so that a wrong path makes no file.
    """
    check_kept(settings)
    path = settings.store.path
    if must_exist and settings.store.kind == "sqlite" and not path.exists():
        raise KoraError(f"{path}: there is no such file; check store.path; `kora serve` and `kora migrate` make one")
    store = build_store(settings.store)
    _open(store, tell)
    try:
        yield store
    finally:
        store.close()


def _open(store: Store, tell: Callable[[str], None] | None) -> None:
    ends_at, told = time.monotonic() + LOCK_PATIENCE_S, False
    while True:
        try:
            store.open()
        except StoreLocked as error:
            if tell is None or time.monotonic() > ends_at:
                raise
            if not told:
                tell(f"waits up to {LOCK_PATIENCE_S:.0f} s: {error}")
            told = True
            time.sleep(LOCK_PAUSE_S)
        else:
            return


def pending_operations(store: Store) -> dict[str, int]:
    """How many operations the rows that are still to be made again have, by collection."""
    return {name: store.count_history(name, todo.after) for name, todo in store.refills().items()}


def make_rows(store: Store) -> Iterator[Progress]:
    """Make all rows that are still to be made, a little at a time, and with pauses for others."""
    for progress in refill(store):
        yield progress
        time.sleep(PAUSE_S)


def begin_backfill(store: Store, collections: Iterable[str]) -> None:
    """Mark all rows of these collections as to be made again from the log; one that was cut short goes on.

    Raises StoreError for a collection without a table.
    """
    with store.transaction() as tx:
        pending = tx.refills()
        for name in collections:
            if name not in tx.shapes:
                raise StoreError(f"there is no table for the collection {name}; run `kora migrate` first")
            if name not in pending or pending[name].source != "log":
                tx.set_refill(name, Refill("log"))


def apply_write(settings: Settings, write: TrustedWrite, tell: Callable[[str], None]) -> TrustedOutcome:
    """Change records in the server's own name, by the rules of the settings; a daemon beside notices it.

    `tell` is called for what was asked for, or written, and is not in the schema. Raises what `opened_store` raises,
    StoreError, and ConfigError for a schema that can't be read.
    """
    schema = None if settings.schema is None else required_schema(settings)
    with opened_store(settings, must_exist=True) as store:
        return _write(store, schema, settings, write, tell)


def _write(
    store: Store, schema: Schema | None, settings: Settings, write: TrustedWrite, tell: Callable[[str], None]
) -> TrustedOutcome:
    if schema is not None:
        store.use_schema(schema)
    for sentence in unknown_conditions(schema, write):
        tell(sentence)
    pipeline = Pipeline(store.node_id, apply_rules(settings, schema))
    outcome = commit_trusted(store, pipeline, with_record_ids(write, new_id), wall_ms())
    if outcome.result == "applied":
        for sentence in unknown_fields(schema, write):
            tell(sentence)
    return outcome


def write_backup(store: Store, target: Path, created_at_ms: int) -> int:
    """Write a backup to a new file, which is there in whole or not at all; its size in bytes.

    Raises KoraError for a file that is there already or can't be written.
    """
    if target.is_dir():
        raise KoraError(f"{target} is a folder; name a file in it that is not there yet")
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        if target.exists():
            raise FileExistsError
        with open(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            try:
                with store.snapshot() as snapshot:
                    for chunk in export_backup(snapshot, store.node_id, created_at_ms):
                        file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
                size_bytes = file.tell()
                os.link(partial, target)  # unlike a renaming, never in place of a file that has come meanwhile
            finally:
                partial.unlink(missing_ok=True)
    except FileExistsError as error:
        raise KoraError(f"{target} is there already and was left as it is; name another file") from error
    except OSError as error:
        raise KoraError(f"{target} can't be written: {error.strerror}; name another place, or make room") from error
    return size_bytes


def merge_backup(store: Store, backup: Backup, received_at_ms: int) -> Iterator[int]:
    """Add what the store lacks of a backup; yields how many operations each step has added."""
    for added in merge_log(store, backup, received_at_ms):
        yield added
        time.sleep(PAUSE_S)


def replace_by_backup(store: Store, backup: Backup, received_at_ms: int) -> int:
    """Put a backup in place of everything; how many operations it has.

    The rows are still to be made afterwards (`make_rows`).
    """
    return replace_log(store, backup, received_at_ms)
