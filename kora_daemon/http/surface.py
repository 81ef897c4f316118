"""Everything the daemon answers over HTTP, put together."""

from __future__ import annotations

from msgspec import Struct

from kora_daemon.http.access import Access
from kora_daemon.http.backup import ImportOptions, backup_routes
from kora_daemon.http.dashboard import dashboard_routes
from kora_daemon.http.data import data_routes
from kora_daemon.http.events import events_route
from kora_daemon.http.explain import explain_route
from kora_daemon.http.front_page import shared_path
from kora_daemon.http.health import health_route
from kora_daemon.http.messages import Request, Response, text_response
from kora_daemon.http.metrics import metrics_route
from kora_daemon.http.own_routes import OwnRoutes
from kora_daemon.http.ready import ready_route
from kora_daemon.http.routes import Route, Routes
from kora_daemon.http.sessions import session_routes
from kora_daemon.http.static_files import AppFiles
from kora_daemon.http.status import StatusBoard, status_route
from kora_daemon.http.tail import tail_route
from kora_daemon.server.sync_server import SyncServer


class Extras(Struct, frozen=True):
    """What a surface may have besides: how backups are taken in, a built app, endpoints of the user's own."""

    imports: ImportOptions = ImportOptions()
    app: AppFiles | None = None
    own: OwnRoutes | None = None


def surface(server: SyncServer, sync_path: str, access: Access | None = None, extras: Extras | None = None) -> Routes:
    """The routes of a daemon whose devices connect to `sync_path`."""
    extras = extras or Extras()
    access = access or Access()
    board = StatusBoard(server)
    routes = [
        _sync_route(sync_path, extras.app),
        health_route(server),
        ready_route(server),
        status_route(board),
        *session_routes(server),
        events_route(server, board),
        tail_route(server),
        explain_route(server),
        metrics_route(server),
        *dashboard_routes(access),
        *backup_routes(server, extras.imports),
        *data_routes(server),
        *([] if extras.own is None else extras.own.routes()),
    ]
    if extras.app is not None:
        routes.append(Route("/", ("GET",), extras.app.answer, below=True))
    return Routes(access, routes, sync_path)


def _sync_route(path: str, app: AppFiles | None) -> Route:
    answer = _only_websockets if app is None or path != "/" else shared_path(app.answer, _only_websockets)
    return Route(path, ("GET",), answer)


async def _only_websockets(_request: Request) -> Response:
    text = "This is a Kora sync endpoint: open a WebSocket (RFC 6455, version 13) here"
    return text_response(426, text, upgrade="websocket", connection="Upgrade", **{"sec-websocket-version": "13"})
