"""Kora Daemon: a self-hosted sync server for Kora.js apps.

The map, from the edge inwards. Data flows down this list, answers flow back up.

    daemon      builds everything from the settings, and its life and death
    server      sockets, tasks, threads: listener, connection, writer, hub, presence, relays   (the only trio)
    wire        bytes <-> messages
    protocol    the sans-io core: session, handshake, uploads, delivery
    apply       the judgement on incoming operations, inside one write transaction
    store       the log: contract, memory, SQLite
    auth        who somebody is: contract, none, static tokens
    model       what Kora talks about: operation, clock, identity, causal order, view
    config, log, errors

As a library: build a `SyncServer` from a store and a provider, `start` it in a nursery, hand it connections.
"""

from kora_daemon.auth.contract import AuthContext, AuthProvider
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.auth.token import StaticToken, StaticTokenProvider
from kora_daemon.config import Settings, load_settings
from kora_daemon.server.awareness import AwarenessRelay
from kora_daemon.server.connection import Origin
from kora_daemon.server.sync_server import ServerOptions, Status, SyncServer
from kora_daemon.server.transport import MemoryPeer, MemoryTransport, Transport, memory_transport
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore
from kora_daemon.version import VERSION as __version__

__all__ = [
    "AuthContext",
    "AuthProvider",
    "AwarenessRelay",
    "MemoryPeer",
    "MemoryStore",
    "MemoryTransport",
    "NoAuthProvider",
    "Origin",
    "ServerOptions",
    "Settings",
    "SqliteStore",
    "StaticToken",
    "StaticTokenProvider",
    "Status",
    "Store",
    "SyncServer",
    "Transport",
    "__version__",
    "load_settings",
    "memory_transport",
]
