"""`kora backup` and `kora restore`: the log in one file (store.md section 9)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kora_daemon import maintenance
from kora_daemon.backup import verify_backup
from kora_daemon.backup.errors import BackupError, Trouble
from kora_daemon.config import load_settings
from kora_daemon.errors import KoraError
from kora_daemon.store_lock import serving
from koractl.formats import write_outcome
from koractl.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from koractl.tables import show_rows_made


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="OUT.kora", readable=False, help="The file to write; it must not be there yet.")
    ],
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write the whole log to a file; a daemon may go on meanwhile."""
    with maintenance.opened_store(load_settings(config), must_exist=True) as store:
        size_bytes = maintenance.write_backup(store, target, _now_ms())
    write_outcome(f"Wrote {target}, {size_bytes:,} bytes.", {"file": str(target), "bytes": size_bytes}, as_json=as_json)


def restore(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN.kora", readable=False, help="A backup, of this server or the TypeScript one."),
    ],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add what is missing instead; a daemon may go on meanwhile.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Put a backup in place of everything in the store. It is verified before anything changes."""
    settings = load_settings(config)
    maintenance.check_kept(settings)
    try:
        file = source.open("rb")
    except OSError as error:
        raise KoraError(f"{source} can't be read: {error.strerror}") from error
    with file, _of(source):
        content = verify_backup(file)  # before there is a database that there was not
        if merge:
            with maintenance.opened_store(settings) as store:
                added = sum(maintenance.merge_backup(store, content, _now_ms()))
            write_outcome(f"Added {added:,} operations.", {"added": added}, as_json=as_json)
            return
        with serving(settings.store), maintenance.opened_store(settings) as store:
            restored = maintenance.replace_by_backup(store, content, _now_ms())
            show_rows_made(store)
    write_outcome(f"Restored {restored:,} operations.", {"restored": restored}, as_json=as_json)


_VERDICTS: dict[Trouble, str] = {"not-a-backup": "is no Kora backup", "incomplete": "is truncated"}


@contextmanager
def _of(source: Path) -> Iterator[None]:
    """Say of which file it is that it can't be restored, and that this has changed nothing: it is verified before."""
    try:
        yield
    except BackupError as error:
        verdict = _VERDICTS.get(error.kind, "can't be restored")
        raise KoraError(f"{source} {verdict}, nothing was changed: {error}") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
