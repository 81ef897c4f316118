"""`kora reload`: let a running daemon read its configuration again."""

from __future__ import annotations

import typer

from kora_daemon.errors import ConfigError
from koractl.asking import UrlOption, running_daemon
from koractl.formats import write_json
from koractl.options import DEFAULT_CONFIG, ConfigOption, JsonOption


def reload(
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Let a running daemon read its configuration again; nobody is disconnected, and bad ones change nothing."""
    outcome = running_daemon(config, url).post("/__kora/reload")
    if as_json:
        write_json(outcome)
    if outcome["problems"]:
        raise ConfigError(outcome["problems"])
    if as_json:
        return
    typer.echo(f"Applied: {', '.join(outcome['applied'])}" if outcome["applied"] else "Nothing to apply has changed.")
    if outcome["needsRestart"]:
        typer.echo(f"Needs a restart: {', '.join(outcome['needsRestart'])}")
