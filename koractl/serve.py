"""`kora serve`: the daemon in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from koractl.access import write_access
from koractl.checks import check_settings, valid_settings
from koractl.options import DEFAULT_CONFIG, ConfigOption


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    check: Annotated[
        bool, typer.Option("--check", help="Check the configuration, say who may read and write what, and exit.")
    ] = False,
) -> None:
    """Run the daemon until a signal ends it."""
    settings = valid_settings(config)
    if check:
        schema = check_settings(settings)
        typer.echo(f"{config} is fine.")
        write_access(settings.auth, schema)
        return
    # Here, so that the other commands don't wait for the server's modules.
    from kora_daemon.daemon import run  # noqa: PLC0415

    run(settings, on_ready=_announce)


def _announce(urls: list[str]) -> None:
    typer.echo(f"Kora Daemon is ready on {', '.join(urls)}")
