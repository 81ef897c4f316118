"""The same examples in every run of CI, new ones on a developer's machine. The end says what could not be run."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.programs.conftest import MISSING

# Without deadlines: machines are busy.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("developer", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for file, program in sorted(MISSING.items()):
        terminalreporter.line(f"not collected: tests/programs/{file}, {program} is not installed")
