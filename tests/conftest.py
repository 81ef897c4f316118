"""The same examples in every run of CI, new ones on a developer's machine. The end says what could not be run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from kora_daemon import log
from tests.fault.conftest import MISSING as MISSING_IN_THE_KERNEL
from tests.programs.conftest import MISSING

# Without deadlines: machines are busy.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("developer", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def _plain_log() -> None:
    """The log of tests. The pretty tracebacks that are structlog's default take seconds on a busy machine."""
    log.configure("info", "json")
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )


_plain_log()


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """Commands that run in this process set up the log for all of it."""
    yield
    if structlog.get_config()["wrapper_class"] is log.Logger:
        _plain_log()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for file, program in sorted(MISSING.items()):
        terminalreporter.line(f"not collected: tests/programs/{file}, {program} is not installed")
    for file, reason in sorted(MISSING_IN_THE_KERNEL.items()):
        terminalreporter.line(f"not collected: tests/fault/{file}, {reason}")
