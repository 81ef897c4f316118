"""`${NAME}` and `${NAME:-default}` inside the file's strings: from the environment, or a credential of systemd's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_REFERENCE = re.compile(r"\$(?P<literal>\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")


class Unresolved(Exception):
    """A reference that stands for nothing; the text says which one and what to do."""


def has_reference(value: object) -> bool:
    """Whether a TOML value refers to something outside the file anywhere."""
    if isinstance(value, dict):
        return any(has_reference(one) for one in value.values())
    if isinstance(value, list):
        return any(has_reference(one) for one in value)
    return isinstance(value, str) and any(not found["literal"] for found in _REFERENCE.finditer(value))


def interpolate(value: object, environ: Mapping[str, str]) -> object:
    """The TOML value with every reference replaced; `$${` is a literal `${`.

    A name that is not in the environment may be that of a credential: a file in `$CREDENTIALS_DIRECTORY`, of which one
    newline at the end is left out. As in a shell, the default after `:-` counts for an unset and for an empty one.
    Raises `Unresolved` for all unset ones without default together, and for a `${` that begins no reference.
    """
    unset: dict[str, None] = {}
    found = _filled_in(value, environ, unset)
    if unset:
        raise Unresolved(_unset_sentence(list(unset), environ))
    return found


def _filled_in(value: object, environ: Mapping[str, str], unset: dict[str, None]) -> object:
    if isinstance(value, dict):
        return {name: _filled_in(one, environ, unset) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled_in(one, environ, unset) for one in value]
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: _replacement(found, environ, unset), value)
    return value


def _replacement(found: re.Match[str], environ: Mapping[str, str], unset: dict[str, None]) -> str:
    name, default = found["name"], found["default"]
    if found["literal"]:
        return "${"
    if name is None:
        raise Unresolved("found ${ that begins no ${NAME}, expected a name and a closing brace ($${ is a literal ${)")
    value = environ.get(name)
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if folder and (value is None or (default is not None and not value)):
        value = _credential(name, folder)
    if default is not None:
        return value or default.removeprefix(":-")
    if value is None:
        unset[name] = None
        return ""
    return value


def _unset_sentence(names: list[str], environ: Mapping[str, str]) -> str:
    has_credentials = bool(environ.get("CREDENTIALS_DIRECTORY"))
    if len(names) == 1:
        also = ", nor is there a credential of that name" if has_credentials else ""
        return f"the environment variable {names[0]} is not set{also}; set it, or write ${{{names[0]}:-default}}"
    also = ", nor are there credentials of these names" if has_credentials else ""
    return (
        f"the environment variables {', '.join(names)} are not set{also}; set them, or write ${{{names[0]}:-default}}"
    )


def _credential(name: str, folder: str) -> str | None:
    """What systemd hands over under this name (`LoadCredential=`), None for nothing. No error shows any of it."""
    try:
        return Path(folder, name).read_bytes().decode().removesuffix("\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unresolved(f"the credential {name} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unresolved(f"the credential {name} is not UTF-8, expected a secret as text") from None
