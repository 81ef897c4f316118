"""The composition root: the one place that knows which store, provider and listener belong together, and their order.

    trio.run(serve)
    └ core          store opened; writer, hub, presence, housekeeping     (SyncServer)
      └ connections one task and its children for each peer
        └ front     listeners, signals

Opened outside-in, closed inside-out: stop accepting, let sessions finish, commit and acknowledge what the writer holds,
close the store.
"""

from __future__ import annotations

import faulthandler
import gc
import ipaddress
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import structlog
import trio

from kora_daemon.activation import inherited_sockets
from kora_daemon.config import Settings
from kora_daemon.errors import ListenError
from kora_daemon.http.access import Access
from kora_daemon.http.control_socket import serve_control_socket
from kora_daemon.http.listener import Listener, addresses
from kora_daemon.http.own_routes import OwnRoutes
from kora_daemon.http.reload import reload_route
from kora_daemon.http.routes import Routes
from kora_daemon.http.surface import Extras, surface
from kora_daemon.log import configure as configure_log
from kora_daemon.options import app_files, import_options, listener_options, server_options, tokens
from kora_daemon.parts import build_auth, build_blobs, build_store, load_parts
from kora_daemon.reload import Reloader
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.service_manager import ServiceManager
from kora_daemon.store_lock import serving
from kora_daemon.supervision import Supervision
from kora_daemon.version import VERSION

log = structlog.get_logger("kora.daemon")

CALLS_GRACE_S = 2.0
"""For calls of the app's own to end before sessions do; they may go on until the store closes."""

OnReady = Callable[[list[str]], None]


def run(settings: Settings, on_ready: OnReady) -> None:
    """Run the daemon until a signal ends it. `on_ready` gets its URLs once devices can connect.

    Raises KoraError when it can't start or has lost something it can't live without.
    """
    configure_log(settings.log.level, settings.log.format)
    _raise_descriptor_limit()
    # A watchdog ends a process with SIGABRT: then everybody says where they were.
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    manager, sockets = ServiceManager.of(os.environ), inherited_sockets(os.environ)
    # What is loaded now stays for good: with 10,000 connections the collector's default pauses reach a second.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with serving(settings.store):
        trio.run(partial(serve, settings, on_ready, manager, sockets))


async def serve(
    settings: Settings, on_ready: OnReady, manager: ServiceManager, sockets: Sequence[socket.socket] = ()
) -> None:
    """The daemon's life inside an event loop. With `sockets` that listen, the settings' addresses don't count."""
    parts = load_parts(settings)
    options = server_options(settings, parts)
    server = SyncServer(build_store(settings.store), build_auth(settings, parts), options, build_blobs(settings))
    access = Access(tokens(settings))
    own = OwnRoutes(server, parts.routes)
    extras = Extras(import_options(settings), app_files(settings), own)
    routes = surface(server, settings.server.path, access, extras)
    listener = Listener(server, routes, listener_options(settings))
    reloader = Reloader(settings, parts, server, listener, access, manager)
    routes.add(reload_route(reloader.reload))
    supervision = Supervision(manager, server, listener)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as core:
            if not await _open(server, core, supervision, signals):
                log.info("daemon.stopped")
                return
            await core.start(own.run)
            await _open_control_socket(settings, routes, core)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as front:
                    listeners = await _listen(listener, sockets)
                    front.start_soon(listener.serve, listeners, connections)
                    _announce(settings, listeners, on_ready)
                    core.start_soon(supervision.running)
                    await _until_told_to_stop(signals, reloader)
                    front.cancel_scope.cancel()
                core.start_soon(_exit_at_once, signals)
                supervision.stopping(server.options.shutdown_grace)
                await own.finish(min(settings.server.shutdown_grace, CALLS_GRACE_S))
                await server.stop()
                connections.cancel_scope.cancel()
            core.cancel_scope.cancel()
    log.info("daemon.stopped")


async def _open(server: SyncServer, core: trio.Nursery, supervision: Supervision, signals: AsyncIterator[int]) -> bool:
    """Start the server, which may have to wait for its store. False when it was told to stop before."""
    early: list[int] = []
    async with trio.open_nursery() as opening:
        opening.start_soon(supervision.starting)
        with trio.CancelScope() as start:
            opening.start_soon(_cancel_when_told, signals, early, start)
            await server.start(core)
        opening.cancel_scope.cancel()
    if server.is_over:
        return False
    for number in early:
        signal.raise_signal(number)  # a reload, or what came in the very moment: for those who are there now
    return True


async def _cancel_when_told(signals: AsyncIterator[int], early: list[int], start: trio.CancelScope) -> None:
    async for number in signals:
        early.append(number)
        if number != signal.SIGHUP:
            log.info("daemon.stopping", signal=signal.Signals(number).name)
            start.cancel()
            await _exit_at_once(signals)  # what a start has begun in a thread may take long to end


async def _open_control_socket(settings: Settings, routes: Routes, core: trio.Nursery) -> None:
    """Answer commands until the very end. Nobody asked for the usual place, so where that is not to be had: without."""
    path = settings.control_socket
    if path is None:
        return
    try:
        await core.start(serve_control_socket, path, routes.answer)
    except ListenError as error:
        if settings.admin.socket is not None:
            raise
        log.warning("control.unavailable", problem=str(error))


async def _listen(listener: Listener, sockets: Sequence[socket.socket]) -> list[trio.SocketListener]:
    if sockets:
        return [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in sockets]
    return await listener.open()


def _announce(settings: Settings, listeners: list[trio.SocketListener], on_ready: OnReady) -> None:
    scheme = "ws" if settings.server.tls_certificate is None else "wss"
    urls = [f"{scheme}://{address}{settings.server.path}" for address in addresses(listeners)]
    log.info("daemon.ready", version=VERSION, urls=urls, store=settings.store.kind)
    _warn_if_open(settings, listeners)
    on_ready(urls)


def _warn_if_open(settings: Settings, listeners: list[trio.SocketListener]) -> None:
    """Say so when whoever reaches the port may read and write everything (auth.md section 6)."""
    hosts = [listener.socket.getsockname()[0] for listener in listeners]
    if settings.auth.kind == "none" and not all(ipaddress.ip_address(host).is_loopback for host in hosts):
        hint = "everybody who reaches the port may read and write everything; set [auth], or listen on 127.0.0.1"
        log.warning("daemon.open_to_everybody", hosts=hosts, hint=hint)


async def _until_told_to_stop(signals: AsyncIterator[int], reloader: Reloader) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            log.info("daemon.stopping", signal=signal.Signals(number).name)
            return
        await reloader.reload()


async def _exit_at_once(signals: AsyncIterator[int]) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            log.warning("daemon.killed", signal=signal.Signals(number).name)
            os._exit(1)


def _raise_descriptor_limit() -> None:
    """A connection is a file descriptor, and the usual soft limit of 1,024 is soon reached."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
