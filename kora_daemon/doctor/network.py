"""The port, and who has it."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from kora_daemon.config import Settings
from kora_daemon.doctor.checks import Check, Finding, failure, fine

_ANSWER_TIMEOUT_S = 3.0
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where a daemon that listens there is to be found
_LOWEST_FREE_PORT = 1024


def network(settings: Settings) -> Iterator[Check]:
    """Whether the daemon can listen, or does so already."""
    yield Check("server.port", lambda: _port(settings))


def _port(settings: Settings) -> Finding:
    port = settings.server.port
    if port == 0:
        return fine("any free port will do")
    running = None
    for host in settings.server.host:
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                with socket.socket(family, kind, protocol) as probe:
                    _bind(probe, address, shared=settings.server.reuse_port)
        except socket.gaierror as error:
            return failure(f"{host} is no address of this host: {error.strerror}", "correct server.host")
        except OSError as error:
            running = _daemon(settings, host) if error.errno == errno.EADDRINUSE else None
            if running is None:
                return _refused(host, port, error)
    return fine(f"port {port} is free" if running is None else f"port {port} is in use, by Kora Daemon {running}")


def _bind(probe: socket.socket, address: tuple[Any, ...], *, shared: bool) -> None:
    """As the listener does, but for listening: nobody notices."""
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if probe.family == socket.AF_INET6:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    probe.bind(address)


def _refused(host: str, port: int, error: OSError) -> Finding:
    found, remedy = f"{host} port {port} can't be listened on: {error.strerror}", "correct server.host and server.port"
    if error.errno == errno.EADDRINUSE:
        found = f"{host} port {port} is in use by another program"
        remedy = f"end that one, which `ss -ltnp sport = :{port}` names, or set another server.port"
    elif error.errno == errno.EACCES and port < _LOWEST_FREE_PORT:
        remedy = "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, a socket unit, or a proxy in front"
    return failure(found, remedy)


def _daemon(settings: Settings, host: str) -> str | None:
    """The version of the Kora Daemon that answers there, None for anybody else."""
    address, timeout = _ANYWHERE.get(host, host), _ANSWER_TIMEOUT_S
    if settings.server.tls_certificate is None:
        connection = http.client.HTTPConnection(address, settings.server.port, timeout=timeout)
    else:
        # Nothing is entrusted to it; its certificate is for another name than an address.
        unverified = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(address, settings.server.port, timeout=timeout, context=unverified)
    with closing(connection):
        try:
            connection.request("GET", "/health")
            told = json.loads(connection.getresponse().read(10_000))
            return str(told["version"]) if isinstance(told, dict) and "status" in told else None
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return None
