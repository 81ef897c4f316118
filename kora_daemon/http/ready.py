"""Whether devices should be sent to this daemon (config.md, "HTTP surface")."""

from __future__ import annotations

import trio

from kora_daemon.http.connection import COME_AGAIN_S
from kora_daemon.http.messages import Request, Response, json_response
from kora_daemon.http.routes import Route
from kora_daemon.server.sync_server import SyncServer

PROOF_TIMEOUT_S = 5.0
PROVED_WITHIN_S = 5.0
"""A daemon without traffic writes a few bytes so often at most, however many ask."""


def ready_route(server: SyncServer) -> Route:
    """`/ready`: 200, or 503 with a reason in words for everybody. Before migrations are done nobody listens here."""

    async def answer(_request: Request) -> Response:
        reason = await trouble(server)
        if reason is None:
            return json_response(200, {"status": "ready"})
        return json_response(503, {"status": "not ready", "reason": reason}, **{"retry-after": str(COME_AGAIN_S)})

    return Route("/ready", ("GET",), answer)


async def trouble(server: SyncServer) -> str | None:
    """Why a server should not be sent any devices, None when it should."""
    if server.draining:
        return "it is shutting down"
    with trio.move_on_after(PROOF_TIMEOUT_S) as proving:
        await server.writer.prove(PROVED_WITHIN_S)
    if proving.cancelled_caught or server.draining:
        return "it is shutting down" if server.draining else "the store does not answer"
    return None if server.store_failure is None else "the store does not take writes"
