"""Deleting the contents that no record refers to any more, beside daemons that go on writing.

Live are the contents that a record refers to which is not deleted, by its fields as they are now, and the parts of
those among them that are manifests. What a run finds unused it marks; a later run deletes what has been unused, and was
not stored again, for the whole grace period. So a record that is deleted and brought back within that time finds its
file, and a device has that time to upload the record that goes with a file.

A run reads the whole log once and then, before it deletes something, what was appended since.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from msgspec import Struct

from kora_daemon.errors import StoreCorrupt, StoreError
from kora_daemon.materialization.blobs import MAX_MANIFEST_BYTES, blob_hashes, listed_parts, referred
from kora_daemon.materialization.fold import read_data
from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.store.blobs.contract import BlobEntry, BlobStore
from kora_daemon.store.contract import Store

_ENTRIES_AT_ONCE = 500
_BYTES_AT_ONCE = 4 << 20
_DELETED_AT_ONCE = 100
_ENCRYPTED = "__kora_e2e_encrypted"

log = structlog.get_logger("kora.blobs")


class Encrypted(StoreError):
    """What encrypted operations refer to can't be known, so nothing can be said to be unused."""


class Tally(Struct):
    """Contents, and their bytes."""

    blobs: int = 0
    bytes: int = 0

    def add(self, entry: BlobEntry) -> None:
        """Count one."""
        self.blobs += 1
        self.bytes += entry.size_bytes


class Swept(Struct):
    """What a run has found: what is live, what is unused for less than the grace period, what it has deleted."""

    live: Tally
    waiting: Tally
    deleted: Tally


class LiveBlobs:
    """What records refer to, as far as the log was read. `blind`: take no notice of encrypted operations."""

    def __init__(self, store: Store, blobs: BlobStore, *, blind: bool = False) -> None:
        self._store = store
        self._blobs = blobs
        self._blind = blind
        self._hashes: set[bytes] = set()
        self._read_upto = 0
        self._began_at = self._floor = 0

    def __contains__(self, hexadecimal: str) -> bool:
        return bytes.fromhex(hexadecimal) in self._hashes

    def read_on(self) -> None:
        """Read the log, from the second time on what was appended since. Raises Encrypted and StoreError."""
        if not self._read_upto:
            self._began_at, self._floor = self._store.frontier(), self._store.floor()
        while entries := self._store.entries_after(self._read_upto, _ENTRIES_AT_ONCE, _BYTES_AT_ONCE):
            self._look_up(
                {
                    RecordKey(entry.operation.collection, entry.operation.record_id)
                    for entry in entries
                    if self._is_of_interest(entry)
                }
            )
            self._read_upto = entries[-1].sequence
        if self._store.floor() != self._floor:
            raise StoreError("another log was put in place of this one meanwhile; run it again")

    def _is_of_interest(self, entry: LogEntry) -> bool:
        """Whether it refers to something, or may have brought a record back that does and was looked at before."""
        if not self._blind:
            _check_readable(entry.operation)
        return entry.sequence > self._began_at or bool(referred(entry.operation))

    def _look_up(self, keys: Iterable[RecordKey]) -> None:
        for fields in self._store.current_fields(keys, deleted=False).values():
            for value in fields.values():
                for hexadecimal in blob_hashes(value):
                    self._refer(hexadecimal)

    def _refer(self, hexadecimal: str) -> None:
        if hexadecimal in self:
            return
        self._hashes.add(bytes.fromhex(hexadecimal))
        if self._blobs.head(hexadecimal, 1) == b"{":
            try:
                manifest = self._blobs.get(hexadecimal, MAX_MANIFEST_BYTES) or b""
            except StoreCorrupt as error:
                # Its parts are of no use without it, and may be those of others, which name them themselves.
                log.warning("blobs.damaged", error=str(error))
            else:
                self._hashes.update(map(bytes.fromhex, listed_parts(manifest)))


def _check_readable(operation: Operation) -> None:
    if _ENCRYPTED.encode() not in bytes(operation.data):
        return
    data = read_data(operation)
    if isinstance(data, dict) and _ENCRYPTED in data:
        raise Encrypted(
            f"operations of {operation.collection} are end-to-end encrypted: what files they refer to only devices "
            "know, so nothing was deleted; --despite-encryption goes by all others"
        )


class Collection:
    """One run. `grace_ms` as above; a `dry` one only counts."""

    def __init__(self, blobs: BlobStore, live: LiveBlobs, grace_ms: int, now_ms: int, *, dry: bool) -> None:
        self._blobs = blobs
        self._live = live
        self._cutoff_ms = now_ms - grace_ms
        self._now_ms = now_ms
        self._dry = dry
        self._due: list[BlobEntry] = []
        self.swept = Swept(Tally(), Tally(), Tally())

    def run(self) -> Swept:
        """Look at everything that is kept. Raises Encrypted and StoreError, with what is deleted by then deleted."""
        self._live.read_on()
        for entry in self._blobs.entries():
            if entry.hash in self._live:
                self._is_live(entry)
            elif self._is_due(entry):
                self._due.append(entry)
                if len(self._due) >= _DELETED_AT_ONCE:
                    self._delete_due()
            else:
                self._waits(entry)
        self._delete_due()
        return self.swept

    def _is_due(self, entry: BlobEntry) -> bool:
        unused_since_ms = self._now_ms if entry.unused_since_ms is None else entry.unused_since_ms
        return max(unused_since_ms, entry.stored_at_ms) <= self._cutoff_ms

    def _is_live(self, entry: BlobEntry) -> None:
        if entry.unused_since_ms is not None and not self._dry:
            self._blobs.mark(entry.hash, None)
        self.swept.live.add(entry)

    def _waits(self, entry: BlobEntry) -> None:
        if entry.unused_since_ms is None and not self._dry:
            self._blobs.mark(entry.hash, self._now_ms)
        self.swept.waiting.add(entry)

    def _delete_due(self) -> None:
        due, self._due = self._due, []
        if due:
            self._live.read_on()
        for entry in due:
            if entry.hash in self._live:
                self._is_live(entry)
            elif self._dry or self._blobs.delete(entry.hash, self._cutoff_ms + 1):
                self.swept.deleted.add(entry)
            else:
                self._waits(entry)
