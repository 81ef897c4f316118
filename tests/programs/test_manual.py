"""The manual page as a typesetter reads it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PAGE = Path(__file__).parents[2] / "man" / "kora.1"


def test_there_is_nothing_to_complain_of() -> None:
    ended = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", PAGE], capture_output=True, text=True, timeout=60, check=False
    )
    said = (ended.stdout + ended.stderr).splitlines()
    assert [line for line in said if "missing date" not in line] == []  # the version tells how old it is


def test_it_reads_well() -> None:
    shown = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=100", PAGE], capture_output=True, text=True, check=True
    )
    text = re.sub(".\b", "", shown.stdout)  # bold and underlined letters are overstruck
    assert "kora - a self-hosted sync server for Kora.js apps" in text
    assert re.search(r"\n *--format table\|json\|csv\n +How to write them. \[default: table\]\n", text)
