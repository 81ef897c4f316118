"""Kora Daemon: a self-hosted sync server for Kora.js apps.

The map, from the edge inwards. Data flows down this list, answers flow back up.

    daemon           builds everything from the settings, and its life and death
    blob_upkeep      what operators do to kept blobs: list, verify, import, delete what is unused
    maintenance      what operators do to a store besides: migrate, backfill, apply, backup, restore
    doctor           what is wrong with a host, a database, a configuration
    reload, options  the configuration read again while all runs; what server and listener take from it
    supervision, service_manager, activation    what systemd hears, and the sockets that it hands over
    parts, hooks     what the settings name: the store, the schema file, the app's own callables
    store_lock       one daemon for a SQLite file
    http             the one port: requests, long-polling, what operators and back ends ask, own routes, app files
    server           tasks and threads: connection, transports, validation, writer, hub, presence, neighbours
    wire             bytes <-> messages
    protocol         the sans-io core: session, handshake, uploads, delivery
    apply            the judgement on operations inside one write transaction, trusted writes, refill, restore
    auth             who somebody is: contract, none, token (JWT, static, hooks), kora, mixed; scopes out of claims
    backup           the log as one file: export, verification
    schema_file      the app's schema, from JSON or TOML
    store            log and records: contract, memory, SQLite, PostgreSQL; blobs
    materialization  operations -> records: fold, columns, shapes, stamps, the plan of an upgrade
    model            what Kora talks about: operation, record, schema, clock, identity, causal order, view
    config, conninfo, log, errors

As a library: build a `SyncServer` from a store and a provider, `start` it in a nursery, hand it connections.
"""

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.apply.trusted import ConditionalWrite, Mutation, Refusal, TrustedOutcome
from kora_daemon.auth.contract import ANEW, AuthContext, AuthProvider, Caller, Standing
from kora_daemon.auth.external import external_context
from kora_daemon.auth.kora import KoraAuthProvider
from kora_daemon.auth.mixed import MixedAuthProvider
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.auth.token import StaticToken, StaticTokenProvider, TokenAuthProvider
from kora_daemon.auth.users import UserDirectory
from kora_daemon.config import Settings, load_settings
from kora_daemon.errors import AuthUnavailable
from kora_daemon.http.own_routes import RouteRequest
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.record import QueryError, Record, RecordKey, RecordQuery
from kora_daemon.model.schema import Schema
from kora_daemon.schema_file import load_schema
from kora_daemon.server.awareness import AwarenessRelay
from kora_daemon.server.data_plane import BlockingDataPlane, DataPlane
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.services import Origin
from kora_daemon.server.status import Status
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.transport import MemoryPeer, MemoryTransport, Transport, memory_transport
from kora_daemon.server.validation import IGNORE, Reject, ValidationContext
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore
from kora_daemon.store.sqlite.users import SqliteUsers
from kora_daemon.version import VERSION as __version__

__all__ = [
    "ANEW",
    "IGNORE",
    "ApplyRules",
    "AuthContext",
    "AuthProvider",
    "AuthRules",
    "AuthUnavailable",
    "AwarenessRelay",
    "BlockingDataPlane",
    "Caller",
    "ConditionalWrite",
    "DataPlane",
    "DirectoryBlobs",
    "KoraAuthProvider",
    "MemoryPeer",
    "MemoryStore",
    "MemoryTransport",
    "MixedAuthProvider",
    "Mutation",
    "NoAuthProvider",
    "Origin",
    "QueryError",
    "Record",
    "RecordKey",
    "RecordQuery",
    "Refusal",
    "Reject",
    "Rejection",
    "RouteRequest",
    "Schema",
    "ServerOptions",
    "Settings",
    "SqliteStore",
    "SqliteUsers",
    "Standing",
    "StaticToken",
    "StaticTokenProvider",
    "Status",
    "Store",
    "SyncServer",
    "TokenAuthProvider",
    "Transport",
    "TrustedOutcome",
    "UserDirectory",
    "ValidationContext",
    "__version__",
    "external_context",
    "load_schema",
    "load_settings",
    "memory_transport",
]
