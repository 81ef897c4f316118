"""The manifest and the version vector: JSON texts of one object each (store.md section 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from kora_daemon.backup.errors import BackupError
from kora_daemon.model.operation import MAX_SAFE_INTEGER, Name, Sequence

VERSION = 1
MAX_MANIFEST_BYTES = 1_024 * 1_024
"""A client lists its collections."""
MAX_VECTOR_BYTES = 64 * 1_024 * 1_024
"""Room for more than a million devices."""

_Count = Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encode = msgspec.json.encode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
_decode_vector = msgspec.json.Decoder(dict[Name, Sequence]).decode


class Manifest(Struct, frozen=True, rename="camel"):
    """What a reader needs of a manifest. `created_at` is in ms since the epoch, `checksum` hex SHA-256."""

    created_at: _Count
    node_id: str
    operation_count: _Count
    checksum: str


def manifest_text(manifest: Manifest) -> bytes:
    """The manifest of a server's backup: no collections, no records."""
    return _encode(
        {
            "version": VERSION,
            "createdAt": manifest.created_at,
            "nodeId": manifest.node_id,
            "schemaVersion": 1,
            "operationCount": manifest.operation_count,
            "collections": [],
            "includesRecords": False,
            "checksum": manifest.checksum,
        }
    )


def read_manifest(text: bytes) -> Manifest:
    """Read a manifest, a client's too. Raises `BackupError`: of its kinds, the version's before all that it may change.

    Members beyond those of `Manifest` are of no use to a server and may be anything.
    """
    try:
        members = _decode_any(text)
    except _NO_JSON as error:
        raise BackupError("not-a-backup", f"The manifest is no JSON object: {error}") from error
    version = members.get("version")
    if version != VERSION or isinstance(version, bool):
        raise BackupError("version", f"The manifest has {_shown(version)}, expected version {VERSION}")
    if "checksum" not in members:
        raise BackupError("incomplete", "The manifest has no checksum")
    try:
        return msgspec.convert(members, Manifest)
    except msgspec.ValidationError as error:
        raise BackupError("not-a-backup", f"The manifest is malformed: {error}") from error


def vector_text(vector: Mapping[str, int]) -> bytes:
    """The JSON text of a version vector, in its own order."""
    return _encode(dict(vector))


def read_vector(text: bytes) -> dict[str, int]:
    """Read a version vector. Raises `BackupError`."""
    try:
        return _decode_vector(text)
    except _NO_JSON as error:
        raise BackupError("not-a-backup", f"The version vector is malformed: {error}") from error


def _shown(version: object) -> str:
    if version is None:
        return "no version"
    known_kind = isinstance(version, int | float) and abs(version) <= MAX_SAFE_INTEGER
    return f"the version {version}" if known_kind else "a version of another kind"
