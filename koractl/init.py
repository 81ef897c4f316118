"""`kora init`: a configuration to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from kora_daemon.errors import KoraError
from koractl.options import DebugOption


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to; made when it is not there.")] = Path(),
    debug: DebugOption = False,
) -> None:
    """Write a commented kora.toml and a sample schema.json; never overwrite a file."""
    del debug
    config = folder / "kora.toml"
    if not _write(config):
        raise KoraError(f"{config} is there already and was left as it is; delete it first, or name another folder")
    typer.echo(f"Wrote {config}.")
    schema = folder / "schema.json"
    typer.echo(f"Wrote {schema}." if _write(schema) else f"{schema} is there already and was left as it is.")
    typer.echo(f"Next: kora serve --config {quote(str(config))}")


def _write(target: Path) -> bool:
    """Write the sample of this name, unless there is anything of that name; say whether it was written."""
    sample = (files("koractl") / "samples" / target.name).read_bytes()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(sample)
    except FileExistsError:
        if target.parent.is_dir():
            return False
        raise KoraError(f"{target.parent} is no folder; name another one") from None
    except OSError as error:
        raise KoraError(f"{target} can't be written: {error.strerror}; name another folder") from error
    return True
