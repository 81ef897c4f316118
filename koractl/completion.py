"""What a shell may offer for a word: the collections of the configuration's schema. Files it knows by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from kora_daemon.config.load import understood_settings
from kora_daemon.errors import KoraError
from kora_daemon.schema_file import load_schema
from koractl.options import DEFAULT_CONFIG


def collections(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The collections that begin so; none when there is no schema to be had: nobody wants to read errors meanwhile."""
    try:
        path = understood_settings(Path(context.params.get("config") or DEFAULT_CONFIG)).schema
        found = () if path is None else load_schema(path).collections
    except KoraError:
        return
    yield from (name for name in found if name.startswith(incomplete))
