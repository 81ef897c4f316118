"""Python callables that the configuration names as "package.module:function"."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kora_daemon.errors import ConfigError


def load_hook(path: str, name: str, folder: Path, takes: tuple[str, ...]) -> Callable[..., Any]:
    """The callable `name`; `path` is the key in the configuration, `folder` where modules are looked for first.

    Raises ConfigError when there is none that can be called with as many arguments as `takes` has names. Runs the
    module's code.
    """
    module_name, _, function = name.partition(":")
    place = str(folder)
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        found: Any = importlib.import_module(module_name)
        for part in function.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError([f"{path}: {name!r} can't be loaded from {place}: {reason}"]) from error
    if not callable(found):
        raise ConfigError([f"{path}: {name!r} is a {type(found).__name__}, expected a callable"])
    if (parameters := _unfit_parameters(found, len(takes))) is not None:
        raise ConfigError([f"{path}: {name!r} takes {parameters}, expected ({', '.join(takes)})"])
    return found  # type: ignore[no-any-return]


def _unfit_parameters(found: Callable[..., Any], count: int) -> str | None:
    """The parameters of a callable that can't be called with so many arguments, None for one that can."""
    try:
        # What a decorator wraps may take more: the decorator is what is called.
        signature = inspect.signature(found, follow_wrapped=False)
    except (TypeError, ValueError):  # some of those written in C don't say
        return None
    try:
        signature.bind(*range(count))
    except TypeError:
        return str(signature.replace(return_annotation=inspect.Signature.empty))
    return None
