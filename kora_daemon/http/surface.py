"""Everything the daemon answers over HTTP, put together."""

from __future__ import annotations

from kora_daemon.http.access import Access
from kora_daemon.http.backup import ImportOptions, backup_routes
from kora_daemon.http.dashboard import dashboard_routes
from kora_daemon.http.data import data_routes
from kora_daemon.http.events import events_route
from kora_daemon.http.explain import explain_route
from kora_daemon.http.health import health_route
from kora_daemon.http.messages import Request, Response, text_response
from kora_daemon.http.metrics import metrics_route
from kora_daemon.http.ready import ready_route
from kora_daemon.http.routes import Route, Routes
from kora_daemon.http.sessions import session_routes
from kora_daemon.http.status import StatusBoard, status_route
from kora_daemon.http.tail import tail_route
from kora_daemon.server.sync_server import SyncServer


def surface(
    server: SyncServer, sync_path: str, access: Access | None = None, imports: ImportOptions | None = None
) -> Routes:
    """The routes of a daemon whose devices connect to `sync_path`."""
    access = access or Access()
    board = StatusBoard(server)
    routes = [
        Route(sync_path, ("GET",), _only_websockets),
        health_route(server),
        ready_route(server),
        status_route(board),
        *session_routes(server),
        events_route(server, board),
        tail_route(server),
        explain_route(server),
        metrics_route(server),
        *dashboard_routes(access),
        *backup_routes(server, imports or ImportOptions()),
        *data_routes(server),
    ]
    return Routes(access, routes, sync_path)


async def _only_websockets(_request: Request) -> Response:
    text = "This is a Kora sync endpoint: open a WebSocket (RFC 6455, version 13) here"
    return text_response(426, text, upgrade="websocket", connection="Upgrade", **{"sec-websocket-version": "13"})
