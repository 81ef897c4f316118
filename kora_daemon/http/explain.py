"""Why an operation was or was not delivered to a device."""

from __future__ import annotations

import msgspec

from kora_daemon.http.access import Role
from kora_daemon.http.messages import HttpError, Request, Response
from kora_daemon.http.routes import Route
from kora_daemon.server.sync_server import SyncServer


def explain_route(server: SyncServer) -> Route:
    """`/__kora/explain?node=N&op=ID`: see `server.explain`; it names values of records."""

    async def answer(request: Request) -> Response:
        node, operation = request.first("node"), request.first("op")
        if not node or not operation:
            raise HttpError(400, "Say which device and which operation: /__kora/explain?node=NODE&op=ID")
        explanation = await server.explain(node, operation)
        return Response(200, msgspec.json.encode(explanation), "application/json")

    return Route("/__kora/explain", ("GET",), answer, Role.ADMIN)
