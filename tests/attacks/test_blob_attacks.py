"""What a hostile device may try with files that are kept: to read others', to fill the disk, to leave the folder.

The hostile device is Bea's, who may write things of her own; what she is after is Ali's, whose hash she knows.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from kora_daemon.server.blob_keeper import BlobRules
from kora_daemon.store.blobs.contract import ANY_SIZE, BlobStore
from kora_daemon.store.blobs.directory import DirectoryBlobs
from tests.support.blobs import (
    BLOB_STORES,
    GRANTS,
    asked,
    brings,
    gets,
    hashed,
    kept,
    manifest_of,
    pushed,
    reference,
    thing,
)
from tests.support.network import Client, Host, connected, eventually, running_server
from tests.support.tenants import has_uploaded, hears, hears_no, options, signed_in, tokens

PARTS = [b"part one", b"part two"]
SECRET = b"".join(PARTS)
MANIFEST = manifest_of(*PARTS)
NAMES_OUTSIDE = [
    "../../../../tmp/kora-escaped",
    "/tmp/kora-escaped",
    "..",
    "",
    "\0" * 64,
    "a" * 63,
    "a" * 65,
    "A" * 64,
    "a" * 62 + "/.",
    "ａ" * 64,
    "a" * 64 + "\n",
    "incoming",
]


class Watched(DirectoryBlobs):
    """Notes which contents were read."""

    def __init__(self, path: Path, **limits: int) -> None:
        super().__init__(path, **limits)
        self.read: list[str] = []

    def get(self, hexadecimal: str, max_bytes: int = ANY_SIZE) -> bytes | None:
        self.read.append(hexadecimal)
        return super().get(hexadecimal, max_bytes)


@pytest.fixture
def blobs(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "blobs")


@asynccontextmanager
async def serving(blobs: BlobStore, rules: BlobRules | None = None) -> AsyncIterator[Host]:
    async with running_server(auth=tokens(GRANTS), options=options(blobs=rules or BlobRules()), blobs=blobs) as host:
        yield host


async def is_told_nothing(client: Client, *contents: bytes) -> None:
    """Ask for all of them, as they are and in upper case; no answer comes, and the session goes on."""
    for content in contents:
        await client.say(asked(content))
        await client.say(asked(content) | {"hash": hashed(content).upper()})
    assert await hears_no(client, "blob-chunk-response")
    await has_uploaded(client)


async def lies_without_end(client: Client, name: str) -> None:
    """Push something else under a name, for ever."""
    lie = json.dumps({"messageId": "lie"} | pushed(b"lie" * 10_000, name))
    while True:
        await client.say_text(lie)


class TestReading:
    """A hash is no capability."""

    async def test_others_files(self, blobs: Watched) -> None:
        async with serving(blobs) as host:
            async with signed_in(host.url, "ali", "phone") as phone:
                await brings(phone, blobs, "phone", "ali", *PARTS)
            async with signed_in(host.url, "bea", "bea") as bea:
                await is_told_nothing(bea, MANIFEST, *PARTS, SECRET, b"nobodys")
        assert blobs.read == []

    @pytest.mark.parametrize("asked_scope", [{"things": {}}, {"things": {"label": "ali"}}, {"notes": {}}])
    async def test_others_files_by_asking_for_their_scope(self, blobs: Watched, asked_scope: Any) -> None:
        async with serving(blobs) as host:
            async with signed_in(host.url, "ali", "phone") as phone:
                await brings(phone, blobs, "phone", "ali", *PARTS)
            async with signed_in(host.url, "bea", "bea", syncScope=asked_scope) as bea:
                await is_told_nothing(bea, MANIFEST, *PARTS)
        assert blobs.read == []

    async def test_a_record_of_ones_own_with_somebody_elses_hash(self, blobs: Watched) -> None:
        """It looks the same whether there is such a content or not: nobody can find out what others have."""
        async with serving(blobs) as host:
            async with signed_in(host.url, "ali", "phone") as phone:
                await brings(phone, blobs, "phone", "ali", *PARTS)
            async with signed_in(host.url, "bea", "bea") as bea, signed_in(host.url, "bea", "other") as other:
                for number, content in enumerate((MANIFEST, *PARTS, b"nobodys"), 1):
                    await has_uploaded(bea, thing("bea", number, "bea", reference(content)))
                await has_uploaded(bea, thing("bea", 9, "bea", reference(SECRET, MANIFEST)))
                await is_told_nothing(bea, MANIFEST, *PARTS, b"nobodys")
                # Her own people are asked, who do not have it.
                requests = {(await hears(other, "blob-chunk-request"))["hash"].lower() for _ in range(8)}
                assert requests == set(map(hashed, (MANIFEST, *PARTS, b"nobodys")))
        assert blobs.read == []

    async def test_a_manifest_of_ones_own_that_lists_somebody_elses_parts(self, blobs: Watched) -> None:
        async with serving(blobs) as host:
            async with signed_in(host.url, "ali", "phone") as phone:
                await brings(phone, blobs, "phone", "ali", *PARTS)
            async with signed_in(host.url, "bea", "bea") as bea:
                forged = manifest_of(*PARTS, b"mine")
                await has_uploaded(bea, thing("bea", 1, "bea", reference(b"x", forged)))
                for content in (forged, b"mine"):
                    await bea.say(pushed(content))
                await eventually(lambda: blobs.has(hashed(forged)) and blobs.has(hashed(b"mine")))
                assert await gets(bea, forged) == forged
                assert await gets(bea, b"mine") == b"mine"
                await is_told_nothing(bea, *PARTS)
        assert set(blobs.read) == {hashed(forged), hashed(b"mine")}

    async def test_to_push_something_else_under_the_hash_does_not_make_it_ones_own(self, blobs: Watched) -> None:
        async with serving(blobs) as host:
            async with signed_in(host.url, "ali", "phone") as phone:
                await brings(phone, blobs, "phone", "ali", *PARTS)
            async with signed_in(host.url, "bea", "bea") as bea:
                await has_uploaded(bea, thing("bea", 1, "bea", reference(PARTS[0])))
                for lie in (b"", b"a lie", PARTS[0] + b"\0", PARTS[1]):
                    await bea.say(pushed(lie, hashed(PARTS[0])))
                await bea.was_heard()
                await is_told_nothing(bea, PARTS[0])
            async with signed_in(host.url, "ali", "laptop") as laptop:
                assert await gets(laptop, MANIFEST) == MANIFEST
                assert await gets(laptop, PARTS[0]) == PARTS[0]
        assert set(kept(_opened(blobs))) == set(map(hashed, (MANIFEST, *PARTS)))

    async def test_who_has_it_may_have_it(self, blobs: Watched) -> None:
        """Two who have the same file keep it once, and each gets it."""
        async with serving(blobs) as host:
            async with signed_in(host.url, "ali", "phone") as phone:
                await brings(phone, blobs, "phone", "ali", *PARTS)
            async with signed_in(host.url, "bea", "bea") as bea:
                await brings(bea, blobs, "bea", "bea", *PARTS)
            async with signed_in(host.url, "bea", "tablet") as tablet:
                assert [await gets(tablet, content) for content in (MANIFEST, *PARTS)] == [MANIFEST, *PARTS]

    async def test_a_record_that_one_may_see_no_more(self, blobs: Watched) -> None:
        async with serving(blobs) as host:
            async with signed_in(host.url, "ali", "phone") as phone, signed_in(host.url, "ali", "laptop") as laptop:
                await brings(phone, blobs, "phone", "ali", *PARTS)
                assert await gets(laptop, MANIFEST) == MANIFEST
                async with signed_in(host.url, "admin", "desk") as desk:
                    moved = thing("desk", 1, "bea", None) | {"type": "update", "recordId": "phone-1"}
                    await has_uploaded(desk, moved | {"data": {"label": "bea"}})
                await phone.go()
                read = len(blobs.read)
                await is_told_nothing(laptop, MANIFEST, *PARTS)
        assert len(blobs.read) == read

    async def test_others_requests_are_not_held_up_by_lies_under_the_same_name(self, blobs: Watched) -> None:
        """A request waits for what is on its way into the store; for a lie it does so once."""
        async with serving(blobs) as host:
            async with signed_in(host.url, "ali", "phone") as phone:
                await brings(phone, blobs, "phone", "ali", *PARTS)
            async with signed_in(host.url, "bea", "bea") as bea, signed_in(host.url, "ali", "laptop") as laptop:
                assert await gets(laptop, MANIFEST) == MANIFEST
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lies_without_end, bea, hashed(PARTS[0]))
                    for _ in range(20):
                        assert await gets(laptop, PARTS[0]) == PARTS[0]
                    nursery.cancel_scope.cancel()

    async def test_before_a_handshake(self, blobs: Watched) -> None:
        async with serving(blobs) as host:
            for message in (pushed(b"x"), asked(b"x")):
                async with connected(host.url) as client:
                    await client.say(message)
                    assert (await client.hear())["code"] == "HANDSHAKE_REQUIRED"
        assert kept(_opened(blobs)) == {}


class TestWriting:
    """What is pushed is what it says, from those who may write, and within limits."""

    @pytest.mark.parametrize("name", NAMES_OUTSIDE)
    async def test_no_name_leads_out_of_the_folder(self, blobs: Watched, tmp_path: Path, name: str) -> None:
        async with serving(blobs) as host, signed_in(host.url, "ali", "phone") as phone:
            await phone.say(pushed(b"x", name))
            await phone.say(asked(b"x") | {"hash": name})
            await phone.say(pushed(b"after"))
            await eventually(lambda: blobs.has(hashed(b"after")))
            assert set(kept(blobs)) == {hashed(b"after")}
        assert {path.name for path in tmp_path.iterdir()} == {"blobs"}
        assert not Path("/tmp/kora-escaped").exists()

    @pytest.mark.parametrize("text", ["eA", "e A==", "====", "eA==\n", "Ä", "", None, 5, ["eA=="]])
    async def test_what_is_no_base64_or_has_another_hash_is_dropped(self, blobs: Watched, text: Any) -> None:
        async with serving(blobs) as host, signed_in(host.url, "ali", "phone") as phone:
            if isinstance(text, str):
                await phone.say(pushed(b"x") | {"bytes": text})
                await phone.say(pushed(b"after"))
                await eventually(lambda: blobs.has(hashed(b"after")))
            else:
                await phone.say(pushed(b"x") | {"bytes": text})
                assert (await phone.hear())["code"] == "MALFORMED_MESSAGE"
        assert hashed(b"x") not in kept(_opened(blobs))

    async def test_who_only_reads_does_not_push(self, blobs: Watched) -> None:
        async with serving(blobs) as host, signed_in(host.url, "viewer", "viewer") as viewer:
            await viewer.say(pushed(b"x"))
            async with signed_in(host.url, "ali", "phone") as phone:
                await phone.say(pushed(b"after"))
                await eventually(lambda: blobs.has(hashed(b"after")))
        assert set(kept(_opened(blobs))) == {hashed(b"after")}

    async def test_what_is_too_large_is_dropped_and_the_session_goes_on(self, blobs: Watched) -> None:
        async with serving(blobs, BlobRules(max_blob_bytes=1_000)) as host:
            async with signed_in(host.url, "ali", "phone") as phone:
                for size in (1_001, 1_002, 1_003, 1_004, 5_000_000):
                    await phone.say(pushed(b"x" * size))
                await phone.say(pushed(b"y" * 1_000))
                await eventually(lambda: blobs.has(hashed(b"y" * 1_000)))
                await has_uploaded(phone)
        assert set(kept(_opened(blobs))) == {hashed(b"y" * 1_000)}

    @pytest.mark.parametrize("kind", BLOB_STORES)
    async def test_a_full_store_costs_nobody_anything_else(self, kind: str, tmp_path: Path) -> None:
        blobs = BLOB_STORES[kind](tmp_path, 10_000)
        with structlog.testing.capture_logs() as logged:
            async with serving(blobs) as host:
                async with signed_in(host.url, "ali", "phone") as phone, signed_in(host.url, "bea", "bea") as bea:
                    await brings(phone, blobs, "phone", "ali", *PARTS)
                    for number in range(40):
                        await bea.say(pushed(bytes([number]) * 1_000))
                    await bea.was_heard()
                    await has_uploaded(bea, thing("bea", 1, "bea", reference(b"mine")))
                    await has_uploaded(phone, thing("phone", 2, "ali", None))
                    async with signed_in(host.url, "ali", "laptop") as laptop:
                        assert await gets(laptop, MANIFEST) == MANIFEST
        blobs.open()
        assert sum(entry.size_bytes for entry in blobs.entries()) <= 10_000
        blobs.close()
        assert [one["reason"] for one in logged if one["event"] == "blobs.dropped"] == ["full"]

    async def test_what_no_record_refers_to_has_a_limit_for_each_user(
        self, blobs: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kora_daemon.server.unused_blobs.CHECK_INTERVAL_S", 0)
        contents = [bytes([number]) * 1_000 for number in range(20)]
        async with serving(blobs, BlobRules(max_unused_bytes=5_000)) as host:
            async with signed_in(host.url, "bea", "bea") as bea, signed_in(host.url, "bea", "bea 2") as again:
                for number, content in enumerate(contents):
                    await (again if number % 2 else bea).say(pushed(content))
                await bea.was_heard()
                await again.was_heard()
            async with signed_in(host.url, "ali", "phone") as phone:
                # Ali, whose records refer to what is pushed, may go on for ever.
                for number in range(1, 11):
                    content = b"ali" + bytes([number]) * 1_000
                    await has_uploaded(phone, thing("phone", number, "ali", reference(content)))
                    await phone.say(pushed(content))
                await eventually(lambda: len(kept(blobs)) >= 15)
        stored = kept(_opened(blobs))
        assert sum(hashed(content) in stored for content in contents) == 5
        assert len(stored) == 15

    async def test_a_flood_is_slowed_down_and_nobody_else_is(self, blobs: Watched) -> None:
        """Of one session only so much waits in memory; operations of others are stored meanwhile."""
        contents = [bytes([number]) * 300_000 for number in range(30)]
        async with serving(blobs) as host:
            async with signed_in(host.url, "bea", "bea") as bea, signed_in(host.url, "ali", "phone") as phone:
                for number, content in enumerate(contents):
                    await bea.say(pushed(content))
                    if number % 10 == 0:
                        await has_uploaded(phone, thing("phone", number + 1, "ali", None))
                await eventually(lambda: len(kept(blobs)) == len(contents))


def _opened(blobs: Watched) -> Watched:
    """The same folder, for a look at it."""
    blobs.open()
    return blobs
