"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(slots=True)
class Invocation:
    """One run of `kora`; the root context's object."""

    debug: bool = False


def _remember_debug(context: typer.Context, debug: bool) -> None:
    invocation = context.find_root().obj
    invocation.debug = invocation.debug or debug


# Here and elsewhere readable=False: who reads the file says what is wrong with it, which is no error of usage.
ConfigOption = Annotated[
    Path,
    typer.Option("--config", metavar="FILE", envvar="KORA_CONFIG", readable=False, help="The configuration file."),
]

DebugOption = Annotated[
    bool, typer.Option("--debug", callback=_remember_debug, help="Show the traceback when something fails.")
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

DEFAULT_CONFIG = Path("kora.toml")
