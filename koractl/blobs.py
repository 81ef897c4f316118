"""`kora blobs`: the bytes of files that the server keeps."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from kora_daemon import blob_upkeep
from kora_daemon.config import load_settings
from kora_daemon.store.blobs.contract import BlobEntry
from kora_daemon.store.blobs.gc import Tally
from koractl.commands import Commands
from koractl.formats import Format, Record, write_outcome, write_records
from koractl.options import DEFAULT_CONFIG, ConfigOption, JsonOption

app = Commands(help="Files: what is kept, whether it is whole, deleting what nothing refers to.", no_args_is_help=True)


@app.command()
def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be deleted; delete and mark nothing.")
    ] = False,
    grace: Annotated[
        float | None,
        typer.Option(
            "--grace", metavar="DAYS", min=0, help="Keep what is unused for less; blobs.gc_grace_days unless given."
        ),
    ] = None,
    despite_encryption: Annotated[
        bool, typer.Option("--despite-encryption", help="Go by what can be read, though some operations are encrypted.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Delete what no record refers to, and has not for the grace period; a daemon may go on meanwhile."""
    settings = load_settings(config)
    days = settings.blobs.gc_grace_days if grace is None else grace
    swept = blob_upkeep.delete_unused(settings, days, dry=dry_run, despite_encryption=despite_encryption)
    sentence = (
        f"{_counted(swept.live)} in use.\n"
        f"{_counted(swept.waiting)} unused for less than {days:g} days, and kept.\n"
        f"{_counted(swept.deleted)} {'would be' if dry_run else 'were'} deleted."
    )
    write_outcome(sentence, to_builtins(swept) | {"dryRun": dry_run, "graceDays": days}, as_json=as_json)


@app.command("list")
def list_all(as_json: JsonOption = False, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print every blob: its hash, bytes, when it was stored and, if so, since when it is known to be unused."""
    with blob_upkeep.opened_blobs(load_settings(config)) as blobs:
        if as_json:
            write_records(Format.JSON, (), map(_described, blobs.entries()))
            return
        for entry in blobs.entries():
            unused = "" if entry.unused_since_ms is None else f"  unused since {_time(entry.unused_since_ms)}"
            typer.echo(f"{entry.hash}  {entry.size_bytes:>11,}  {_time(entry.stored_at_ms)}{unused}")


@app.command()
def verify(
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what is damaged: devices may bring it again.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Read every blob and compare it with its hash; exit code 1 if one is damaged."""
    checked, found = 0, []
    with blob_upkeep.opened_blobs(load_settings(config)) as blobs:
        for entry, is_damaged in blob_upkeep.damaged(blobs, delete=delete):
            checked += 1
            if is_damaged:
                found.append(entry.hash)
                if not as_json:
                    typer.echo(f"{entry.hash} is damaged{', and was deleted' if delete else ''}.")
    said = f"{checked - len(found):,} of {checked:,} blobs are whole."
    write_outcome(said, {"checked": checked, "damaged": found, "deleted": delete}, as_json=as_json)
    if found:
        raise typer.Exit(1)


@app.command("import")
def import_folder(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", readable=False, help="Of the TypeScript server's file store, or of ours."),
    ],
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Take files over that were kept elsewhere; each is checked. May be run again."""
    settings = load_settings(config)
    counts: Counter[str] = Counter(imported=0, known=0, damaged=0, tooLarge=0, noRoom=0)
    with blob_upkeep.opened_blobs(settings) as blobs:
        counts.update(blob_upkeep.import_folder(blobs, folder, settings.blobs.max_blob_bytes))
    said = (
        f"Imported {counts['imported']:,} blobs; {counts['known']:,} were there already, {counts['damaged']:,} are "
        f"damaged, {counts['tooLarge']:,} too large, for {counts['noRoom']:,} there was no room."
    )
    write_outcome(said, counts, as_json=as_json)
    if counts["damaged"] or counts["tooLarge"] or counts["noRoom"]:
        raise typer.Exit(1)


def _counted(tally: Tally) -> str:
    return f"{tally.blobs:,} {'blob' if tally.blobs == 1 else 'blobs'} ({tally.bytes:,} bytes)"


def _described(entry: BlobEntry) -> Record:
    return {
        "hash": entry.hash,
        "bytes": entry.size_bytes,
        "storedAt": _time(entry.stored_at_ms),
        "unusedSince": None if entry.unused_since_ms is None else _time(entry.unused_since_ms),
    }


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
