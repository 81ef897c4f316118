"""What the documents tell operators to do with curl, done to a running daemon."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.support.process import Daemon

DOCS = Path(__file__).parents[2] / "docs"


def shell(page: str) -> list[str]:
    """The commands of a page that begin with curl, in order."""
    blocks = re.findall(r"^```shell\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.M)
    return [line for block in blocks for line in block.splitlines() if line.startswith("curl ")]


def test_curl_reaches_the_control_socket(tmp_path: Path) -> None:
    with Daemon(tmp_path):
        for page, commands in {page: shell(page) for page in ("monitoring.md", "backup.md")}.items():
            assert commands
            for command in commands:
                printed = subprocess.run(
                    ["bash", "-euc", command], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=30
                ).stdout
                if " -o " in command:
                    assert printed == "", (page, command)
                else:
                    assert json.loads(printed), (page, command)
        assert (tmp_path / "monday.kora").stat().st_size > 0
