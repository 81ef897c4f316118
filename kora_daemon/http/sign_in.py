"""The cookie of a browser that has shown the admin token: good for looking, for some hours, and not the token itself.

Nothing is kept here: the cookie carries its end and a signature made with the token. Another token, or the end, and it
is good for nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

COOKIE: Final = "kora_dashboard"
LIFETIME_S: Final = 12 * 3600
_LOOKING: Final = ("GET", "HEAD")


def cookie_value(token: str, ends_at_s: float) -> str:
    """What a browser gets that has shown the token; `ends_at_s` is in seconds since the epoch."""
    end = str(int(ends_at_s))
    return f"{end}.{_signature(token, end)}"


def is_signed_in(token: str, method: str, cookies: str, now_s: float) -> bool:
    """Whether the Cookie header of a request lets it look, at a time in seconds since the epoch."""
    if method not in _LOOKING:
        return False
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        end, _, signature = value.partition(".")
        if name == COOKIE and end.isascii() and end.isdecimal() and len(end) <= 12:
            return hmac.compare_digest(signature.encode(), _signature(token, end).encode()) and now_s < int(end)
    return False


def _signature(token: str, end: str) -> str:
    return hmac.new(token.encode(), f"kora dashboard until {end}".encode(), hashlib.sha256).hexdigest()
