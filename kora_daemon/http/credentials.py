"""Which session a poll is for, and who may have it (wire.md section 11)."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from msgspec import Struct

from kora_daemon.auth.contract import token_digest
from kora_daemon.http.messages import HttpError, Request
from kora_daemon.server.lobby import household

HEADER = "x-kora-session"
PARAMETER = "clientId"
COOKIE = "kora_session"
_IDENTITY = re.compile(r"[!-~]{1,128}")
_COOKIE_BYTES = 32
_HOW = (
    f"Which device is this? Say so in every request, in the header {HEADER} or the query parameter {PARAMETER} of the "
    "sync URL (1 to 128 visible ASCII characters, different ones for each page or process), or send back the cookie of "
    "this answer. Or open a WebSocket here (RFC 6455, version 13)"
)


class Credentials(Struct, frozen=True):
    """What each request of a session presents, the same in all of them.

    `key` names the session. It is made of the identity and the token, and of the address where there is no token. Who
    presents anything else has another key, so nobody gets at, or hears of, a session of others.
    """

    key: bytes
    token: str | None


def read_credentials(request: Request) -> Credentials:
    """What a request presents. Raises HttpError (400) when it does not say which device it is for."""
    identity = _identity(request)
    bearer, query_token = _bearer(request), request.first("token")
    address = household(request.address) if bearer is None and query_token is None else ""
    key = hashlib.sha256(repr((identity, bearer, query_token, address)).encode()).digest()
    return Credentials(key, query_token if bearer is None else bearer)


def require_same_token(credentials: Credentials, auth_token: object) -> None:
    """Raises HttpError when a handshake carries another token than its request, and those to come."""
    if auth_token in (None, "") or (
        isinstance(auth_token, str)
        and credentials.token is not None
        and hmac.compare_digest(token_digest(auth_token), token_digest(credentials.token))
    ):
        return
    text = "Every request has to present the token of the handshake: Authorization: Bearer TOKEN"
    raise HttpError(401, text, **{"www-authenticate": "Bearer"})


def given_identity(request: Request) -> str | None:
    """Which device a request says it is of, whatever it is worth; None when it says nothing."""
    return request.headers.get(HEADER) or request.first(PARAMETER) or _cookie(request)


def _identity(request: Request) -> str:
    given = given_identity(request)
    if given is not None and _IDENTITY.fullmatch(given):
        return given
    raise HttpError(400, _HOW, **{"set-cookie": _new_cookie(request)})


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _cookie(request: Request) -> str | None:
    for pair in request.headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value
    return None


def _new_cookie(request: Request) -> str:
    secure = "; Secure" if request.is_secure else ""
    return f"{COOKIE}={secrets.token_urlsafe(_COOKIE_BYTES)}; Path={request.path}; HttpOnly; SameSite=Strict{secure}"
