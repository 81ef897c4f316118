"""Reads and judges a configuration file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kora_daemon.config.reader import Reader
from kora_daemon.config.rules import RULES
from kora_daemon.config.settings import Settings
from kora_daemon.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Reading:
    """What can be understood of a file, the rest having its defaults; what is wrong with it, and the paths of that."""

    settings: Settings
    problems: list[str]
    broken: set[str]


def load_settings(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a TOML file, with overrides from the environment (`os.environ` unless given).

    Raises `ConfigError` with every problem there is.
    """
    reading = read_settings(path, environ)
    if reading.problems:
        raise ConfigError(reading.problems)
    return reading.settings


def read_settings(path: Path, environ: Mapping[str, str] | None = None) -> Reading:
    """The same with its problems. Raises ConfigError for no TOML at all."""
    reader = Reader(path, os.environ if environ is None else environ)
    settings = _understood(reader, path)
    for rule in RULES:
        if not rule.concerns(reader.broken) and (complaint := rule.complaint(settings)):
            reader.refuse(rule.paths[0], complaint)
    return Reading(settings, reader.problems, reader.broken)


def understood_settings(path: Path) -> Settings:
    """What can be understood of a file; the rest of it has its defaults. Raises ConfigError for no TOML at all."""
    return _understood(Reader(path, os.environ), path)


def _understood(reader: Reader, path: Path) -> Settings:
    document = _document(path)
    try:
        return reader.settings(document)
    except RecursionError:
        raise ConfigError([f"{path}: is nested too deeply"]) from None


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        problem = "there is no such file; `kora init` writes one, --config names another"
    except PermissionError:
        problem = "this user may not read the file; run kora as one who may, or name another file by --config"
    except OSError as exc:
        problem = f"the file can't be read: {exc.strerror}"
    except UnicodeDecodeError as exc:
        problem = f"byte {exc.start} is not UTF-8, expected a TOML file in UTF-8"
    except ValueError as exc:  # TOML, but for a number with thousands of digits
        problem = f"is not TOML: {exc}"
    except RecursionError:
        problem = "is nested too deeply"
    raise ConfigError([f"{path}: {problem}"])
