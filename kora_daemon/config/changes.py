"""What is different in a configuration that was read again, and what of that can change while the daemon runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from kora_daemon.config.keys import Key, declared_in, walk
from kora_daemon.config.settings import Settings

Values = Mapping[str, object]
"""Path of a key or table -> what it is set to; without an entry it is not set."""


class Changes(NamedTuple):
    """Paths of keys, in the order of the reference."""

    live: tuple[str, ...] = ()
    needing_restart: tuple[str, ...] = ()


def values_of(settings: Settings) -> Values:
    """Every key with its value, and for a file that is read, a digest of its contents."""
    return dict(_below(settings, ""))


def changes(before: Values, after: Values) -> Changes:
    """What differs; a table that has come or gone stands for its keys."""
    differing = {path: one.live for path, one in walk(Settings) if before.get(path) != after.get(path)}
    told = {path: live for path, live in differing.items() if not any(path.startswith(f"{up}.") for up in differing)}
    return Changes(
        tuple(path for path, live in told.items() if live), tuple(path for path, live in told.items() if not live)
    )


def after_reload(before: Values, after: Values) -> Values:
    """What is in force once everything that can change live has changed."""
    kept = changes(before, after).needing_restart

    def stays(path: str) -> bool:
        return any(path == one or path.startswith(f"{one}.") for one in kept)

    return {path: value for path, value in before.items() if stays(path)} | {
        path: value for path, value in after.items() if not stays(path)
    }


def _below(table: Any, path: str) -> Iterator[tuple[str, object]]:  # noqa: ANN401  any of the tables' dataclasses
    for name, declared in declared_in(type(table)).items():
        here = f"{path}.{name}" if path else name
        value = getattr(table, name)
        if isinstance(declared, Key):
            yield here, (value, _digest(value)) if declared.kind.is_file else value
        elif declared.form == "many":
            yield here, tuple(dict(_below(one, "")) for one in value)
        elif value is not None:
            if declared.form == "maybe":
                yield here, True
            yield from _below(value, here)


def _digest(file: Path | None) -> bytes | None:
    try:
        return None if file is None else sha256(file.read_bytes()).digest()
    except OSError:
        return None
