"""Claims by path: dotted, or a JSON pointer (RFC 6901) when it starts with a slash."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from kora_daemon.model.jsvalue import has_lone_surrogate

Claims = Mapping[str, Any]
ClaimPath = tuple[str, ...]

MISSING: Final = object()
"""What is at a path that leads nowhere; null is something else."""

_BAD_ESCAPE = re.compile(r"~(?![01])")


class BadPath(ValueError):
    """A text that is no path of a claim."""


def parse_path(text: str) -> ClaimPath:
    """The names on the way. Dots always split; a name with a dot takes a pointer. Raises BadPath."""
    if not text:
        raise BadPath("found an empty path, expected the name of a claim")
    if not text.startswith("/"):
        names = tuple(text.split("."))
        if "" in names:
            raise BadPath(f"found {text!r}, expected names between the dots")
        return names
    if _BAD_ESCAPE.search(text):
        raise BadPath(f"found {text!r}, expected ~0 for ~ and ~1 for / in a JSON pointer")
    return tuple(name.replace("~1", "/").replace("~0", "~") for name in text[1:].split("/"))


def claim_at(claims: Claims, path: ClaimPath) -> Any:  # noqa: ANN401  a claim may be anything
    """The claim at the end of the path, or MISSING. Only objects are gone into; lists have no names."""
    here: Any = claims
    for name in path:
        if not isinstance(here, Mapping) or name not in here:
            return MISSING
        here = here[name]
    return here


def same_claim(claim: object, wanted: object) -> bool:
    """Whether a claim is the wanted value, by JSON's types: true is not 1."""
    return claim == wanted and isinstance(claim, bool) == isinstance(wanted, bool)


def is_value(claim: object) -> bool:
    """Whether records can be told apart by a claim: a text of whole characters, a finite number, true or false."""
    if isinstance(claim, float):
        return math.isfinite(claim)
    return isinstance(claim, int) or (isinstance(claim, str) and claim != "" and not has_lone_surrogate(claim))
