"""One path for people and devices: what answers where an app is served at the path that devices sync through."""

from __future__ import annotations

from kora_daemon.http.credentials import given_identity
from kora_daemon.http.messages import Answer, Request, Response
from kora_daemon.http.polling import PROTOBUF
from kora_daemon.http.static_files import is_navigation


def shared_path(app: Answer, sync: Answer) -> Answer:
    """The answer for a path that both share.

    Who sends something or wants a WebSocket syncs, and so does who says which device it is or asks for messages, unless
    it opens a page. Everybody else gets the app.
    """

    async def answer(request: Request) -> Response:
        if request.method not in ("GET", "HEAD") or request.wants_upgrade:
            return await sync(request)
        if _polls(request) and not is_navigation(request):
            return await sync(request)
        return await app(request)

    return answer


def _polls(request: Request) -> bool:
    # A stock client that polls says what it takes from its first request on, and who it is once it has been told how.
    return given_identity(request) is not None or PROTOBUF in request.headers.get("accept", "")
