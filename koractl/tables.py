"""`kora migrate` and `kora backfill`: the tables of the collections, and their rows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kora_daemon import maintenance
from kora_daemon.config import load_settings
from kora_daemon.materialization.conditions import checked_collection
from kora_daemon.materialization.upgrade import Upgrade
from kora_daemon.parts import required_schema
from kora_daemon.store.contract import Store
from koractl import completion
from koractl.formats import write_json, write_outcome
from koractl.options import DEFAULT_CONFIG, ConfigOption, JsonOption


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, as SQL; do nothing.")] = False,
    allow_destructive: Annotated[
        bool, typer.Option("--allow-destructive", help="Also do what takes something away from tables.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Create or upgrade the tables to the schema file; the log keeps everything in any case."""
    settings = load_settings(config)
    schema = required_schema(settings)
    with maintenance.opened_store(settings, _say) as store:
        if dry_run:
            plan = store.plan_upgrade(schema)
            if as_json:
                write_json(_plan_values(plan))
            else:
                _print_plan(plan)
            return
        upgrade = store.upgrade(schema, allow_destructive=allow_destructive)
        if not as_json:
            for step in upgrade.steps:
                typer.echo(step.summary)
        rows = show_rows_made(store)
    write_outcome("The tables are those of the schema.", {**_plan_values(upgrade), "made": rows}, as_json=as_json)


def backfill(
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            metavar="C",
            help="Only this collection. May be repeated.",
            autocompletion=completion.collections,
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make the rows of the tables again from the log; one that was interrupted goes on where it was."""
    settings = load_settings(config)
    schema = required_schema(settings)
    for name in collection or ():
        checked_collection(schema, name)
    with maintenance.opened_store(settings, _say, must_exist=True) as store:
        store.use_schema(schema)
        maintenance.begin_backfill(store, collection or schema.collections)
        rows = show_rows_made(store)
    write_outcome("All rows are those of the log.", {"made": rows}, as_json=as_json)


def _say(sentence: str) -> None:
    typer.echo(f"kora: {sentence}", err=True)


def _print_plan(upgrade: Upgrade) -> None:
    for step in upgrade.steps:
        typer.echo(f"-- {step.summary}{' (needs --allow-destructive)' if step.destructive else ''}")
        for statement in step.statements:
            typer.echo(f"{statement};")
    for name, refill in upgrade.refills.items():
        source = "the log" if refill.source == "log" else "the states kept beside them"
        typer.echo(f"-- make the rows of {name} from {source}")
    if not upgrade.is_needed:
        typer.echo("-- the tables are those of the schema")


def _plan_values(upgrade: Upgrade) -> dict[str, Any]:
    steps = [
        {
            "collection": step.collection,
            "summary": step.summary,
            "destructive": step.destructive,
            "statements": step.statements,
        }
        for step in upgrade.steps
    ]
    return {
        "needed": upgrade.is_needed,
        "destructive": upgrade.is_destructive,
        "steps": steps,
        "rows": {name: refill.source for name, refill in upgrade.refills.items()},
    }


def show_rows_made(store: Store) -> dict[str, int]:
    """Make the rows that are to be made, under a progress bar with rate and time left; how many of each collection."""
    # Here, so that the other commands don't wait for what draws it.
    from koractl.progress import follow  # noqa: PLC0415

    pending = maintenance.pending_operations(store)
    return follow(maintenance.make_rows(store), pending)
