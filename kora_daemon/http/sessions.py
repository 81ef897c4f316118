"""Who is connected, and sending them away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kora_daemon.http.access import Role
from kora_daemon.http.messages import HttpError, Request, Response, json_response
from kora_daemon.http.routes import Route
from kora_daemon.http.status import session_json
from kora_daemon.server.oversight import SessionState
from kora_daemon.server.sync_server import SyncServer

PAGE: Final = 100
MAX_PAGE: Final = 1_000
_MOST: Final = 2**53
_FILTERS: Final = ("user", "node", "address")

Choice = Callable[[SessionState], bool]


def session_routes(server: SyncServer) -> list[Route]:
    """`/__kora/sessions`, `/__kora/sessions/NUMBER/kick` and `/__kora/kick`.

    Query parameters user, node and address choose sessions; more than one of them all have to fit. A list has the
    sessions with numbers above `after`, at most `limit`; `next` is what to ask for after.
    """

    async def list_sessions(request: Request) -> Response:
        chosen, after = _choice(request), request.number("after", 0, _MOST)
        limit = max(1, request.number("limit", PAGE, MAX_PAGE))
        found = [one for one in await server.oversight.sessions() if one.number > after and chosen(one)]
        page = found[:limit]
        more = page[-1].number if len(found) > limit else None
        return json_response(
            200, {"sessions": [session_json(one) for one in page], "matching": len(found), "next": more}
        )

    async def kick_one(request: Request) -> Response:
        number, _, verb = request.path.removeprefix("/__kora/sessions/").partition("/")
        if verb != "kick" or not (number.isascii() and number.isdecimal()) or len(number) > 16:
            raise HttpError(404, "Nothing here: POST /__kora/sessions/NUMBER/kick closes a session")
        if not await server.oversight.kick(lambda one: one.number == int(number), refuse=request.flag("refuse")):
            raise HttpError(404, f"There is no session {number}; /__kora/sessions lists those there are")
        return json_response(200, {"kicked": 1})

    async def kick_many(request: Request) -> Response:
        if not any(request.first(name) for name in _FILTERS):
            raise HttpError(400, f"Say whom: {', '.join(_FILTERS)}")
        kicked = await server.oversight.kick(_choice(request), refuse=request.flag("refuse"))
        return json_response(200, {"kicked": kicked})

    return [
        Route("/__kora/sessions", ("GET",), list_sessions, Role.ADMIN),
        Route("/__kora/sessions", ("POST",), kick_one, Role.ADMIN, below=True),
        Route("/__kora/kick", ("POST",), kick_many, Role.ADMIN),
    ]


def _choice(request: Request) -> Choice:
    wanted = {name: value for name in _FILTERS if (value := request.first(name))}

    def chosen(state: SessionState) -> bool:
        return all(getattr(state, name) == value for name, value in wanted.items())

    return chosen
