"""The dashboard: a page that shows what `events` tells, and how a browser signs in to it (config.md, "HTTP surface").

A page can't send a bearer token with what it loads, so a browser trades the token for a cookie that is good for looking
only. Everything the page needs is inside it; its policy lets nothing else in.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from kora_daemon.http.access import Access, Role
from kora_daemon.http.messages import HttpError, Request, Response
from kora_daemon.http.routes import Route
from kora_daemon.http.sign_in import COOKIE, LIFETIME_S, cookie_value
from kora_daemon.server.clock import wall_s

PATH = "/__kora"


def dashboard_routes(access: Access) -> list[Route]:
    """`/__kora`, and signing in and out."""
    dashboard, sign_in = _page("dashboard"), _page("sign_in")

    async def page(request: Request) -> Response:
        try:
            access.require(request, Role.ADMIN)
        except HttpError as error:
            if error.status != 401:
                raise
            return Response(401, sign_in.body, sign_in.content_type, sign_in.headers)
        return dashboard

    async def enter(request: Request) -> Response:
        token = access.tokens.of(Role.ADMIN)
        value = "" if token is None else cookie_value(token, wall_s() + LIFETIME_S)
        return Response(204, content_type="", headers=(_cookie(request, value, LIFETIME_S),))

    async def leave(request: Request) -> Response:
        return Response(204, content_type="", headers=(_cookie(request, "", 0),))

    return [
        Route(PATH, ("GET",), page),
        Route(f"{PATH}/sign-in", ("POST",), enter, Role.ADMIN),
        Route(f"{PATH}/sign-out", ("POST",), leave),
    ]


def _cookie(request: Request, value: str, lifetime_s: int) -> tuple[str, str]:
    secure = "; Secure" if request.is_secure else ""
    return "set-cookie", f"{COOKIE}={value}; Path={PATH}; Max-Age={lifetime_s}; HttpOnly; SameSite=Strict{secure}"


def _page(name: str) -> Response:
    folder = files(__package__) / "pages"
    style, script = (folder / "dashboard.css").read_text(), (folder / f"{name}.js").read_text()
    text = (folder / f"{name}.html").read_text()
    text = text.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (("content-security-policy", policy), ("referrer-policy", "no-referrer"))
    return Response(200, text.encode(), "text/html; charset=utf-8", headers)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
