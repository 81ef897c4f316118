"""One path for people and devices: what answers where an app is served at the path that devices sync through."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from kora_daemon.http.credentials import COOKIE, HEADER, PARAMETER
from kora_daemon.http.messages import Answer, Request, Response
from kora_daemon.http.static_files import is_navigation


def shared_path(app: Answer, sync: Answer) -> Answer:
    """The answer for a path that both share.

    Who sends something or wants a WebSocket syncs, and so does who says which device it is, unless it opens a page.
    Everybody else gets the app.
    """

    async def answer(request: Request) -> Response:
        if request.method not in ("GET", "HEAD") or request.wants_upgrade:
            return await sync(request)
        if names_device(request) and not is_navigation(request):
            return await sync(request)
        return await app(request)

    return answer


def names_device(request: Request) -> bool:
    """Whether a request says which device it is of, as those that poll do (wire.md section 11)."""
    if HEADER in request.headers or PARAMETER in request.query:
        return True
    try:
        return COOKIE in SimpleCookie(request.headers.get("cookie", ""))
    except CookieError:
        return False
