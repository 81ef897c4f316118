"""Every code and every log event that the source knows is explained in docs/troubleshooting.md, and no others."""

from __future__ import annotations

import re
from typing import get_args

from kora_daemon.model.record import QueryProblem
from tests.support.cli import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SOURCES = {path: path.read_text() for path in (ROOT / "kora_daemon").rglob("*.py")}
NO_CODES = {"SO_PEERCRED", "SCHEMA_MISMATCH"}
CODE_TABLES = ("Codes of errors", "Codes of refused operations", "Codes of the data API")


WHO_SPEAKS = ("apply", "http", "protocol", "server", "wire")
"""The packages that tell devices and back ends what is wrong."""


def named(pattern: str, packages: tuple[str, ...] = ()) -> set[str]:
    """What the source says somewhere, or in some packages."""
    return {
        found
        for path, text in SOURCES.items()
        if not packages or path.relative_to(ROOT / "kora_daemon").parts[0] in packages
        for found in re.findall(pattern, text)
    }


def explained(heading: str) -> set[str]:
    """The names in the first column of the tables under a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_codes() -> None:
    codes = named(r'"([A-Z]{2,}(?:_[A-Z]+)+)"', WHO_SPEAKS) - NO_CODES
    codes |= {problem.upper().replace("-", "_") for problem in get_args(QueryProblem)}
    in_tables = set().union(*map(explained, CODE_TABLES))
    assert codes - in_tables == {"DUPLICATE_HANDSHAKE"}
    assert in_tables - codes == set()
    assert "`DUPLICATE_HANDSHAKE`" in PAGE


def test_log_events() -> None:
    events = named(r'log\.(?:debug|info|warning|error|exception)\(\s*"([a-z_.]+)"')
    assert explained("Log events") == events


def test_close_codes() -> None:
    section = PAGE.split("\n## Close codes\n")[1].split("\n## ")[0]
    told = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE) for code in row.split(",")}
    sources = [ROOT / "kora_daemon" / name for name in ("protocol/actions.py", "server/framing.py")]
    known = {int(code) for path in sources for code in re.findall(r"^\w+ = (\d{4})$", path.read_text(), re.MULTILINE)}
    assert told == known
