"""What libpq understands by a connection string, and why it can't be used. No complaint repeats any of a password."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

_QUOTED = re.compile(r'(?s)".*"')


class BadConninfo(ValueError):
    """Not a connection string; the text completes "expected …"."""


def parameters(given: str) -> dict[str, Any]:
    """The parameters of a URL or keyword string. Raises BadConninfo."""
    try:
        found = conninfo_to_dict(given)
    except psycopg.ProgrammingError as error:
        raise BadConninfo(f"a URL or keyword string of PostgreSQL ({_unquoted(given, str(error))})") from None
    # What is left of a password after an unescaped character counts as a host, a port or a database.
    place = f"{found.get('host', '')}{found.get('hostaddr', '')}"
    if "@" in place or _has_second_at(given):
        raise BadConninfo("a URL with one @, in front of the host; write @ in a password as %40")
    if any(port and not port.isdecimal() for port in str(found.get("port", "")).split(",")):
        raise BadConninfo("a whole number as port; in a URL, write / and : in a password as %2F and %3A")
    if set("=/") & set(str(found.get("dbname", ""))):
        raise BadConninfo("the name of a database alone as dbname; write / in a password of a URL as %2F")
    return found


def _has_second_at(given: str) -> bool:
    """Whether an @ stands behind the user and password of a URL, in front of its parameters."""
    scheme, separator, rest = given.partition("://")
    if not separator or not re.fullmatch("postgres(ql)?", scheme):
        return False
    user, at, place = rest.partition("@")
    return "@" in (place if at and "/" not in user else rest).partition("?")[0]


def _unquoted(given: str, words: str) -> str:
    """What libpq says; what it quotes is left out, but for a misspelt parameter where there is no password."""
    words = " ".join(words.split())
    is_harmless = words.startswith("invalid") and "@" not in given and "pass" not in given.lower()
    return words if is_harmless else _QUOTED.sub('"…"', words)
