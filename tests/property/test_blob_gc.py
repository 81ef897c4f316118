"""Whatever devices write and store, and however often it runs: what was in use of late is never deleted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.blobs.gc import Collection, LiveBlobs
from kora_daemon.store.memory import MemoryStore
from tests.support.blobs import DAY_MS, NOW_MS, hashed, kept, manifest_of, put, reference
from tests.support.records import Node, apply

CHUNKS = [b"one", b"two"]
MANIFEST = manifest_of(*CHUNKS)
LISTED = {MANIFEST: CHUNKS}
CONTENTS = [MANIFEST, *CHUNKS]
RECORDS = ["a", "b"]
GRACE_DAYS = 5
MEMORY = Path("/dev/shm")
"""Where nothing has to wait for a disk."""

steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(CONTENTS)),
        st.tuples(st.just("refer"), st.sampled_from(RECORDS), st.sampled_from(CONTENTS)),
        st.tuples(st.just("delete"), st.sampled_from(RECORDS)),
        st.tuples(st.just("revive"), st.sampled_from(RECORDS)),
        st.tuples(st.just("run"), st.sampled_from([0, 2, 3, 6])),
    ),
    min_size=8,
    max_size=40,
)


class World:
    """A log and blobs, and what is known of them by other means."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.blobs = DirectoryBlobs(folder)
        self.store.open()
        self.blobs.open()
        self.node = Node()
        self.day = 0
        self.fields: dict[str, bytes] = {}
        self.live: set[str] = set()
        self.in_use_on: dict[bytes, int] = {}
        """Content -> the last day on which it was seen in use, or was stored."""
        self.unused_on: dict[bytes, int] = {}
        """Content -> the first run that found it unused since then."""

    @property
    def now_ms(self) -> int:
        return NOW_MS + self.day * DAY_MS

    def step(self, what: str, *about: Any) -> None:
        getattr(self, what)(*about)

    def put(self, content: bytes) -> None:
        put(self.blobs, content, now_ms=self.now_ms)
        self.in_use_on[content] = self.day

    def refer(self, record: str, content: bytes) -> None:
        kind = "update" if record in self.fields else "insert"
        apply(self.store, self.node.write(kind, record, {"file": reference(content)}))
        self.fields[record] = content
        self.live.add(record)

    def delete(self, record: str) -> None:
        apply(self.store, self.node.delete(record))
        self.live.discard(record)

    def revive(self, record: str) -> None:
        if record in self.fields:
            apply(self.store, self.node.update(record, {"title": "back"}))
            self.live.add(record)

    def in_use(self) -> set[bytes]:
        there = kept(self.blobs)
        found = {self.fields[record] for record in self.live if record in self.fields}
        return found | {part for one in found if hashed(one) in there for part in LISTED.get(one, ())}

    def run(self, days: int) -> None:
        self.day += days
        before, used = set(kept(self.blobs)), self.in_use()
        Collection(self.blobs, LiveBlobs(self.store, self.blobs), GRACE_DAYS * DAY_MS, self.now_ms, dry=False).run()
        after = set(kept(self.blobs))
        for content in CONTENTS:
            name = hashed(content)
            if content in used:
                self.in_use_on[content] = self.day
                self.unused_on.pop(content, None)
            elif name in before:
                self.unused_on.setdefault(content, self.day)
            if name in before:
                since = max(self.unused_on.get(content, self.day), self.in_use_on[content])
                assert (name in after) == (content in used or self.day - since < GRACE_DAYS)
            if name not in after:
                self.unused_on.pop(content, None)
        assert after <= before

    def close(self) -> None:
        self.blobs.close()
        self.store.close()


@given(steps)
def test_what_was_in_use_of_late_is_never_deleted_and_the_rest_is(taken: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        world = World(Path(folder) / "blobs")
        for what, *about in taken:
            world.step(what, *about)
        world.close()
