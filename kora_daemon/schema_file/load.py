"""Opens a schema file."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from kora_daemon.errors import ConfigError
from kora_daemon.model.schema import Schema
from kora_daemon.schema_file.document import read_schema


class _Format(NamedTuple):
    """A format of schema files; `parse` raises ValueError."""

    name: str
    object_word: str
    parse: Callable[[str], Any]


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _parse_json(text: str) -> object:
    return json.loads(text, parse_constant=_no_number)


_FORMATS = {
    ".json": _Format("JSON", "an object", _parse_json),
    ".toml": _Format("TOML", "a table", tomllib.loads),
}


def load_schema(path: str | os.PathLike[str]) -> Schema:
    """The schema in a file that ends in `.json` or `.toml`.

    Raises `ConfigError` with every problem there is.
    """
    path = Path(path)
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise ConfigError(
            [f"{path}: expected a name that ends in .json or .toml; docs/schema.md tells how to make one"]
        )
    return read_schema(_document(path, form), str(path), object_word=form.object_word)


def _document(path: Path, form: _Format) -> object:
    try:
        document: object = form.parse(path.read_bytes().decode("utf-8-sig"))
    except OSError as exc:
        problem = f"the file can't be read: {exc.strerror}"
    except UnicodeDecodeError as exc:
        problem = f"byte {exc.start} is not UTF-8, expected a {form.name} file in UTF-8"
    except ValueError as exc:
        problem = f"is not {form.name}: {exc}"
    except RecursionError:
        problem = "is nested too deeply"
    else:
        return document
    raise ConfigError([f"{path}: {problem}"])
