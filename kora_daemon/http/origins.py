"""Which web pages may connect from a browser: `Origin` of WebSockets and polls, and CORS for the latter."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from kora_daemon.http.credentials import HEADER
from kora_daemon.http.messages import HttpError, Request, Response

ANY = "*"
PREFLIGHT_KEPT_S = 7_200
"""Browsers keep the answer to a preflight no longer than this."""
_Headers = tuple[tuple[str, str], ...]

log = structlog.get_logger("kora.http")


class Origins:
    """`server.allowed_origins`. A page of the server's own host may always connect, and so may what is no browser."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed = frozenset(allowed)

    def let_upgrade(self, request: Request) -> bool:
        """Whether a WebSocket may be opened: by any page as long as none are named; the token protects (wire.md)."""
        return not self.allowed or self._lets(request)

    def answer(self, request: Request) -> _Headers:
        """What lets a page of another origin read an answer. Raises HttpError (403) where none may."""
        origin = request.headers.get("origin")
        if origin is None or _is_own(request):
            return self._varies
        if not self._lets(request):
            log.warning("http.origin_refused", address=request.address, origin=origin[:128])
            raise HttpError(403, "Pages of this origin may not connect: name it in server.allowed_origins")
        if ANY in self.allowed and origin not in self.allowed:
            return (("access-control-allow-origin", ANY), ("access-control-expose-headers", "etag"))
        return (
            *self._varies,
            ("access-control-allow-origin", origin),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", "etag"),
        )

    def preflight(self) -> Response:
        """The answer to a browser that asks what its page may send; `answer` says whether it may anything."""
        headers = (
            ("access-control-allow-methods", "GET, POST"),
            ("access-control-allow-headers", f"authorization, content-type, if-none-match, {HEADER}"),
            ("access-control-max-age", str(PREFLIGHT_KEPT_S)),
        )
        return Response(204, content_type="", headers=headers)

    @property
    def _varies(self) -> _Headers:
        return (("vary", "origin"),) if self.allowed else ()

    def _lets(self, request: Request) -> bool:
        origin = request.headers.get("origin")
        return origin is None or ANY in self.allowed or origin in self.allowed or _is_own(request)


def _is_own(request: Request) -> bool:
    """Whether the page comes from here. Browsers tell, also through proxies that pass on another `Host`."""
    if request.headers.get("sec-fetch-site") == "same-origin":
        return True
    return request.headers.get("origin", "").partition("://")[2] == request.headers.get("host")
