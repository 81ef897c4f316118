"""Files that are kept: pushed by a device that leaves, fetched by another one later, wherever it connects."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from kora_daemon.auth.contract import AuthProvider
from kora_daemon.store.blobs.contract import ANYBODY, BlobStore, Kept
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.contract import Store
from kora_daemon.store.sqlite import SqliteStore
from tests.support.blobs import (
    BLOB_STORES,
    GRANTS,
    BlobKind,
    asked,
    brings,
    gets,
    hashed,
    manifest_of,
    pushed,
    put,
    reference,
    thing,
)
from tests.support.network import Host, connected, eventually, running_server, streaming
from tests.support.stores import RECORD_STORES, beside
from tests.support.tenants import has_uploaded, hears, hears_no, options, signed_in, tokens

PARTS = [b"part one", b"part two", b"the end"]
MANIFEST = manifest_of(*PARTS)


@pytest.fixture(params=BLOB_STORES)
def kind(request: pytest.FixtureRequest) -> BlobKind:
    return BLOB_STORES[request.param]


@pytest.fixture
def blobs(kind: BlobKind, tmp_path: Path) -> BlobStore:
    return kind(tmp_path)


@asynccontextmanager
async def serving(
    blobs: BlobStore | None, store: Store | None = None, auth: AuthProvider | None = None
) -> AsyncIterator[Host]:
    async with running_server(store, auth or tokens(GRANTS), options(), blobs=blobs) as host:
        yield host


async def test_devices_are_told_to_push_only_where_something_is_kept(blobs: BlobStore) -> None:
    for kept, told in ((blobs, True), (None, None)):
        async with running_server(blobs=kept) as host, connected(host.url) as client:
            assert (await client.shake_hands()).get("blobStorageEnabled") is told


async def test_without_a_store_a_push_is_dropped() -> None:
    async with running_server() as host, streaming(host.url) as client, streaming(host.url, "node-b") as other:
        await client.say(pushed(b"x"))
        await client.say(asked(b"x"))
        assert (await hears(other, "blob-chunk-request"))["hash"] == hashed(b"x")


async def test_a_file_outlives_the_device_that_brought_it(blobs: BlobStore) -> None:
    async with serving(blobs) as host:
        async with signed_in(host.url, "ali", "phone") as phone:
            assert await brings(phone, blobs, "phone", "ali", *PARTS) == MANIFEST
        async with signed_in(host.url, "ali", "laptop") as laptop:
            assert [await gets(laptop, content) for content in (MANIFEST, *PARTS)] == [MANIFEST, *PARTS]


async def test_and_the_server(kind: BlobKind, blobs: BlobStore, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "kora.db", durability="normal")
    async with serving(blobs, store) as host, signed_in(host.url, "ali", "phone") as phone:
        await brings(phone, blobs, "phone", "ali", *PARTS)
    async with serving(kind.another(blobs), store) as host, signed_in(host.url, "ali", "laptop") as laptop:
        assert [await gets(laptop, content) for content in (MANIFEST, *PARTS)] == [MANIFEST, *PARTS]


async def test_without_auth_it_is_everybodys(blobs: BlobStore) -> None:
    async with running_server(blobs=blobs) as host:
        async with streaming(host.url, "phone") as phone:
            await phone.say(pushed(b"x"))
            await eventually(lambda: blobs.has(hashed(b"x")))
        async with streaming(host.url, "laptop") as laptop:
            assert await gets(laptop, b"x") == b"x"


@pytest.mark.parametrize(("brought", "asked_for"), [(True, False), (False, True), (True, True)])
async def test_it_does_not_matter_who_speaks_protobuf(blobs: BlobStore, brought: bool, asked_for: bool) -> None:
    async with running_server(blobs=blobs) as host:
        async with streaming(host.url, "phone", binary=brought) as phone:
            await phone.say(pushed(b"x"))
            await eventually(lambda: blobs.has(hashed(b"x")))
        async with streaming(host.url, "laptop", binary=asked_for) as laptop:
            assert await gets(laptop, b"x") == b"x"


async def test_who_only_reads_gets_it_and_so_does_an_admin(blobs: BlobStore) -> None:
    async with serving(blobs) as host:
        async with signed_in(host.url, "ali", "phone") as phone:
            await brings(phone, blobs, "phone", "ali", *PARTS)
        for name in ("viewer", "admin"):
            async with signed_in(host.url, name) as client:
                assert [await gets(client, content) for content in (MANIFEST, *PARTS)] == [MANIFEST, *PARTS]


async def test_a_request_right_behind_the_push_is_answered(blobs: BlobStore) -> None:
    """Devices ask as soon as they hear of the record; the bytes may still be on their way to the disk."""
    async with serving(blobs) as host:
        async with signed_in(host.url, "ali", "laptop") as laptop, signed_in(host.url, "ali", "phone") as phone:
            content = b"x" * 1_000_000
            await has_uploaded(phone, thing("phone", 1, "ali", reference(content)))
            await phone.say(pushed(content))
            await phone.was_heard()
            await phone.go()
            assert await gets(laptop, content) == content


async def test_the_parts_are_known_to_a_user_who_connects_again(blobs: BlobStore) -> None:
    async with serving(blobs) as host:
        async with signed_in(host.url, "ali", "phone") as phone:
            await brings(phone, blobs, "phone", "ali", *PARTS)
        async with signed_in(host.url, "ali", "laptop") as laptop:
            await gets(laptop, MANIFEST)
        async with signed_in(host.url, "ali", "laptop") as laptop:
            assert await gets(laptop, PARTS[1]) == PARTS[1]


async def test_a_record_that_is_handed_over_takes_its_file_along(blobs: BlobStore) -> None:
    async with serving(blobs) as host:
        async with signed_in(host.url, "ali", "phone") as phone:
            await brings(phone, blobs, "phone", "ali", *PARTS)
        async with signed_in(host.url, "admin", "desk") as desk, signed_in(host.url, "bea", "tablet") as bea:
            handed_over = thing("desk", 1, "bea", None) | {"type": "update", "recordId": "phone-1"}
            await has_uploaded(desk, handed_over | {"data": {"label": "bea"}})
            assert [await gets(bea, content) for content in (MANIFEST, *PARTS)] == [MANIFEST, *PARTS]
            async with signed_in(host.url, "ali", "laptop") as ali:
                await ali.say(asked(MANIFEST))
                assert await hears_no(ali, "blob-chunk-response")


async def test_a_record_that_is_copied_within_what_one_sees_shows_the_same_file(blobs: BlobStore) -> None:
    async with serving(blobs) as host:
        async with signed_in(host.url, "ali", "phone") as phone, signed_in(host.url, "ali", "laptop") as laptop:
            await brings(phone, blobs, "phone", "ali", *PARTS)
            await has_uploaded(laptop, thing("laptop", 1, "ali", reference(b"".join(PARTS), MANIFEST)))
            await phone.go()
            assert await gets(laptop, MANIFEST) == MANIFEST


async def test_what_one_device_gives_another_is_kept_from_then_on(blobs: BlobStore) -> None:
    """Stock clients do not push what was written while they were offline."""
    async with serving(blobs) as host:
        async with signed_in(host.url, "ali", "phone") as phone, signed_in(host.url, "ali", "laptop") as laptop:
            await has_uploaded(phone, thing("phone", 1, "ali", reference(b"x")))
            await laptop.say(asked(b"x"))
            request = await hears(phone, "blob-chunk-request")
            encoded = base64.b64encode(b"x").decode()
            await phone.say({"type": "blob-chunk-response", "requestId": request["requestId"], "bytes": encoded})
            assert (await hears(laptop, "blob-chunk-response"))["bytes"] == encoded
            await eventually(lambda: blobs.has(hashed(b"x")))
        async with signed_in(host.url, "ali", "tablet") as tablet:
            assert await gets(tablet, b"x") == b"x"


async def test_it_counts_as_the_authors_whoever_gave_it(blobs: BlobStore) -> None:
    async with serving(blobs) as host:
        async with signed_in(host.url, "ali", "phone") as phone:
            await has_uploaded(phone, thing("phone", 1, "ali", reference(b"x")))
        async with signed_in(host.url, "ali", "tablet") as tablet, signed_in(host.url, "ali", "laptop") as laptop:
            await laptop.say(asked(b"x"))
            request = await hears(tablet, "blob-chunk-request")
            await tablet.say(
                {
                    "type": "blob-chunk-response",
                    "requestId": request["requestId"],
                    "bytes": base64.b64encode(b"x").decode(),
                }
            )
            await hears(laptop, "blob-chunk-response")
            await eventually(lambda: blobs.has(hashed(b"x")))
            await tablet.go()
            assert await gets(laptop, b"x") == b"x"


async def test_what_is_damaged_is_asked_of_devices_and_mended(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    place = tmp_path / "blobs" / hashed(b"x")[:2] / hashed(b"x")
    async with serving(blobs) as host:
        async with signed_in(host.url, "ali", "phone") as phone, signed_in(host.url, "ali", "laptop") as laptop:
            await has_uploaded(phone, thing("phone", 1, "ali", reference(b"x")))
            await phone.say(pushed(b"x"))
            await eventually(lambda: blobs.has(hashed(b"x")))
            place.write_bytes(b"y")
            await laptop.say(asked(b"x"))
            request = await hears(phone, "blob-chunk-request")
            encoded = base64.b64encode(b"x").decode()
            await phone.say({"type": "blob-chunk-response", "requestId": request["requestId"], "bytes": encoded})
            assert (await hears(laptop, "blob-chunk-response"))["bytes"] == encoded
            await eventually(lambda: place.read_bytes() == b"x")


async def test_what_an_operator_brought_along_is_of_whoever_refers_to_it(blobs: BlobStore) -> None:
    async with serving(blobs) as host:
        assert put(blobs, b"logo", holder=ANYBODY) is Kept.NEW
        async with signed_in(host.url, "bea", "tablet") as bea:
            await has_uploaded(bea, thing("tablet", 1, "bea", reference(b"logo")))
            assert await gets(bea, b"logo") == b"logo"


async def test_what_was_handed_in_is_stored_before_the_server_stops(blobs: BlobStore, kind: BlobKind) -> None:
    contents = [bytes([number]) * 200_000 for number in range(8)]
    async with running_server(blobs=blobs) as host, streaming(host.url) as client:
        for content in contents:
            await client.say(pushed(content))
        await client.was_heard()
    after = kind.another(blobs)
    after.open()
    assert all(after.has(hashed(content)) for content in contents)
    after.close()


async def test_what_is_in_the_database_is_there_for_all_daemons(tmp_path: Path) -> None:
    kind = RECORD_STORES["postgres"]
    store = kind(tmp_path)
    blobs = BLOB_STORES["postgres"](tmp_path)
    another = BLOB_STORES["postgres"].another(blobs)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(serving(blobs, store))
        two = await stack.enter_async_context(serving(another, beside(kind, store)))
        async with signed_in(one.url, "ali", "phone") as phone:
            await brings(phone, blobs, "phone", "ali", *PARTS)
        async with signed_in(two.url, "ali", "laptop") as laptop:
            assert [await gets(laptop, content) for content in (MANIFEST, *PARTS)] == [MANIFEST, *PARTS]
