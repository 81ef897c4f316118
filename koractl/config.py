"""`kora config`: what the configuration says, and whether it can be used."""

from __future__ import annotations

from typing import Annotated

import typer

from kora_daemon.config import load_settings
from kora_daemon.config.json_schema import config_schema_text
from kora_daemon.config.shown import effective_toml, effective_values
from koractl.access import write_access, write_access_json
from koractl.checks import check_settings, valid_settings
from koractl.commands import Commands
from koractl.formats import write_json
from koractl.options import DEFAULT_CONFIG, ConfigOption, JsonOption

app = Commands(help="Show or check the configuration.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(as_json: JsonOption = False, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print the configuration in force as TOML, secrets masked."""
    settings = load_settings(config)
    if as_json:
        write_json({"settings": effective_values(settings), "origins": settings.origins})
    else:
        typer.echo(effective_toml(settings), nl=False)


@app.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="Say who may read and write what as JSON.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Say everything that is wrong with the configuration; if nothing is, who may read and write what."""
    settings = valid_settings(config)
    schema = check_settings(settings)
    if as_json:
        write_access_json(settings.auth, schema)
        return
    typer.echo(f"{config} is fine.")
    write_access(settings.auth, schema)


@app.command()
def schema() -> None:
    """Print a JSON Schema of the configuration file, for editors: completion, explanations, checks while typing.

    The file's first line names it, such as #:schema kora.schema.json
    """
    typer.echo(config_schema_text(), nl=False)
