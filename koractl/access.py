"""Who may read and write what, and what is doubtful about it: as lines and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from msgspec import to_builtins

from kora_daemon.auth.access import Access, overview
from kora_daemon.auth.doubts import doubts
from kora_daemon.config.auth import AuthSettings
from kora_daemon.config.toml_text import toml_text
from kora_daemon.model.schema import Schema
from koractl.formats import write_json

_MAY = {"read-write": "read and write", "read": "read"}


def write_access(settings: AuthSettings, schema: Schema | None) -> None:
    """A line for each collection and those who may do something with it: unlike a table, lines bear any width.

    Doubts go to stderr.
    """
    found = overview(settings, schema)
    typer.echo("\nWho may read and write what; whoever is not named with a collection may do neither:")
    for name, accesses in found.collections.items():
        _write_collection(name, accesses)
    if schema is None:
        _write_collection("every other collection" if found.collections else "every collection", found.others)
    elif found.others:
        _write_collection("what is not in the schema", found.others)
    for doubt in doubts(settings, schema):
        typer.echo(f"kora: doubtful: {doubt}", err=True)


def write_access_json(settings: AuthSettings, schema: Schema | None) -> None:
    """The same for programs, doubts included."""
    write_json(to_builtins(overview(settings, schema)) | {"doubts": doubts(settings, schema)})


def _write_collection(name: str, accesses: Sequence[Access]) -> None:
    typer.echo(f"\n{name}")
    for one in accesses:
        typer.echo(f"  {one.who}: {_sentence(one)}")
    if not accesses:
        typer.echo("  nobody")


def _sentence(access: Access) -> str:
    if access.may == "code":
        return f"as your code says ({access.source})"
    where = " and ".join(f"{field} = {toml_text(value)}" for field, value in access.where.items())
    return f"{_MAY[access.may]} {f'where {where}' if where else 'all'}"
