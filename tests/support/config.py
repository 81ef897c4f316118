"""Configuration files for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kora_daemon.config import Settings, load_settings
from kora_daemon.errors import ConfigError


def load(folder: Path, toml: str, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a kora.toml with this text, and of no other environment than this."""
    file = folder / "kora.toml"
    file.write_text(toml, encoding="utf-8")
    return load_settings(file, environ or {})


def problems(folder: Path, toml: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with it, without the folder in the file's name; of its shape only, unless told otherwise."""
    try:
        load(folder, toml, environ)
    except ConfigError as error:
        return [problem.replace(f"{folder}/", "") for problem in error.problems]
    return []
