"""The configuration is read again while the daemon runs: what can change live is applied, and nobody is dropped."""

from __future__ import annotations

import time

import structlog
from msgspec import Struct

from kora_daemon.auth.contract import AuthProvider
from kora_daemon.config import Settings, load_settings
from kora_daemon.config.changes import after_reload, changes, values_of
from kora_daemon.errors import ConfigError, KoraError
from kora_daemon.http.access import Access
from kora_daemon.http.listener import Listener, ListenerOptions
from kora_daemon.log import configure as configure_log
from kora_daemon.options import listener_options, server_options, tokens
from kora_daemon.parts import Parts, build_auth
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.threads import ThreadPool
from kora_daemon.service_manager import ServiceManager

log = structlog.get_logger("kora.daemon")


class Reloaded(Struct, frozen=True, rename="camel"):
    """What has come of a reload. Either there are `problems`, one sentence each, and everything is as it was; or not.

    `applied` and `needs_restart` are the paths of keys that have changed since the last reload, or since the start.
    """

    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class _Fresh(Struct, frozen=True):
    """All that a reload replaces, built before any of it is."""

    settings: Settings
    options: ServerOptions
    listening: ListenerOptions
    auth: AuthProvider


class Reloader:
    """Reloads, once at a time, for whoever asks: a signal, a command."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        server: SyncServer,
        listener: Listener,
        access: Access,
        manager: ServiceManager,
    ) -> None:
        self._source = settings.source
        self._in_force = values_of(settings)
        self._parts = parts
        self._server = server
        self._listener = listener
        self._access = access
        self._manager = manager
        self._thread = ThreadPool("kora-reload", 1)

    async def reload(self) -> Reloaded:
        """Read the file again. All of it is good and applied, as far as that can be done live, or nothing changes."""
        outcome = await self._thread.run(self._reload_aloud)
        if outcome.problems:
            self._server.journal.record("daemon.reload_failed")
        else:
            self._server.journal.record("daemon.reloaded")
        return outcome

    def _reload_aloud(self) -> Reloaded:
        # Both in one datagram: they mean something together only (sd_notify(3)).
        self._manager.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        outcome = self._reload()
        refused = "STATUS=The configuration has problems, the log says which; everything is as it was before the reload"
        self._manager.tell("READY=1", *([refused] if outcome.problems else ()))
        return outcome

    def _reload(self) -> Reloaded:
        try:
            fresh = self._build()
        except (KoraError, OSError) as error:
            problems = error.problems if isinstance(error, ConfigError) else [str(error)]
            log.error("daemon.reload_failed", problems=problems)
            return Reloaded(problems=tuple(problems))
        self._apply(fresh)
        values = values_of(fresh.settings)
        found = changes(self._in_force, values)
        self._in_force = after_reload(self._in_force, values)
        log.info("daemon.reloaded", applied=found.live, needs_restart=found.needing_restart)
        return Reloaded(found.live, found.needing_restart)

    def _build(self) -> _Fresh:
        """Raises KoraError, or OSError for a bad certificate."""
        if self._source is None:
            raise ConfigError(["there is no configuration file to read again"])
        settings = load_settings(self._source)
        options, listening = server_options(settings, self._parts), listener_options(settings)
        # The last one, for it has files and connections open that somebody would have to close.
        return _Fresh(settings, options, listening, build_auth(settings, self._parts))

    def _apply(self, fresh: _Fresh) -> None:
        """Schema and the app's code stay as they are: tables can't change under a running server, nor can modules."""
        configure_log(fresh.settings.log.level, fresh.settings.log.format)
        self._server.reconfigure(fresh.auth, fresh.options)
        self._listener.reconfigure(fresh.listening)
        self._access.tokens = tokens(fresh.settings)
