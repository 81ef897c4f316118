"""What a shell may offer for a word: the collections of the configuration's schema. Files it knows by itself."""

from __future__ import annotations

from pathlib import Path

import typer

from kora_daemon.config.load import understood_settings
from kora_daemon.errors import KoraError
from kora_daemon.schema_file import load_schema
from koractl.options import DEFAULT_CONFIG


def collections(context: typer.Context) -> list[str]:
    """All of them; none when there is no schema to be had: nobody wants to read errors meanwhile."""
    try:
        path = understood_settings(Path(context.params.get("config") or DEFAULT_CONFIG)).schema
        return [] if path is None else list(load_schema(path).collections)
    except KoraError:
        return []
