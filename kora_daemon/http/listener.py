"""The front door: addresses, TLS, and every accepted stream on its way to HTTP or a WebSocket."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence

import structlog
import trio
from msgspec import Struct

from kora_daemon.errors import ListenError
from kora_daemon.http.connection import Caller, HttpConnection, Upgrade
from kora_daemon.http.door import Door
from kora_daemon.http.routes import Routes
from kora_daemon.server.deflate import Compression, agree
from kora_daemon.server.pulse import Pulse
from kora_daemon.server.services import Origin
from kora_daemon.server.stream import FrameStream
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.websocket import HANDSHAKE_MESSAGE_BYTES, WebSocketTransport

BACKLOG = 1_024
log = structlog.get_logger("kora.listener")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ListenerOptions(Struct, frozen=True):
    """Where to listen and what a connection may cost."""

    hosts: Sequence[str] = ("127.0.0.1",)
    port: int = 4567
    reuse_port: bool = False
    """Whether other daemons may listen on the same port; the system spreads connections over them."""
    tls: ssl.SSLContext | None = None
    trusted_proxies: Sequence[Network] = ()
    max_message_bytes: int = 33_554_432
    max_buffered_bytes: int = 33_554_432
    compression: Compression | None = Compression()
    """For devices that offer permessage-deflate; None = none is compressed."""
    allowed_origins: Sequence[str] = ()
    """Of web pages, besides the daemon's own; none = any by WebSocket, no other over HTTP."""


class Listener:
    """Accepts connections for a server."""

    def __init__(self, server: SyncServer, routes: Routes, options: ListenerOptions) -> None:
        self._server = server
        self._routes = routes
        self.pulses: Sequence[Pulse] = ()
        """One for each address, while accepting."""
        self.reconfigure(options)

    def reconfigure(self, options: ListenerOptions) -> None:
        """Use these options for the connections to come; the addresses stay."""
        self._options = options
        self._routes.origins.allowed = frozenset(options.allowed_origins)

    async def open(self) -> list[trio.SocketListener]:
        """Bind all addresses; with port 0 all of them get the same free one. Raises ListenError."""
        listeners: list[trio.SocketListener] = []
        port = self._options.port
        for host in self._options.hosts:
            try:
                if self._options.reuse_port:
                    opened = await _open_shared(host, port)
                else:
                    opened = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
            except OSError as error:
                raise ListenError(_listen_problem(host, port, error, self._options.hosts)) from error
            listeners += opened
            port = opened[0].socket.getsockname()[1]
        return listeners

    async def serve(self, listeners: Sequence[trio.SocketListener], connections: trio.Nursery) -> None:
        """Accept until cancelled; what was accepted lives on in `connections`."""
        doors = [Door(listener) for listener in listeners]
        self.pulses = [door.pulse for door in doors]
        try:
            await trio.serve_listeners(self._serve_stream, doors, handler_nursery=connections)
        finally:
            self.pulses = ()

    async def _serve_stream(self, accepted: trio.SocketStream) -> None:
        stream: trio.abc.Stream = accepted
        if self._options.tls is not None:
            stream = trio.SSLStream(accepted, self._options.tls, server_side=True, https_compatible=True)
        await self.serve_stream(stream, _peer_of(accepted))

    async def serve_stream(self, stream: trio.abc.Stream, peer: str) -> None:
        """Serve one connection from the address `peer`, of whatever kind, until it is over."""
        caller = Caller(
            lambda headers: self._address(peer, headers),
            is_secure_of=lambda headers: self._is_secure(peer, headers),
            is_proxy=self._is_trusted(peer),
        )
        try:
            upgrade = await HttpConnection(stream, caller, self._routes.answer, self._routes.accepts_upgrade).serve()
            if upgrade is not None:
                transport, origin = self._upgrade(stream, upgrade)
                del upgrade
                await self._server.handle_connection(transport, origin)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass  # the peer has gone, or never spoke TLS
        except* Exception:
            log.exception("http.crashed")
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await stream.aclose()

    def _upgrade(self, stream: trio.abc.Stream, upgrade: Upgrade) -> tuple[WebSocketTransport, Origin]:
        options, request = self._options, upgrade.request
        frames = FrameStream(stream, upgrade.behind, HANDSHAKE_MESSAGE_BYTES, self._server.lookout)
        frames.luggage = self._server.luggage()
        offers, compression = request.headers.get("sec-websocket-extensions", ""), options.compression
        agreement = None if compression is None else agree(offers, compression)
        key = request.headers["sec-websocket-key"].encode("latin-1")
        transport = WebSocketTransport(frames, key, options.max_message_bytes, options.max_buffered_bytes, agreement)
        return transport, Origin(request.address, request.first("token"))

    def _address(self, address: str, headers: Mapping[str, str]) -> str:
        """Who is calling: the peer, or what a trusted proxy says it forwards for."""
        for forwarded in reversed(headers.get("x-forwarded-for", "").split(",")):
            if not self._is_trusted(address) or not forwarded.strip():
                break
            address = forwarded.strip()
        return address[:64]

    def _is_secure(self, peer: str, headers: Mapping[str, str]) -> bool:
        return self._options.tls is not None or (
            self._is_trusted(peer) and headers.get("x-forwarded-proto", "").lower() in ("https", "wss")
        )

    def _is_trusted(self, address: str) -> bool:
        if not self._options.trusted_proxies:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._options.trusted_proxies)


def _peer_of(accepted: trio.SocketStream) -> str:
    try:
        peer: str = accepted.socket.getpeername()[0]
    except OSError:
        return "unknown"
    # What a socket for both families calls an IPv4 address; systemd hands such ones over.
    return peer.removeprefix("::ffff:") if "." in peer else peer


def _listen_problem(host: str, port: int, error: OSError, hosts: Sequence[str]) -> str:
    if isinstance(error, socket.gaierror):
        reason = f"the name is not known ({error.strerror}); correct server.host"
    elif error.errno == errno.EADDRINUSE:
        ours = "another entry of server.host, " if len(hosts) > 1 else ""
        reason = (
            f"the port is taken, by {ours}another daemon or another program (`ss -ltnp` names it); stop that one, or "
            "choose another server.port"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        reason = "this machine has no such address; correct server.host"
    elif error.errno == errno.EACCES:
        reason = "this user may not have this port; choose a server.port from 1024 up, or let systemd hand it over"
    else:
        reason = f"{error.strerror}; check server.host and server.port"
    return f"can't listen on {f'[{host}]' if ':' in host else host}:{port}: {reason}"


async def _open_shared(host: str, port: int) -> list[trio.SocketListener]:
    """Listen on all addresses of a host, together with whoever else asks for that. Raises OSError."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[trio.SocketListener] = []
    try:
        for family, kind, protocol, _, address in found:
            listening = trio.socket.socket(family, kind, protocol)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                await listening.bind(address)
                listening.listen(BACKLOG)
                listeners.append(trio.SocketListener(listening))
            except BaseException:
                listening.close()
                raise
    except BaseException:
        for opened in listeners:
            opened.socket.close()
        raise
    return listeners


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """A server's TLS context from PEM files. Raises OSError or ssl.SSLError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def addresses(listeners: Sequence[trio.SocketListener]) -> list[str]:
    """host:port of each listener, IPv6 in brackets."""
    found = []
    for listener in listeners:
        host, port = listener.socket.getsockname()[:2]
        found.append(f"[{host}]:{port}" if listener.socket.family == socket.AF_INET6 else f"{host}:{port}")
    return found
