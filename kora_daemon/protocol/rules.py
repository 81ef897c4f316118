"""What is the same for all sessions of a server."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from kora_daemon.protocol.uploads import UploadLimits

AcceptedScope = Literal["full", "collections", "none"]
"""What a client is told of its scopes: all of them, their collections alone, or nothing if it did not ask for any.

Stock clients drop what their accepted scope does not fit, in both directions. Unless they are told all of it, scopes
go by what records are now, and records that enter a scope bring their history along (scopes.md section 3).
"""


class SessionRules(Struct, frozen=True):
    """What is the same for all sessions of a server."""

    server_node_id: str
    schema_version: int = 1
    supported_schema_versions: tuple[int, int] = (1, 1)
    batch_size: int = 100
    limits: UploadLimits = UploadLimits()
    handshake_timeout_ms: int = 10_000
    accepted_scope: AcceptedScope = "full"
    keeps_blobs: bool = False
    """Clients are told to push the bytes of their files."""
