"""`kora config`: what the configuration says, and whether it can be used."""

from __future__ import annotations

import typer

from kora_daemon.config import load_settings
from kora_daemon.config.shown import effective_toml
from koractl.checks import check_settings
from koractl.options import DEFAULT_CONFIG, ConfigOption, DebugOption

app = typer.Typer(help="Show or check the configuration.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(config: ConfigOption = DEFAULT_CONFIG, debug: DebugOption = False) -> None:
    """Print the configuration in force as TOML, secrets masked."""
    del debug
    typer.echo(effective_toml(load_settings(config)), nl=False)


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, debug: DebugOption = False) -> None:
    """Say everything that is wrong with the configuration."""
    del debug
    check_settings(load_settings(config))
    typer.echo(f"{config} is fine.")
