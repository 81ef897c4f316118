"""`kora init`: a configuration to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from kora_daemon.config.json_schema import SCHEMA_FILE, config_schema_text
from kora_daemon.errors import KoraError


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made when it is not there.")] = Path(),
) -> None:
    """Write a commented kora.toml, what editors know it by, and a sample schema.json; never overwrite a file."""
    config = folder / "kora.toml"
    if not _write(config, _sample("kora.toml")):
        raise KoraError(f"{config} is there already and was left as it is; delete it first, or name another folder")
    typer.echo(f"Wrote {config}.")
    for name, content in ((SCHEMA_FILE, config_schema_text().encode()), ("schema.json", _sample("schema.json"))):
        file = folder / name
        typer.echo(f"Wrote {file}." if _write(file, content) else f"{file} is there already and was left as it is.")
    typer.echo(f"Next: kora serve --config {quote(str(config))}")


def _sample(name: str) -> bytes:
    return (files("koractl") / "samples" / name).read_bytes()


def _write(target: Path, content: bytes) -> bool:
    """Write a file, unless there is anything of that name; say whether it was written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        if target.parent.is_dir():
            return False
        raise KoraError(f"{target.parent} is no folder; name another one") from None
    except OSError as error:
        raise KoraError(f"{target} can't be written: {error.strerror}; name another folder") from error
    return True
