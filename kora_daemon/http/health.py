"""Whether the daemon is alive (config.md, "HTTP surface")."""

from __future__ import annotations

import trio

from kora_daemon.errors import StoreError
from kora_daemon.http.messages import Request, Response, json_response
from kora_daemon.http.routes import Route
from kora_daemon.server.clock import wall_ms
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.version import VERSION

STORE_ANSWER_TIMEOUT_S = 5.0


def health_route(server: SyncServer) -> Route:
    """`/health`: 200 with some numbers, or 503 with a reason in words for everybody; the log has the details."""

    async def answer(_request: Request) -> Response:
        reason = await _trouble(server)
        if reason is not None:
            return json_response(503, {"status": "unavailable", "reason": reason, "version": VERSION})
        status = server.get_status()
        return json_response(
            200,
            {
                "status": "ok",
                "version": VERSION,
                "uptime": status.uptime_s,
                "connectedClients": status.connected_clients,
                "totalOperations": status.total_operations,
                "timestamp": wall_ms(),
            },
        )

    return Route("/health", ("GET",), answer)


async def _trouble(server: SyncServer) -> str | None:
    if server.store_failure is not None:
        return "the store does not take writes"
    try:
        with trio.fail_after(STORE_ANSWER_TIMEOUT_S):
            await server.check_store()
    except (StoreError, trio.TooSlowError):
        return "the store does not answer"
    return None
