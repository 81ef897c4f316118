"""`kora version` and `kora --version`."""

from __future__ import annotations

import typer

from kora_daemon.version import VERSION


def version() -> None:
    """Print the version."""
    typer.echo(f"kora {VERSION}")


def show_and_exit(wanted: bool) -> None:
    """Do the same for the option, before any command."""
    if wanted:
        version()
        raise typer.Exit
