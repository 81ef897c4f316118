"""How a server behaves."""

from __future__ import annotations

from msgspec import Struct

from kora_daemon.apply.authority import NodeBinding
from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.protocol.rules import AcceptedScope
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server.blob_keeper import BlobRules
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.polling import PollingOptions
from kora_daemon.server.validation import DEFAULT_TIMEOUT_S, Validator
from kora_daemon.server.writer import STORE_PATIENCE_S


class ServerOptions(Struct, frozen=True):
    """How a server behaves; the defaults are those of the configuration file. Times in seconds."""

    schema_version: int = 1
    supported_schema_versions: tuple[int, int] | None = None
    """Inclusive; None = `schema_version` alone."""
    batch_size: int = 100
    max_connections: int = 0
    """0 = unlimited, as of the two that follow."""
    max_unauthenticated: int = 1000
    """Connections without a good handshake so far."""
    max_unauthenticated_per_address: int = 100
    uploads: UploadLimits = UploadLimits()
    max_awareness_bytes: int = 16_384
    blobs: BlobRules = BlobRules()
    """What may be kept, where blobs are."""
    awareness_group_by: tuple[str, ...] = ()
    """Scope fields whose values tell who shares presence; () = sessions with equal scopes do."""
    handshake_timeout: float = 10.0
    ping_interval: float = 25.0
    polling: PollingOptions = PollingOptions()
    apply: ApplyRules = ApplyRules()
    validator: Validator | None = None
    validator_timeout: float = DEFAULT_TIMEOUT_S
    auth: AuthRules = AuthRules()
    refusal_delay: float = 1.0
    allow_query_token: bool = False
    accepted_scope: AcceptedScope = "full"
    node_binding: NodeBinding = "off"
    node_handover: bool = True
    shutdown_grace: float = 10.0
    shutdown_spread: float = 5.0
    """At most half of the grace counts."""
    store_patience: float = STORE_PATIENCE_S
    """How long the writer may be busy with one group before it counts as frozen."""
    reader_threads: int = 4
    outage_patience: float = 0.0
    """How long uploads and downloads wait for a store that does not answer, before their sessions are closed."""
