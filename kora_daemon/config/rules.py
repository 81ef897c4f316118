"""What settings must fulfil together: each key may be fine by itself and the whole still contradict itself."""

from __future__ import annotations

import ssl
from pathlib import Path

from kora_daemon.config.auth_rules import AUTH_RULES
from kora_daemon.config.rule import Rule
from kora_daemon.config.settings import Settings

_BESIDE_A_BLOB = 1_000
"""Bytes of a message that are not the blob."""
STREAM_BYTES = 1536 << 10
"""What the delivery stream has under way at most, but for its last operation: 384 KiB that are not acknowledged, a page
of 1 MiB that was begun below that, and what messages add to operations."""


def _tls(settings: Settings) -> str | None:
    server = settings.server
    if server.tls_certificate is not None and server.tls_key is not None:
        return _tls_pair(server.tls_certificate, server.tls_key)
    if server.tls_certificate is None and server.tls_key is None:
        return None
    missing = "server.tls_key" if server.tls_key is None else "server.tls_certificate"
    return f"{missing} is missing, expected tls_certificate and tls_key together, or neither"


def _tls_pair(certificate: Path, key: Path) -> str | None:
    try:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:
        reason = (error.reason if isinstance(error, ssl.SSLError) else None) or "no PEM"
        return f"found {reason.lower().replace('_', ' ')}, expected PEM files of a certificate and its unencrypted key"
    return None


def _schema_versions(settings: Settings) -> str | None:
    current, low, high = settings.server.schema_versions()
    if low > high:
        return f"found [{low}, {high}], expected the lower version first"
    if settings.server.schema_version is None and settings.schema is not None:
        return None  # The schema file says which version is current.
    if not low <= current <= high:
        return f"found [{low}, {high}], expected a range with server.schema_version, which is {current}"
    return None


def _reuse_port(settings: Settings) -> str | None:
    if settings.server.reuse_port and settings.store.kind != "postgres":
        return f'only daemons with store.kind = "postgres" can share a port, found "{settings.store.kind}"'
    return None


def _store_url(settings: Settings) -> str | None:
    if settings.store.kind == "postgres" and settings.store.url is None:
        return 'is missing, expected a PostgreSQL URL since store.kind is "postgres"'
    if settings.store.kind != "postgres" and settings.store.url is not None:
        return f'is set, but store.kind is "{settings.store.kind}", expected "postgres"'
    return None


def _routes_apart(settings: Settings) -> str | None:
    taken = {settings.server.path: "server.path"}
    if settings.static is not None:
        taken["/"] = "[static]"
    for index, route in enumerate(settings.routes):
        path = route.path.rstrip("/") or "/"
        if path in taken:
            return f"routes[{index}] has the path {route.path}, which is that of {taken[path]}; choose another"
        taken[path] = f"routes[{index}]"
    return None


def _operation_fits_message(settings: Settings) -> str | None:
    return _at_most_message(settings, settings.limits.max_operation_bytes)


def _stream_fits_buffer(settings: Settings) -> str | None:
    # A quarter of it is for presence and the like.
    least = -(-4 * (STREAM_BYTES + settings.limits.max_operation_bytes) // 3)
    found = settings.limits.max_buffered_bytes
    return (
        f"found {found}, expected at least {least}, or devices that read would be closed as well: the sum of 2 MiB and "
        f"4/3 of limits.max_operation_bytes, which is {settings.limits.max_operation_bytes}"
        if found < least
        else None
    )


def _awareness_fits_message(settings: Settings) -> str | None:
    return _at_most_message(settings, settings.limits.max_awareness_bytes)


def _blob_fits_message(settings: Settings) -> str | None:
    most = settings.limits.max_message_bytes * 3 // 4 - _BESIDE_A_BLOB
    return (
        f"found {settings.blobs.max_blob_bytes}, expected at most {most}, since it travels as base64 in a message of "
        f"limits.max_message_bytes, which is {settings.limits.max_message_bytes}"
        if settings.blobs.kind != "none" and settings.blobs.max_blob_bytes > most
        else None
    )


def _blobs_in_store(settings: Settings) -> str | None:
    if settings.blobs.kind == "store" and settings.store.kind != "postgres":
        return (
            f'found "store", which is in PostgreSQL, but store.kind is "{settings.store.kind}"; use "directory", '
            'or store.kind = "postgres"'
        )
    return None


def _at_most_message(settings: Settings, size_bytes: int) -> str | None:
    most = settings.limits.max_message_bytes
    return (
        f"found {size_bytes}, expected at most limits.max_message_bytes, which is {most}" if size_bytes > most else None
    )


RULES = (
    Rule(("server.tls_certificate", "server.tls_key"), _tls),
    Rule(("server.supported_schema_versions", "server.schema_version", "schema"), _schema_versions),
    Rule(("server.reuse_port", "store.kind"), _reuse_port),
    Rule(("store.url", "store.kind"), _store_url),
    Rule(("routes", "server.path", "static"), _routes_apart),
    Rule(("limits.max_operation_bytes", "limits.max_message_bytes"), _operation_fits_message),
    Rule(("limits.max_buffered_bytes", "limits.max_operation_bytes"), _stream_fits_buffer),
    Rule(("limits.max_awareness_bytes", "limits.max_message_bytes"), _awareness_fits_message),
    Rule(("blobs.max_blob_bytes", "limits.max_message_bytes", "blobs.kind"), _blob_fits_message),
    Rule(("blobs.kind", "store.kind"), _blobs_in_store),
    *AUTH_RULES,
)
