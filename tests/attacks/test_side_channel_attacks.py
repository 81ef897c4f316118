"""What succeeds against the reference and fails here: "awareness, Yjs, blobs unscoped", a row of scopes.md section 11.

The hostile client is Bea, who may see notes and things of hers; what she is after is Ali's. More of it is in
`tests/integration/test_side_channels.py`.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from kora_daemon.model.scope import ScopeMap
from tests.support.devices import insert
from tests.support.network import Client, running_server
from tests.support.tenants import (
    ALI,
    BEA,
    handed_over,
    has_uploaded,
    hears,
    hears_no,
    note,
    options,
    presence,
    signed_in,
    tokens,
    typed,
)

FILE = b"the file of ali"
HASH = hashlib.sha256(FILE).hexdigest()
GRANTS: dict[str, ScopeMap | None] = {
    "ali": {**ALI, "things": {"label": "ali"}},
    "bea": {**BEA, "things": {"label": "bea"}},
    "viewer": {"notes": {"__readonly": True}},
    "admin": None,
}
ASKED = [None, {"notes": {}}, {"notes": {"ownerId": "ali"}}, {"things": {}, "notes": {"ownerId": "ali"}}]
ALIS = 1
THING = insert("seed", 9) | {
    "collection": "things",
    "recordId": "thing",
    "data": {"label": "ali", "file": {"hash": HASH, "size": len(FILE), "mimeType": "text/plain"}},
}


async def stocked(admin: Client) -> None:
    await has_uploaded(admin, note(ALIS, "ali"), note(2, "bea"), THING)


def asks(hash_: str) -> dict[str, Any]:
    return {"type": "blob-chunk-request", "requestId": f"q {hash_}", "hash": hash_}


@pytest.mark.parametrize("asked", ASKED)
async def test_awareness_unscoped(asked: Any) -> None:
    members = {} if asked is None else {"syncScope": asked}
    async with running_server(auth=tokens(GRANTS), options=options()) as host:
        async with (
            signed_in(host.url, "admin") as admin,
            signed_in(host.url, "ali") as ali,
            signed_in(host.url, "ali") as other,
            signed_in(host.url, "bea", **members) as bea,
        ):
            await stocked(admin)
            await bea.say(presence("Bea", 1, ALIS))
            # In the name of others, as their client ids and as many at once.
            forged = presence("Ali", 2)["states"] | presence("Ali", 3)["states"]
            await bea.say({"type": "awareness-update", "clientId": 2, "states": forged})
            await ali.say(presence("Ali", 2, ALIS))
            await other.say(presence("Other", 3, ALIS))
            assert set((await hears(other, "awareness-update"))["states"]) == {"2"}
            assert [one["user"]["name"] for one in (await hears(ali, "awareness-update"))["states"].values()] == [
                "Other"
            ]
            assert await hears_no(bea, "awareness-update")
            assert await hears_no(admin, "awareness-update")


@pytest.mark.parametrize("asked", ASKED)
async def test_yjs_unscoped(asked: Any) -> None:
    members = {} if asked is None else {"syncScope": asked}
    async with running_server(auth=tokens(GRANTS), options=options()) as host:
        async with (
            signed_in(host.url, "admin") as admin,
            signed_in(host.url, "ali") as ali,
            signed_in(host.url, "ali") as other,
            signed_in(host.url, "viewer") as viewer,
            signed_in(host.url, "bea", **members) as bea,
        ):
            await stocked(admin)
            await bea.say(typed("Zm9yZ2Vk", ALIS))
            await bea.say(typed("Zm9yZ2Vk", 99))
            await bea.say(typed("Zm9yZ2Vk", ALIS, collection="secrets"))
            await viewer.say(typed("Zm9yZ2Vk", ALIS))
            await bea.was_heard()
            await viewer.was_heard()
            await ali.say(typed("YQ==", ALIS))
            for client in (other, admin, viewer):
                assert (await hears(client, "yjs-doc-update"))["update"] == "YQ=="
            assert await hears_no(bea, "yjs-doc-update")
            # What is hers now is hers, and was not before.
            await has_uploaded(admin, handed_over(20, ALIS, "bea"))
            await ali.say(typed("bm90IGhlcnM=", ALIS))
            await ali.was_heard()
            await admin.say(typed("Yg==", ALIS))
            if asked is None or "ownerId" not in asked["notes"]:
                assert (await hears(bea, "yjs-doc-update"))["update"] == "Yg=="
            assert await hears_no(other, "yjs-doc-update")


@pytest.mark.parametrize("asked", ASKED)
async def test_blobs_unscoped(asked: Any) -> None:
    members = {} if asked is None else {"syncScope": asked}
    async with running_server(auth=tokens(GRANTS), options=options()) as host:
        async with (
            signed_in(host.url, "admin") as admin,
            signed_in(host.url, "ali") as ali,
            signed_in(host.url, "ali") as other,
            signed_in(host.url, "bea", **members) as bea,
        ):
            await stocked(admin)
            # She says herself that something of hers refers to it, where she may not.
            stolen = {**THING, "id": "stolen", "recordId": "stolen", "nodeId": "bea"}
            await bea.upload(stolen)
            assert (await hears(bea, "operation-rejected"))["code"] == "SCOPE_VIOLATION"
            for hash_ in (HASH, HASH.upper(), "00" * 32, ""):
                await bea.say(asks(hash_))
            for client in (ali, other, admin):
                assert await hears_no(client, "blob-chunk-request", 0.1)
            # Nor does she answer for others, or hear what they ask for.
            await ali.say(asks(HASH))
            asked_of_other = await hears(other, "blob-chunk-request")
            assert await hears_no(bea, "blob-chunk-request", 0.1)
            lie = base64.b64encode(b"a lie").decode()
            await bea.say({"type": "blob-chunk-response", "requestId": asked_of_other["requestId"], "bytes": lie})
            await bea.was_heard()
            truth = base64.b64encode(FILE).decode()
            await other.say({"type": "blob-chunk-response", "requestId": asked_of_other["requestId"], "bytes": truth})
            assert (await hears(ali, "blob-chunk-response"))["bytes"] == truth
