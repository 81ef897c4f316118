"""The HTTP surface (config.md): what is answered under which path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from kora_daemon.errors import StoreError
from kora_daemon.server.clock import wall_ms
from kora_daemon.server.http import Request, Response, json_response, text_response
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.version import VERSION

STORE_ANSWER_TIMEOUT_S = 5.0


class Routes:
    """Answers plain requests. `path` is where WebSockets are welcome."""

    def __init__(self, server: SyncServer, path: str) -> None:
        self._server = server
        self._path = path
        self._paths: dict[str, tuple[tuple[str, ...], Callable[[], Awaitable[Response]]]] = {
            "/health": (("GET", "HEAD"), self._health),
            path: (("GET",), self._only_websockets),
        }

    def accepts_upgrade(self, request: Request) -> bool:
        """Whether a WebSocket may be opened here; a malformed upgrade is answered like a plain request."""
        return (
            request.path == self._path
            and request.method == "GET"
            and request.headers.get("sec-websocket-version") == "13"
            and "sec-websocket-key" in request.headers
        )

    async def answer(self, request: Request) -> Response:
        """The answer to a plain request."""
        methods, handler = self._paths.get(request.path, ((), None))
        if handler is None:
            return text_response(
                404, f"Nothing here. Devices connect to {self._path}, /health tells how this server is"
            )
        if request.method not in methods:
            return text_response(405, f"{request.method} is not possible here", allow=", ".join(methods))
        return await handler()

    async def _only_websockets(self) -> Response:
        text = "This is a Kora sync endpoint: open a WebSocket (RFC 6455, version 13) here"
        return text_response(426, text, upgrade="websocket", connection="Upgrade", **{"sec-websocket-version": "13"})

    async def _health(self) -> Response:
        reason = await self._trouble()
        if reason is not None:
            return json_response(503, {"status": "unavailable", "reason": reason, "version": VERSION})
        status = self._server.get_status()
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

    async def _trouble(self) -> str | None:
        """Why the store does not answer, in words for everybody; the log has the details."""
        if self._server.store_failure is not None:
            return "the store does not take writes"
        try:
            with trio.fail_after(STORE_ANSWER_TIMEOUT_S):
                await self._server.check_store()
        except (StoreError, trio.TooSlowError):
            return "the store does not answer"
        return None
