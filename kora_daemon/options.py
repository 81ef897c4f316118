"""What server, listener and access take from the settings."""

from __future__ import annotations

from kora_daemon.apply.authority import NodeBinding
from kora_daemon.config import Settings, StoreSettings
from kora_daemon.errors import ConfigError
from kora_daemon.http.access import Tokens
from kora_daemon.http.backup import ImportOptions
from kora_daemon.http.listener import ListenerOptions, tls_context
from kora_daemon.http.static_files import AppFiles, AppOptions
from kora_daemon.parts import Parts, apply_rules
from kora_daemon.protocol.rules import AcceptedScope
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server.blob_keeper import BlobRules
from kora_daemon.server.deflate import Compression
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from kora_daemon.server.writer import STORE_PATIENCE_S

_ACCEPTED_SCOPES: dict[str, AcceptedScope] = {"full": "full", "collections": "collections", "none": "none"}
_NODE_BINDINGS: dict[str, NodeBinding] = {"warn": "warn", "enforce": "enforce"}


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
        blobs=BlobRules(settings.blobs.max_blob_bytes, settings.blobs.max_unused_bytes),
        handshake_timeout=limits.handshake_timeout,
        ping_interval=limits.ping_interval,
        polling=PollingOptions(
            limits.poll_hold,
            limits.poll_idle,
            limits.max_polling_sessions,
            limits.max_message_bytes,
            limits.max_buffered_bytes,
        ),
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
        shutdown_spread=settings.server.shutdown_spread,
        store_patience=STORE_PATIENCE_S + _longest_statement(settings.store),
        reader_threads=settings.store.readers,
        outage_patience=settings.store.outage_patience,
    )


def _longest_statement(settings: StoreSettings) -> float:
    """In s, until a store gives an answer up by itself: what takes less is an outage, not a writer that is frozen."""
    return settings.connect_timeout + settings.statement_timeout if settings.kind == "postgres" else 0.0


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
        server.allowed_origins,
    )
