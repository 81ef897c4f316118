"""`${NAME}` and `${NAME:-default}` inside the file's strings."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?P<literal>\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")


class Unresolved(Exception):
    """A reference that stands for nothing; the text says which one and what to do."""


def has_reference(value: object) -> bool:
    """Whether a TOML value refers to the environment anywhere."""
    if isinstance(value, dict):
        return any(has_reference(one) for one in value.values())
    if isinstance(value, list):
        return any(has_reference(one) for one in value)
    return isinstance(value, str) and any(not found["literal"] for found in _REFERENCE.finditer(value))


def interpolate(value: object, environ: Mapping[str, str]) -> object:
    """The TOML value with every reference replaced; `$${` is a literal `${`.

    As in a shell, the default after `:-` counts for an unset and for an empty variable. Raises `Unresolved` for an
    unset one without default and for a `${` that begins no reference.
    """
    if isinstance(value, dict):
        return {name: interpolate(one, environ) for name, one in value.items()}
    if isinstance(value, list):
        return [interpolate(one, environ) for one in value]
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: _replacement(found, environ), value)
    return value


def _replacement(found: re.Match[str], environ: Mapping[str, str]) -> str:
    name, default = found["name"], found["default"]
    if found["literal"]:
        return "${"
    if name is None:
        raise Unresolved("found ${ that begins no ${NAME}, expected a name and a closing brace ($${ is a literal ${)")
    if default is not None:
        return environ.get(name) or default.removeprefix(":-")
    if name not in environ:
        raise Unresolved(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return environ[name]
