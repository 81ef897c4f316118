"""Who may ask for what is not public (config.md, "HTTP surface")."""

from __future__ import annotations

import hmac
import ipaddress
from enum import Enum
from urllib.parse import urlsplit

import structlog
from msgspec import Struct

from kora_daemon.http.messages import HttpError, Request
from kora_daemon.http.sign_in import is_signed_in
from kora_daemon.server.clock import wall_s

log = structlog.get_logger("kora.http")

_FORWARDING = ("x-forwarded-for", "forwarded", "x-real-ip", "via")
_OWN_SITE = ("same-origin", "none")


class Role(Enum):
    """What a token is good for."""

    ADMIN = "admin"
    METRICS = "metrics"
    BACKUP = "backup"
    DATA = "data"


class Tokens(Struct, frozen=True):
    """The tokens of `[admin]`; metrics and backup go by the admin token where they have none of their own."""

    admin: str | None = None
    metrics: str | None = None
    backup: str | None = None
    data: str | None = None

    def of(self, role: Role) -> str | None:
        """The token that opens what this role is about."""
        if role is Role.DATA:
            return self.data
        own = {Role.METRICS: self.metrics, Role.BACKUP: self.backup}.get(role)
        return own or self.admin


class Access:
    """Lets requests through or not. Without a token only this machine may ask, and the data API is off."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self.tokens = tokens or Tokens()

    def require(self, request: Request, role: Role) -> None:
        """Raises HttpError when whoever asks may not."""
        if request.is_local:
            return
        _refuse_other_sites(request)
        token = self.tokens.of(role)
        if token is not None:
            if not _is_bearer(request, token) and not (role is Role.ADMIN and _is_signed_in(request, token)):
                log.warning("http.refused", address=request.address, path=request.path, role=role.value)
                raise HttpError(
                    401,
                    f"This needs the {role.value} token: Authorization: Bearer TOKEN",
                    **{"www-authenticate": "Bearer"},
                )
        elif role is Role.DATA:
            raise HttpError(403, "The data API is off: set admin.data_token")
        elif doubt := _doubt_that_from_here(request):
            names = dict.fromkeys((f"admin.{role.value}_token", "admin.admin_token"))
            raise HttpError(
                403,
                f"Without {' or '.join(names)} only this machine may ask, and {doubt}; set a token and send it, or ask "
                "on the daemon's machine at http://127.0.0.1:PORT, without a proxy",
            )


def _is_bearer(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return hmac.compare_digest(given.strip(" \t").encode("latin-1"), token.encode()) and scheme.lower() == "bearer"


def _is_signed_in(request: Request, token: str) -> bool:
    return is_signed_in(token, request.method, request.headers.get("cookie", ""), wall_s())


def _refuse_other_sites(request: Request) -> None:
    """A page that somebody has open in a browser must not reach what their machine or cookie may (CSRF)."""
    if request.headers.get("sec-fetch-site", "none") not in _OWN_SITE:
        raise HttpError(403, "Pages of other sites may not ask for this")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise HttpError(403, "Pages of other sites may not ask for this")


def _doubt_that_from_here(request: Request) -> str | None:
    """Why somebody else may have a part in it: a proxy, trusted or not, or a name that may be anybody's."""
    if request.is_proxied or any(name in request.headers for name in _FORWARDING):
        return "this came through a proxy"
    if not _is_loopback(request.address):
        return "this came from another address than 127.0.0.1 or ::1"
    try:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        name = ""
    if name == "localhost" or _is_loopback(name):
        return None
    return "the Host header names neither localhost nor a loopback address"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
