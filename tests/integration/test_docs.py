"""What the documents promise is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example_of_the_library_page_runs() -> None:
    page = (ROOT / "docs" / "library.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example
    ended = subprocess.run(
        [sys.executable, "-c", example[1]], capture_output=True, text=True, timeout=30, check=True, cwd=ROOT
    )
    assert '"handshake-response"' in ended.stdout
    assert "1 0" in ended.stdout


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
