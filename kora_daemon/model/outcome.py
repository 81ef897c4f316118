"""What became of an operation that a client sent (store.md section 6.1)."""

from __future__ import annotations

from msgspec import Struct


class Rejection(Struct, frozen=True, gc=False):
    """A refused operation: an answer, not an error. `code` is one of the codes of store.md section 6.1."""

    operation_id: str
    collection: str
    record_id: str
    code: str
    message: str
    retriable: bool = False
