"""Reading the configuration again, for whoever may ask for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct

from kora_daemon.http.access import Role
from kora_daemon.http.messages import Request, Response
from kora_daemon.http.routes import Route


def reload_route(reload: Callable[[], Awaitable[Struct]]) -> Route:
    """`POST /__kora/reload`: what has come of it, as `kora_daemon.reload` tells it; problems are no error here."""

    async def answer(_request: Request) -> Response:
        return Response(200, msgspec.json.encode(await reload()), "application/json")

    return Route("/__kora/reload", ("POST",), answer, Role.ADMIN)
