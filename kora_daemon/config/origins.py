"""Where the value that a problem is about came from: of those that show only when what the file names is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kora_daemon.config.settings import Settings
from kora_daemon.errors import ConfigError

_OF_A_KEY = re.compile(r"(?P<path>(?:auth|routes|validate)\b[^:(]*): (?P<sentence>.*)", re.DOTALL)


@contextmanager
def with_origins(settings: Settings) -> Iterator[None]:
    """Complete the problems of keys with the file or the variable, as they have it that show in the file alone."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([_with_origin(one, settings) for one in error.problems]) from error


def _with_origin(problem: str, settings: Settings) -> str:
    found = _OF_A_KEY.fullmatch(problem)
    if found is None or settings.source is None:
        return problem
    return f"{found['path']} ({_origin(found['path'], settings)}): {found['sentence']}"


def _origin(path: str, settings: Settings) -> str:
    """That of the key, or of the table which it came with."""
    while path and path not in settings.origins:
        path = re.sub(r"(^|[.\[])[^.\[]*$", "", path)
    return settings.origins.get(path, str(settings.source))
