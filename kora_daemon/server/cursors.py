"""The one thing in a presence state that names a record: its cursor (wire.md section 2)."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from kora_daemon.model.record import RecordKey

_NULL = b"null"


class _Cursor(Struct):
    collection: str
    record_id: str = msgspec.field(name="recordId")


class Presence(Struct, frozen=True):
    """A state and where its cursor is. `bare` is the state without the cursor, the same where there is none."""

    state: Raw
    bare: Raw
    cursor: RecordKey | None = None


_members = msgspec.json.Decoder(dict[str, Raw]).decode
_cursor = msgspec.json.Decoder(_Cursor).decode
_encode = msgspec.json.encode


def read_presence(state: Raw) -> Presence | None:
    """What a state says; None for one that is no object. A cursor that names no record can't be judged: it is cut out.

    A member that stands there twice counts with its last value, as for the clients.
    """
    try:
        members = _members(state)
    except (msgspec.DecodeError, RecursionError):
        return None
    cursor = members.pop("cursor", None)
    if cursor is None or bytes(cursor) == _NULL:
        return Presence(state, state)
    bare = Raw(_encode(members))
    try:
        place = _cursor(cursor)
    except (msgspec.DecodeError, RecursionError):
        return Presence(bare, bare)
    return Presence(state, bare, RecordKey(place.collection, place.record_id))
