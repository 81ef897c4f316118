"""The package as it is given away: built once for each process that asks."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
NOT_SOURCE = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__", "*.pyc", "*.db*", "*.sock")
"""What is in a checkout and is none of the source."""


@cache
def archives() -> Path:
    """The folder of a source archive, and of the wheel that was built from what is in it."""
    made = Path(tempfile.mkdtemp(prefix="kora-built-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    build(checkout(made / "source"), made / "dist")
    return made / "dist"


def checkout(made: Path) -> Path:
    """A copy of the source tree: building leaves things behind."""
    shutil.copytree(ROOT, made, ignore=NOT_SOURCE)
    shutil.copy(ROOT / ".dockerignore", made)
    return made


def build(source: Path, target: Path, *options: str) -> None:
    """Build a source tree, by default its source archive and the wheel of that, with the backend that is here."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", target, source],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )


def wheel() -> Path:
    """The wheel."""
    (found,) = archives().glob("*.whl")
    return found
