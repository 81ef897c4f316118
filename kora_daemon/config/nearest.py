"""The names there are, and the nearest of them for a misspelt one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache

from kora_daemon.config.keys import environment_name, is_overridable, walk
from kora_daemon.config.settings import Settings

_ALIKE = 0.7
"""How alike two names are when one is a slip of the other, as difflib counts."""


@cache
def _paths() -> tuple[str, ...]:
    return tuple(path for path, _ in walk(Settings))


@cache
def variables() -> frozenset[str]:
    """Every environment variable that overrides something."""
    return frozenset(
        name for path, one in walk(Settings) if is_overridable(one) and (name := environment_name(path)) is not None
    )


def nearest_name(unknown: str, names: Iterable[str]) -> str | None:
    """The most similar of some names, None when none is similar enough."""
    close = get_close_matches(unknown, names, n=1, cutoff=_ALIKE)
    return close[0] if close else None


def nearest_key(unknown: str) -> str:
    """A half sentence that helps with an unknown path: the nearest valid one, or the names that fit its table."""
    if nearest := _nearest(unknown):
        return f"did you mean {nearest}?"
    return f"expected one of {', '.join(_names_in(unknown.rpartition('.')[0]))}"


def nearest_variable(unknown: str) -> str:
    """The same for an environment variable."""
    nearest = _nearest(unknown.removeprefix("KORA_").lower().replace("__", "."))
    variable = environment_name(nearest) if nearest else None
    if variable in variables():
        return f"did you mean {variable}?"
    return "a variable is KORA_<TABLE>__<KEY>, such as KORA_SERVER__PORT"


def _nearest(unknown: str) -> str | None:
    """The path with the most similar name: in the same table, else in any other."""
    parent, _, name = unknown.rpartition(".")
    if close := nearest_name(name, _names_in(parent)):
        return f"{parent}.{close}" if parent else close
    places = {path.rpartition(".")[2]: path for path in reversed(_paths())}
    close = nearest_name(name, places)
    return places[close] if close else None


def _names_in(parent: str) -> list[str]:
    table = re.sub(r"\[\d+]", "[]", parent)
    return [name for head, _, name in (path.rpartition(".") for path in _paths()) if head == table]
