"""What every blob store promises. `tests/conformance/test_blob_stores.py` holds each of them to it."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Collection, Iterator
from typing import NamedTuple, Protocol

ANY_SIZE = 2**62
ANYBODY = "0" * 32
"""Has everything that an operator has brought along (`kora blobs import`)."""


class Kept(enum.Enum):
    """What became of a content that was to be kept."""

    NEW = enum.auto()
    KNOWN = enum.auto()
    """It was there; it counts as stored now."""
    FULL = enum.auto()
    """There is no room for it."""


class BlobEntry(NamedTuple):
    """A content that is kept. Times in ms since the epoch; `unused_since_ms` see `BlobStore.mark`."""

    hash: str
    size_bytes: int
    stored_at_ms: int
    unused_since_ms: int | None
    holders: frozenset[str]


class BlobStore(Protocol):
    """Contents under their SHA-256, each kept once, and who has shown to have them.

    A hash is 64 hexadecimal digits in lower case, everything else raises ValueError. A holder is what `holder_of` makes
    of a node id, or ANYBODY. Calls block, and may run in any thread, beside each other and beside other processes.
    Every call raises `StoreUnavailable` when the medium fails for now.
    """

    def open(self) -> None:
        """Make ready what has to be there, and tidy up behind processes that died."""
        ...

    def close(self) -> None:
        """Give everything back. Idempotent."""
        ...

    def put(self, hexadecimal: str, content: bytes, holders: Collection[str], now_ms: int) -> Kept:
        """Keep a content durably, in whole or not at all; these have it. Whoever calls has checked the hash."""
        ...

    def has(self, hexadecimal: str) -> bool:
        """Whether a content is kept."""
        ...

    def get(self, hexadecimal: str, max_bytes: int = ANY_SIZE) -> bytes | None:
        """The content, unless it is larger than that.

        Raises `StoreCorrupt` for one that does not have its hash any more; `put` mends it.
        """
        ...

    def head(self, hexadecimal: str, size_bytes: int) -> bytes:
        """The first bytes of a content, fewer or none where there are no more. Does not look whether it is damaged."""
        ...

    def held_by(self, hexadecimal: str, holders: Collection[str]) -> set[str]:
        """Which of these have shown to have the content."""
        ...

    def entries(self) -> Iterator[BlobEntry]:
        """All that is kept, ascending by hash; what comes and goes meanwhile may be among it or not."""
        ...

    def mark(self, hexadecimal: str, unused_since_ms: int | None) -> None:
        """Remember since when no record refers to a content, as far as is known; None: one does."""
        ...

    def delete(self, hexadecimal: str, before_ms: int) -> bool:
        """Delete a content, unless it was stored (again) at this time or later; whether that was done."""
        ...


def holder_of(node_id: str) -> str:
    """The name of a device among holders: 32 hexadecimal digits, whatever its node id is made of."""
    return hashlib.blake2b(node_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def sha256_of(content: bytes) -> str:
    """The hash of a content."""
    return hashlib.sha256(content).hexdigest()
