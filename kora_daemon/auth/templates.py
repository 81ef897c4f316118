"""Scope templates (auth.md section 6): a table of the file and somebody's claims become their scopes.

A claim that is missing makes authentication fail, or hides the collection where the placeholder says so with `?`. It
never turns into "no restriction".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from kora_daemon.auth.claims import MISSING, BadPath, ClaimPath, Claims, claim_at, is_value, parse_path, same_claim
from kora_daemon.model.scope import ScopeMap

_PART = re.compile(r"(?P<open>\{\{)|(?P<close>\}\})|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])|(?P<text>[^{}]+)")
_LARGEST_INTEGER = 2**53
"""Above it JavaScript's numbers are no integers any more, and are written otherwise."""


class BadTemplate(ValueError):
    """A template that means nothing."""


class ScopesRefused(Exception):
    """These claims give no scopes: nobody gets in by them. The text is for the log."""


class Placeholder(Struct, frozen=True):
    """A claim to be put in; `optional`: without it the collection is hidden."""

    path: ClaimPath
    optional: bool


class Template(Struct, frozen=True):
    """A value of a scope table: texts and claims in turn, or a literal that is no text."""

    parts: tuple[str | Placeholder, ...] = ()
    literal: Any = None


def parse_template(value: object) -> Template:
    """A value of a scope table. Raises BadTemplate."""
    if not isinstance(value, str) or not value:
        return Template(literal=value)
    parts = [_part(found, value) for found in _PART.finditer(value)]
    return Template(parts=tuple(parts))


def _part(found: re.Match[str], value: str) -> str | Placeholder:
    if found["open"] or found["close"]:
        return found[0][0]
    if found["stray"]:
        raise BadTemplate(f"found {value!r}, expected a closed {{placeholder}}; {{{{ and }}}} are literal braces")
    if found["text"] is not None:
        return found["text"]
    name = found["name"]
    try:
        return Placeholder(parse_path(name.removesuffix("?")), optional=name.endswith("?"))
    except BadPath as error:
        raise BadTemplate(f"in {value!r}: {error}") from None


_HIDDEN = object()


def render(template: Template, claims: Claims) -> Any:  # noqa: ANN401  a JSON value
    """The value for these claims, or `_HIDDEN`. Raises ScopesRefused."""
    if not template.parts:
        return template.literal
    if len(template.parts) == 1 and isinstance(template.parts[0], Placeholder):
        return _scalar(template.parts[0], claims)
    texts = [part if isinstance(part, str) else _text(part, claims) for part in template.parts]
    return _HIDDEN if any(text is _HIDDEN for text in texts) else "".join(texts)


def _scalar(placeholder: Placeholder, claims: Claims) -> Any:  # noqa: ANN401  a JSON value
    claim = claim_at(claims, placeholder.path)
    if claim is MISSING or claim is None:
        if placeholder.optional:
            return _HIDDEN
        raise ScopesRefused(f"the claim {'/'.join(placeholder.path)!r} is missing")
    if is_value(claim):
        return claim
    what = "empty" if claim == "" else "no text, number, true or false"
    raise ScopesRefused(f"the claim {'/'.join(placeholder.path)!r} is {what}")


def _text(placeholder: Placeholder, claims: Claims) -> Any:  # noqa: ANN401  a text or _HIDDEN
    value = _scalar(placeholder, claims)
    if value is _HIDDEN or isinstance(value, str):
        return value
    whole = not isinstance(value, bool) and value == math.floor(value) and abs(value) <= _LARGEST_INTEGER
    if not whole:
        raise ScopesRefused(
            f"the claim {'/'.join(placeholder.path)!r} is no text or integer, so it can't be part of one"
        )
    return str(int(value))


class ScopeTable(Struct, frozen=True):
    """A scope table, read."""

    collections: Mapping[str, Mapping[str, Template]]

    def scopes(self, claims: Claims) -> ScopeMap:
        """The scopes for these claims. Raises ScopesRefused."""
        rendered = {
            name: {field: render(template, claims) for field, template in fields.items()}
            for name, fields in self.collections.items()
        }
        return {
            name: fields for name, fields in rendered.items() if not any(value is _HIDDEN for value in fields.values())
        }


def parse_table(table: ScopeMap) -> ScopeTable:
    """Read a scope table. Raises BadTemplate."""
    return ScopeTable(
        {name: {field: parse_template(value) for field, value in fields.items()} for name, fields in table.items()}
    )


class Grant(Struct, frozen=True):
    """A table for those whose claims match: at each path one of the values, or a list with one of them in it."""

    when: tuple[tuple[ClaimPath, tuple[Any, ...]], ...]
    table: ScopeTable

    def matches(self, claims: Claims) -> bool:
        """Whether all of it matches."""
        return all(_is_one_of(claim_at(claims, path), values) for path, values in self.when)


def parse_grant(when: Mapping[str, Any], table: ScopeMap) -> Grant:
    """Read a grant. Raises BadTemplate and BadPath."""
    conditions = [
        (parse_path(path), tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,))
        for path, wanted in when.items()
    ]
    return Grant(tuple(conditions), parse_table(table))


def _is_one_of(claim: object, values: Sequence[object]) -> bool:
    if claim is MISSING or claim is None:
        return False
    claimed: Iterable[object] = claim if isinstance(claim, list | tuple) else (claim,)
    return any(same_claim(one, value) for one in claimed for value in values)
