"""Reading a handshake (wire.md section 4): unauthenticated input of any JSON shape becomes what a session can use."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from kora_daemon.errors import ProtocolError
from kora_daemon.model.jsvalue import as_integer, has_lone_surrogate
from kora_daemon.model.operation import MAX_NAME_LENGTH, MAX_SAFE_INTEGER
from kora_daemon.model.scope import READ_ONLY, ScopeMap
from kora_daemon.model.view import Subsets, View
from kora_daemon.protocol.messages import Handshake

MAX_CURSOR_LENGTH = 4_096
MAX_VIEW_COLLECTIONS = 200
MAX_SUBSETS = 100
MAX_VIEW_FIELDS = 50
MAX_VIEW_LENGTH = 1 << 16
"""Characters of JSON, of scope and subsets together: they are kept as long as the session."""

_decode_vector = msgspec.json.Decoder(dict[str, int]).decode


class Greeting(Struct, frozen=True):
    """What a client said about itself, cleaned."""

    node_id: str
    packed_vector: bytes
    """As JSON: it waits until somebody has said who the client is, and may be a long one."""
    watermark: int | None
    """The delivery watermark, None for a client of the version-vector generation."""
    cursor: str | None
    scope: ScopeMap | None
    subsets: Subsets
    wire_format: str = "json"
    """What the client is told it may write from now on."""

    @property
    def version_vector(self) -> dict[str, int]:
        """Node id -> the largest sequence number that the client has seen of it."""
        return _decode_vector(self.packed_vector)

    def without_vector(self) -> Greeting:
        """What is kept as long as the session."""
        return replace(self, packed_vector=b"{}")


def read_greeting(handshake: Handshake) -> Greeting:
    """Clean a handshake's optional fields; what is malformed counts as absent.

    Raises ProtocolError for a node id that can't be one, and for conditions nested too deeply to be compared or too
    long to be kept.
    """
    if not 0 < len(handshake.node_id) <= MAX_NAME_LENGTH or has_lone_surrogate(handshake.node_id):
        raise ProtocolError(f"A handshake's nodeId is a text of 1 to {MAX_NAME_LENGTH} whole characters")
    scope = clean_scope(handshake.sync_scope)
    try:
        subsets = clean_subsets(handshake.sync_queries)
        view = View(scope, subsets)
    except RecursionError as error:
        raise ProtocolError("A handshake's syncScope or syncQueries is nested too deeply") from error
    if len(view.key) > MAX_VIEW_LENGTH:
        text = f"A handshake's syncScope and syncQueries have at most {MAX_VIEW_LENGTH} characters"
        raise ProtocolError(text)
    return Greeting(
        node_id=handshake.node_id,
        packed_vector=msgspec.json.encode(_vector(handshake.version_vector)),
        watermark=_position(handshake.last_delivery_sequence),
        cursor=_cursor(handshake.delta_cursor),
        scope=scope,
        subsets=subsets,
        wire_format=_wire_format(handshake.supported_wire_formats),
    )


def _wire_format(supported: object) -> str:
    return "protobuf" if isinstance(supported, list) and "protobuf" in supported else "json"


def _cursor(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= MAX_CURSOR_LENGTH else None


def _position(value: object) -> int | None:
    if type(value) is int:
        return value if 0 <= value <= MAX_SAFE_INTEGER else None
    integer = as_integer(value)
    return integer if integer is not None and 0 <= integer <= MAX_SAFE_INTEGER else None


def _vector(entries: dict[str, Any]) -> dict[str, int]:
    return {node: sequence for node, value in entries.items() if (sequence := _position(value)) is not None}


def clean_scope(value: object) -> dict[str, dict[str, Any]] | None:
    """What a client's `syncScope` asks for, None when it restricts nothing (scopes.md section 2)."""
    if not isinstance(value, dict) or not value or len(value) > MAX_VIEW_COLLECTIONS:
        return None
    return {name: _fields(where) for name, where in value.items()}


def _fields(where: object) -> dict[str, Any]:
    if not isinstance(where, dict) or len(where) > MAX_VIEW_FIELDS:
        return {}
    return {name: value for name, value in where.items() if name != READ_ONLY}


def clean_subsets(value: object) -> Subsets:
    """The well-formed entries of `syncQueries`, without repetitions (scopes.md section 5)."""
    if not isinstance(value, list) or len(value) > MAX_SUBSETS:
        return ()
    kept: dict[str, tuple[str, dict[str, Any]]] = {}
    for entry in value:
        if not isinstance(entry, dict):
            continue
        collection, where = entry.get("collection"), entry.get("where")
        if isinstance(collection, str) and isinstance(where, dict) and len(where) <= MAX_VIEW_FIELDS:
            kept.setdefault(View(None, ((collection, where),)).key, (collection, where))
    return tuple(kept.values())
