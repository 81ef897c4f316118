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
from kora_daemon.http.messages import Answer
from kora_daemon.http.metrics import metrics_route
from kora_daemon.http.origins import Origins
from kora_daemon.http.own_routes import OwnRoutes
from kora_daemon.http.polling import PollingEndpoint
from kora_daemon.http.ready import ready_route
from kora_daemon.http.routes import Route, Routes
from kora_daemon.http.sessions import session_routes
from kora_daemon.http.static_files import AppFiles
from kora_daemon.http.status import StatusBoard, status_route
from kora_daemon.http.tail import tail_route
from kora_daemon.server.polling_sessions import PollingSessions
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
    board, origins = StatusBoard(server), Origins()
    polling = PollingEndpoint(PollingSessions(server), origins)
    routes = [
        _sync_route(sync_path, polling.answer, extras.app),
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
    return Routes(access, routes, sync_path, origins)


def _sync_route(path: str, polling: Answer, app: AppFiles | None) -> Route:
    answer = polling if app is None or path != "/" else shared_path(app.answer, polling)
    return Route(path, ("GET", "POST", "OPTIONS"), answer)
