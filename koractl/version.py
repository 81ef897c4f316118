"""`kora version` and `kora --version`."""

from __future__ import annotations

import typer

from kora_daemon.version import VERSION
from koractl.formats import write_outcome
from koractl.options import JsonOption


def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    write_outcome(f"kora {VERSION}", {"version": VERSION}, as_json=as_json)


def show_and_exit(wanted: bool) -> None:
    """Do the same for the option, before any command."""
    if wanted:
        version()
        raise typer.Exit
