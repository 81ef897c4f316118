"""Log lines: structlog to stderr, with stable event names, a level that can change live, and no secrets.

A line is an event (dotted, snake_case: `session.closed`) and fields. `configure` may be called again at any time: what
it sets holds at once, also for loggers that were bound before.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_SECRET = re.compile(r"(token|secret|password|passphrase|authorization|cookie)$", re.IGNORECASE)
_MASKED = "***"


@dataclass(slots=True)
class _InForce:
    """What `configure` set last."""

    threshold: int
    render: Processor


class Logger(structlog.BoundLoggerBase):
    """What `structlog.get_logger()` returns once configured."""

    def debug(self, event: str, **fields: object) -> None:
        """What a developer looks for."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What happened."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What an operator may want to change."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """What failed."""
        self._write("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """What failed, with the traceback of the exception being handled."""
        self._write("error", event, {"exc_info": True, **fields})

    def _write(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        if LEVELS[level] >= _in_force.threshold:
            self._proxy_to_logger("write", event, **{**fields, "level": level})


class _Stderr:
    """The end of the pipe."""

    _lock = Lock()

    def write(self, line: str) -> None:
        """Write one line. A full disk or a reader that went away must not stop the daemon: the line is lost."""
        try:
            with self._lock:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
        except (OSError, ValueError):
            pass


def mask_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replace the value of every field whose name ends like a secret's, at any depth of tables."""
    del logger, method
    return _masked(event)


def _masked(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _MASKED if _SECRET.search(str(name)) else _below(value) for name, value in fields.items()}


def _below(value: object) -> object:
    return _masked(value) if isinstance(value, Mapping) else value


def _json() -> Processor:
    with_traceback = structlog.processors.format_exc_info
    renderer = structlog.processors.JSONRenderer()

    def render(logger: WrappedLogger, method: str, event: EventDict) -> str | bytes:
        first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
        return renderer(logger, method, {**first, **with_traceback(logger, method, event)})

    return render


def _console(*, colors: bool) -> Processor:
    # Texts are written as Python writes them, so that a peer's text can't move the cursor or fake a line, and
    # tracebacks are plain: the pretty ones show local variables, and with them secrets and payloads.
    return structlog.dev.ConsoleRenderer(
        colors=colors, repr_native_str=True, exception_formatter=structlog.dev.plain_traceback
    )


def _render(logger: WrappedLogger, method: str, event: EventDict) -> Any:  # noqa: ANN401  as structlog has it
    return _in_force.render(logger, method, event)


_in_force = _InForce(LEVELS["info"], _json())
_PROCESSORS: list[Processor] = [
    mask_secrets,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _render,
]


def configure(level: str, format: str) -> None:
    """Send log lines of at least `level` (a key of `LEVELS`) to stderr.

    `format` is "console", "json", or "auto": console on a terminal, JSON lines otherwise.
    """
    on_terminal = sys.stderr.isatty()
    on_console = format == "console" or (format == "auto" and on_terminal)
    _in_force.threshold = LEVELS[level]
    _in_force.render = _console(colors=on_terminal) if on_console else _json()
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=Logger,
        logger_factory=lambda *_name: _Stderr(),
        cache_logger_on_first_use=False,
    )
