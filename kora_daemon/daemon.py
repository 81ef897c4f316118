"""The composition root: the one place that knows which store, provider and listener belong together, and their order.

    trio.run(serve)
    └ core          store opened; writer, hub, presence, housekeeping     (SyncServer)
      └ connections one task and its children for each peer
        └ front     listeners, signals

Opened outside-in, closed inside-out: stop accepting, let sessions finish, commit and acknowledge what the writer holds,
close the store.
"""

from __future__ import annotations

import gc
import ipaddress
import os
import resource
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial

import structlog
import trio

from kora_daemon.apply.authority import NodeBinding
from kora_daemon.config import Settings, load_settings
from kora_daemon.errors import ConfigError, KoraError, ListenError
from kora_daemon.http.access import Access, Tokens
from kora_daemon.http.backup import ImportOptions
from kora_daemon.http.control_socket import serve_control_socket
from kora_daemon.http.listener import Listener, ListenerOptions, addresses, tls_context
from kora_daemon.http.own_routes import OwnRoutes
from kora_daemon.http.routes import Routes
from kora_daemon.http.static_files import AppFiles, AppOptions
from kora_daemon.http.surface import Extras, surface
from kora_daemon.log import configure as configure_log
from kora_daemon.parts import Parts, apply_rules, build_auth, build_store, load_parts
from kora_daemon.protocol.rules import AcceptedScope
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server.deflate import Compression
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.store_lock import serving
from kora_daemon.version import VERSION

log = structlog.get_logger("kora.daemon")

_ACCEPTED_SCOPES: dict[str, AcceptedScope] = {"full": "full", "collections": "collections", "none": "none"}
_NODE_BINDINGS: dict[str, NodeBinding] = {"warn": "warn", "enforce": "enforce"}

CALLS_GRACE_S = 2.0
"""For calls of the app's own to end before sessions do; they may go on until the store closes."""

OnReady = Callable[[list[str]], None]


def run(settings: Settings, on_ready: OnReady) -> None:
    """Run the daemon until a signal ends it. `on_ready` gets its URLs once devices can connect.

    Raises KoraError when it can't start or has lost something it can't live without.
    """
    configure_log(settings.log.level, settings.log.format)
    _raise_descriptor_limit()
    # What is loaded now stays for good: with 10,000 connections the collector's default pauses reach a second.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with serving(settings.store):
        trio.run(partial(serve, settings, on_ready))


async def serve(settings: Settings, on_ready: OnReady) -> None:
    """The daemon's life inside an event loop."""
    parts = load_parts(settings)
    options = server_options(settings, parts)
    server = SyncServer(build_store(settings.store), build_auth(settings, parts), options)
    access = Access(tokens(settings))
    own = OwnRoutes(server, parts.routes)
    extras = Extras(import_options(settings), app_files(settings), own)
    routes = surface(server, settings.server.path, access, extras)
    listener = Listener(server, routes, listener_options(settings))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as core:
            await server.start(core)
            await core.start(own.run)
            await _open_control_socket(settings, routes, core)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as front:
                    try:
                        listeners = await listener.open()
                    except OSError as error:
                        raise ListenError(f"can't listen on port {settings.server.port}: {error.strerror}") from error
                    front.start_soon(listener.serve, listeners, connections)
                    scheme = "ws" if settings.server.tls_certificate is None else "wss"
                    urls = [f"{scheme}://{address}{settings.server.path}" for address in addresses(listeners)]
                    log.info("daemon.ready", version=VERSION, urls=urls, store=settings.store.kind)
                    _warn_if_open(settings, listeners)
                    on_ready(urls)
                    await _until_told_to_stop(signals, settings, parts, server, listener, access)
                    front.cancel_scope.cancel()
                core.start_soon(_exit_at_once, signals)
                await own.finish(min(settings.server.shutdown_grace, CALLS_GRACE_S))
                await server.stop()
                connections.cancel_scope.cancel()
            core.cancel_scope.cancel()
    log.info("daemon.stopped")


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


def _warn_if_open(settings: Settings, listeners: list[trio.SocketListener]) -> None:
    """Say so when whoever reaches the port may read and write everything (auth.md section 6)."""
    hosts = [listener.socket.getsockname()[0] for listener in listeners]
    if settings.auth.kind == "none" and not all(ipaddress.ip_address(host).is_loopback for host in hosts):
        hint = "everybody who reaches the port may read and write everything; set [auth], or listen on 127.0.0.1"
        log.warning("daemon.open_to_everybody", hosts=hosts, hint=hint)


async def _until_told_to_stop(
    signals: AsyncIterator[int],
    settings: Settings,
    parts: Parts,
    server: SyncServer,
    listener: Listener,
    access: Access,
) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            log.info("daemon.stopping", signal=signal.Signals(number).name)
            return
        before = settings
        settings = await trio.to_thread.run_sync(_reload, settings, parts, server, listener, access)
        if settings is before:
            server.journal.record("daemon.reload_failed")
        else:
            server.journal.record("daemon.reloaded")


async def _exit_at_once(signals: AsyncIterator[int]) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            log.warning("daemon.killed", signal=signal.Signals(number).name)
            os._exit(1)


def _reload(settings: Settings, parts: Parts, server: SyncServer, listener: Listener, access: Access) -> Settings:
    """Apply what can change live: log level, auth, limits, certificate, admin tokens.

    All of the file is good, or nothing changes. Keys, secrets and lists are read again. Schema and the app's code stay
    as they are: tables can't change under a running server, nor can modules.
    """
    if settings.source is None:
        log.warning("daemon.reload_failed", problem="there is no configuration file to read again")
        return settings
    try:
        fresh = load_settings(settings.source)
        listening = listener_options(fresh)
        options = server_options(fresh, parts)
        auth = build_auth(fresh, parts)
    except (KoraError, OSError, ssl.SSLError) as error:
        log.error("daemon.reload_failed", problem=str(error))
        return settings
    configure_log(fresh.log.level, fresh.log.format)
    server.reconfigure(auth, options)
    listener.reconfigure(listening)
    access.tokens = tokens(fresh)
    log.info("daemon.reloaded")
    return fresh


def server_options(settings: Settings, parts: Parts | None = None) -> ServerOptions:
    """What a server takes from the settings. Raises ConfigError when they don't go with the schema file."""
    limits = settings.limits
    parts = parts or Parts()
    version, lowest, highest = settings.server.schema_versions(1 if parts.schema is None else parts.schema.version)
    if not lowest <= version <= highest:
        raise ConfigError(
            [
                f"server.supported_schema_versions: found [{lowest}, {highest}], expected a range with the version "
                f"of the schema, which is {version}"
            ]
        )
    return ServerOptions(
        apply=apply_rules(settings, parts.schema),
        validator=parts.validator,
        validator_timeout=5.0 if settings.validate is None else settings.validate.timeout,
        schema_version=version,
        supported_schema_versions=(lowest, highest),
        batch_size=settings.server.batch_size,
        max_connections=settings.server.max_connections,
        max_unauthenticated=limits.max_unauthenticated,
        max_unauthenticated_per_address=limits.max_unauthenticated_per_address,
        uploads=UploadLimits(
            limits.max_operation_bytes, limits.max_operations_per_batch, limits.max_operations_per_minute
        ),
        max_awareness_bytes=limits.max_awareness_bytes,
        awareness_group_by=settings.awareness.group_by,
        handshake_timeout=limits.handshake_timeout,
        ping_interval=limits.ping_interval,
        auth=AuthRules(
            settings.auth.timeout,
            settings.auth.require_scopes,
            settings.auth.shared_data,
            settings.auth.revalidate,
            settings.auth.on_expiry == "close",
        ),
        accepted_scope=_ACCEPTED_SCOPES[settings.auth.accepted_scope],
        # Without auth nobody is anybody.
        node_binding="off" if settings.auth.kind == "none" else _NODE_BINDINGS[settings.auth.node_binding],
        node_handover=settings.auth.node_handover,
        refusal_delay=settings.auth.refusal_delay,
        allow_query_token=settings.auth.allow_query_token,
        shutdown_grace=settings.server.shutdown_grace,
        reader_threads=settings.store.readers,
        outage_patience=settings.store.outage_patience,
    )


def tokens(settings: Settings) -> Tokens:
    """What opens the operational endpoints."""
    admin = settings.admin
    return Tokens(admin.admin_token, admin.metrics_token, admin.backup_token, admin.data_token)


def import_options(settings: Settings) -> ImportOptions:
    """What a backup that is put back over HTTP may take, and where."""
    folder = settings.store.path.absolute().parent if settings.store.kind == "sqlite" else None
    return ImportOptions(settings.admin.max_import_bytes, folder)


def app_files(settings: Settings) -> AppFiles | None:
    """The built app to be served, None without one."""
    static = settings.static
    if static is None:
        return None
    return AppFiles(static.directory, AppOptions(static.isolation, static.spa, static.immutable))


def listener_options(settings: Settings) -> ListenerOptions:
    """What the listener takes from the settings. Raises OSError or ssl.SSLError for a bad certificate."""
    server = settings.server
    tls = None
    if server.tls_certificate is not None and server.tls_key is not None:
        tls = tls_context(str(server.tls_certificate), str(server.tls_key))
    return ListenerOptions(
        server.host,
        server.port,
        server.reuse_port,
        tls,
        server.trusted_proxies,
        settings.limits.max_message_bytes,
        settings.limits.max_buffered_bytes,
        Compression(server.compression_min_bytes) if server.compression else None,
    )


def _raise_descriptor_limit() -> None:
    """A connection is a file descriptor, and the usual soft limit of 1,024 is soon reached."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
