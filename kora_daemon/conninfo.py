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
    if "\0" in given:
        raise BadConninfo("a URL or keyword string without NUL, where libpq stops to read")
    try:
        found = conninfo_to_dict(given)
    except psycopg.ProgrammingError as error:
        raise BadConninfo(f"a URL or keyword string of PostgreSQL ({_unquoted(given, str(error))})") from None
    except UnicodeError:
        raise BadConninfo("a URL or keyword string of PostgreSQL in UTF-8") from None
    # What is left of a password after an unescaped character counts as a host, a port or a database.
    place = _place(given)
    if "@" in f"{place}{found.get('host', '')}{found.get('hostaddr', '')}":
        raise BadConninfo("a URL with one @, in front of the host; write @ in a password as %40")
    if any(port and not port.isdecimal() for port in str(found.get("port", "")).split(",")):
        raise BadConninfo("a whole number as port; in a URL, write / and : in a password as %2F and %3A")
    if place.count("/") > 1:
        raise BadConninfo("a URL with one / behind the host; write / in a password as %2F")
    # libpq takes such a name for a connection string of its own.
    database = str(found.get("dbname", ""))
    if "=" in database or "://" in database:
        raise BadConninfo("the name of a database alone as dbname")
    return found


def _place(given: str) -> str:
    """What stands in a URL behind user and password, in front of the parameters; "" for a keyword string."""
    scheme, separator, rest = given.partition("://")
    if not separator or not re.fullmatch("postgres(ql)?", scheme):
        return ""
    user, at, behind = rest.partition("@")
    return (behind if at and "/" not in user else rest).partition("?")[0]


def _unquoted(given: str, words: str) -> str:
    """What libpq says; what it quotes is left out, but for a misspelt parameter where there is no password."""
    words = " ".join(words.split())
    is_harmless = words.startswith("invalid") and "@" not in given and "pass" not in given.lower()
    return words if is_harmless else _QUOTED.sub('"…"', words)
