"""What operators do to a blob store besides serving it: list, verify, import, delete what is unused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from kora_daemon.config import Settings
from kora_daemon.errors import KoraError, StoreCorrupt
from kora_daemon.maintenance import opened_store
from kora_daemon.parts import blobs_in_folder, build_blobs
from kora_daemon.server.clock import wall_ms
from kora_daemon.store.blobs.contract import ANYBODY, BlobEntry, BlobStore, Kept
from kora_daemon.store.blobs.gc import Collection, LiveBlobs, Swept

_DAY_MS = 86_400_000


@contextmanager
def opened_blobs(settings: Settings) -> Iterator[BlobStore]:
    """The blob store of the settings, open. Raises KoraError where nothing is kept."""
    blobs = build_blobs(settings)
    if blobs is None:
        raise KoraError('blobs.kind is "none": devices give files to each other, and nothing is kept here')
    with _open(blobs):
        yield blobs


@contextmanager
def _open(blobs: BlobStore) -> Iterator[None]:
    blobs.open()
    try:
        yield
    finally:
        blobs.close()


def delete_unused(settings: Settings, grace_days: float, *, dry: bool, despite_encryption: bool) -> Swept:
    """One run of `Collection`, beside a daemon that goes on. A `dry` one deletes and marks nothing.

    Raises KoraError.
    """
    with opened_blobs(settings) as blobs, opened_store(settings, must_exist=True) as store:
        if not store.count_operations():
            raise KoraError("the log is empty: with this database no blob is in use, so nothing was deleted")
        live = LiveBlobs(store, blobs, blind=despite_encryption)
        return Collection(blobs, live, round(grace_days * _DAY_MS), wall_ms(), dry=dry).run()


def damaged(blobs: BlobStore, *, delete: bool) -> Iterator[tuple[BlobEntry, bool]]:
    """Read everything that is kept; each entry with whether it is damaged. Deletes what is, if asked to."""
    now_ms = wall_ms()
    for entry in blobs.entries():
        is_damaged = False
        try:
            blobs.get(entry.hash)
        except StoreCorrupt:
            is_damaged = True
            if delete:
                blobs.delete(entry.hash, now_ms)
        yield entry, is_damaged


ImportOutcome = Literal["imported", "known", "noRoom", "damaged", "tooLarge"]
_OUTCOMES: dict[Kept, ImportOutcome] = {Kept.NEW: "imported", Kept.KNOWN: "known", Kept.FULL: "noRoom"}


def import_folder(blobs: BlobStore, folder: Path, max_blob_bytes: int) -> Iterator[ImportOutcome]:
    """Take over what is in a folder of the TypeScript server's, or of another daemon's; what becomes of each content.

    What a daemon has kept stays with who has it; everything else is of anybody: each record that refers to it counts.
    Raises KoraError.
    """
    if not folder.is_dir():
        raise KoraError(f"{folder} is no folder; name the one that the files are in")
    source = blobs_in_folder(folder)
    with _open(source):
        for entry in source.entries():
            try:
                content = source.get(entry.hash, max_blob_bytes)
            except StoreCorrupt:
                yield "damaged"
                continue
            if content is None:
                yield "tooLarge"
            else:
                yield _OUTCOMES[blobs.put(entry.hash, content, entry.holders or {ANYBODY}, wall_ms())]
