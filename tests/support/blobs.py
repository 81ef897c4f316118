"""Every kind of blob store, and contents to keep in it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kora_daemon.model.scope import ScopeMap
from kora_daemon.store.blobs.contract import BlobEntry, BlobStore, Kept, holder_of
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.postgres.blobs import PostgresBlobs
from tests.support.devices import insert
from tests.support.network import Client, eventually
from tests.support.postgres import server
from tests.support.tenants import has_uploaded, hears

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
ALI, BEA = holder_of("alis phone"), holder_of("beas phone")

_numbers = itertools.count(1)


class BlobKind:
    """A kind of blob store. Called with a folder and limits it makes a new one, not opened yet."""

    def __init__(self, make: Callable[[str, int], BlobStore], place: Callable[[Path], str]) -> None:
        self._make = make
        self._place = place
        self._places: dict[int, str] = {}

    def __call__(self, folder: Path, max_bytes: int = 0) -> BlobStore:
        place = self._place(folder)
        made = self._make(place, max_bytes)
        self._places[id(made)] = place
        return made

    def another(self, blobs: BlobStore, max_bytes: int = 0) -> BlobStore:
        """One more on the same data."""
        return self._make(self._places[id(blobs)], max_bytes)


BLOB_STORES = {
    "directory": BlobKind(
        lambda place, max_bytes: DirectoryBlobs(Path(place), max_bytes=max_bytes),
        lambda folder: str(folder / f"blobs-{next(_numbers)}"),
    ),
    "postgres": BlobKind(
        lambda place, max_bytes: PostgresBlobs(place, max_bytes=max_bytes, connections=4),
        lambda _folder: server().schema(),
    ),
}


def hashed(content: bytes) -> str:
    """The name of a content."""
    return hashlib.sha256(content).hexdigest()


def manifest_of(*parts: bytes) -> bytes:
    """The manifest of a file in these parts, as stock clients write it."""
    whole = b"".join(parts)
    listed = [hashed(part) for part in parts]
    text: dict[str, Any] = {"blobHash": hashed(whole), "size": len(whole), "chunkSize": 16, "chunkHashes": listed}
    return json.dumps(text, separators=(",", ":")).encode()


def reference(content: bytes, manifest: bytes | None = None) -> dict[str, Any]:
    """What a record says of a file."""
    found: dict[str, Any] = {"hash": hashed(content), "size": len(content), "mimeType": "text/plain"}
    return found if manifest is None else {**found, "manifestHash": hashed(manifest)}


def put(blobs: BlobStore, *contents: bytes, holder: str = ALI, now_ms: int = NOW_MS) -> Kept:
    """Keep contents; what became of the last one."""
    return [blobs.put(hashed(content), content, [holder], now_ms) for content in contents][-1]


def kept(blobs: BlobStore) -> dict[str, BlobEntry]:
    """Everything in it, by hash."""
    return {entry.hash: entry for entry in blobs.entries()}


def pushed(content: bytes, hexadecimal: str | None = None) -> dict[str, Any]:
    """The message with which a device offers a content."""
    encoded = base64.b64encode(content).decode()
    return {
        "type": "blob-chunk-push",
        "hash": hashed(content) if hexadecimal is None else hexadecimal,
        "bytes": encoded,
    }


def asked(content: bytes, request_id: str = "q") -> dict[str, Any]:
    """The message with which a device asks for a content."""
    return {"type": "blob-chunk-request", "requestId": request_id, "hash": hashed(content)}


# Devices with files. Things have a `label`, here whose they are, and a `file`.

GRANTS: dict[str, ScopeMap | None] = {
    "ali": {"things": {"label": "ali"}},
    "bea": {"things": {"label": "bea"}},
    "viewer": {"things": {"label": "ali", "__readonly": True}},
    "admin": None,
}


def thing(node_id: str, number: int, owner: str, file: dict[str, Any] | None) -> dict[str, Any]:
    """The `number`-th operation of a device: a new thing "<node>-<number>" of somebody, with a file."""
    made = insert(node_id, number) | {"collection": "things", "recordId": f"{node_id}-{number}"}
    return made | {"data": {"label": owner, "file": file}}


async def brings(client: Client, blobs: BlobStore, node_id: str, owner: str, *parts: bytes, number: int = 1) -> bytes:
    """A device uploads a thing with a file in these parts and pushes them, as stock clients do; the manifest."""
    manifest = manifest_of(*parts)
    await has_uploaded(client, thing(node_id, number, owner, reference(b"".join(parts), manifest)))
    for content in (*parts, manifest):
        await client.say(pushed(content))
    await eventually(lambda: all(blobs.has(hashed(content)) for content in (*parts, manifest)))
    return manifest


async def gets(client: Client, content: bytes) -> bytes:
    """What a device is answered that asks for a content."""
    await client.say(asked(content, hashed(content)))
    answer = await hears(client, "blob-chunk-response")
    assert answer["requestId"] == hashed(content)
    return base64.b64decode(answer["bytes"])
