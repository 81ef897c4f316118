"""What a hostile client can learn from what it is told: texts, vectors, counts of batches, cursors, close reasons.

A world with a secret and one without it have to look the same to whoever may not know of it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import ScopeMap
from kora_daemon.store.memory import MemoryStore
from tests.support.app import Device, Sent, device
from tests.support.judging import constraint, with_constraints
from tests.support.network import Client, Closed, Host, connected
from tests.support.records import schema_of
from tests.support.scoped import FIELDS, KINDS, SCHEMA, Place, Users
from tests.support.stores import RECORD_STORES

MINE: ScopeMap = {"todos": {"userId": "mallory"}}
SCHEMAS: dict[str, Schema | None] = {"declared": SCHEMA, "undeclared": schema_of(1, todos=FIELDS), "log alone": None}
SETUPS = [(kind, setup) for kind in KINDS for setup in SCHEMAS]


@pytest.fixture(params=SETUPS, ids=" ".join)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind, setup = request.param
    users = Users(admin=None, mallory=MINE, bob={"todos": {"userId": "bob"}})
    return Place(RECORD_STORES[kind], tmp_path, users, SCHEMAS[setup])


async def stocked(host: Host) -> None:
    async with device(host.url, "desk", authToken="admin") as desk:
        await desk.takes(
            desk.insert("todos", "theirs", userId="bob", title="t"),
            desk.insert("todos", "deleted", userId="bob", title="t"),
            desk.delete("todos", "deleted"),
            desk.insert("secrets", "hidden", title="t"),
        )


async def texts_about(
    host: Host, record_ids: list[str], tries: Callable[[Device, str], Sent], **members: Any
) -> set[str]:
    """What is said of an upload about each of these records, with the ids in it taken out."""
    said: set[str] = set()
    async with connected(host.url) as client:
        await client.shake_hands("m", members.pop("watermark", 0), authToken="mallory", **members)
        await client.download()
        made = Device(client, "m")
        for record_id in record_ids:
            operation = tries(made, record_id)
            message_id = await client.upload(operation)
            texts: list[str] = []
            while not texts or '"acknowledgment"' not in texts[-1]:
                texts.append(await client.hear_text())
            text = "\n".join(texts).replace(operation["id"], "OP").replace(record_id, "RECORD").replace(message_id, "M")
            text = re.sub(r'"messageId":"[^"]+"', "", text)
            said.add(re.sub(r'"lastSequenceNumber":\d+', "", text))
    return said


TRIES: dict[str, Callable[[Device, str], Sent]] = {
    "update": lambda m, one: m.update("todos", one, title="x"),
    "delete": lambda m, one: m.delete("todos", one),
    "insert": lambda m, one: m.insert("todos", one, userId="bob"),
    "move": lambda m, one: m.write("update", "todos", one, {"userId": "bob"}, previousData={"userId": "mallory"}),
    "late": lambda m, one: m.write(
        "delete", "todos", one, None, timestamp={"wallTime": 1, "logical": 0, "nodeId": "m"}
    ),
    "far": lambda m, one: m.write("update", "todos", one, {"title": "x"}, sequenceNumber=2**53 - 1),
    "as another": lambda m, one: m.write("update", "todos", one, {"title": "x"}, nodeId="desk"),
    "hidden": lambda m, one: m.update("secrets", one, title="x"),
    "nowhere": lambda m, one: m.update("nothing of this name", one, title="x"),
}
RECORDS = ["theirs", "deleted", "hidden", "unknown"]


@pytest.mark.parametrize("kind", TRIES)
async def test_a_refusal_is_the_same_for_what_there_is_and_what_there_is_not(place: Place, kind: str) -> None:
    async with place.server(node_binding="enforce") as host:
        await stocked(host)
        before = place.store.count_operations()
        (text,) = await texts_about(host, RECORDS, TRIES[kind])
        assert '"SCOPE_VIOLATION"' in text
        assert place.store.count_operations() == before


async def test_refusals_of_all_kinds_are_the_same(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        said = {
            text.replace('"secrets"', '"todos"').replace('"nothing of this name"', '"todos"')
            for tries in TRIES.values()
            for text in await texts_about(host, RECORDS, tries)
        }
        assert len(said) == 1


async def test_old_clients_are_told_no_more(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        (text,) = await texts_about(host, RECORDS, TRIES["update"], watermark=None)
        assert '"type":"error"' in text
        assert '"SCOPE_VIOLATION"' in text


async def test_a_refusal_names_nobody(place: Place) -> None:
    async with place.server() as host:
        await stocked(host)
        for tries in TRIES.values():
            for text in await texts_about(host, RECORDS, tries):
                for secret in ("bob", "desk", "mallory", "userId", "exist"):
                    assert secret not in text


# Two worlds: one with somebody else's records, one without


async def worlds(tmp_path: Path, look: Callable[[Host], Awaitable[Any]], schema: Schema | None = SCHEMA) -> list[Any]:
    """What somebody sees who may see nothing of what is different."""
    seen: list[Any] = []
    for foreign in (0, 7):
        folder = tmp_path / str(foreign)
        folder.mkdir()
        users = Users(admin=None, mallory=MINE)
        place = Place(RECORD_STORES["sqlite"], folder, users, schema)
        async with place.server(batch_size=2) as host:
            async with (
                device(host.url, "mine", authToken="mallory") as mine,
                device(host.url, "secret", authToken="admin") as secret,
            ):
                for number in range(5):
                    hidden = [secret.insert("todos", f"s{number}-{n}", userId="bob") for n in range(foreign)]
                    await secret.takes(*hidden, *([secret.insert("secrets", f"s{number}")] if foreign else ()))
                    await mine.takes(mine.insert("todos", f"t{number}", userId="mallory", title=f"{number}"))
            seen.append(await look(host))
    return seen


async def first_answers(host: Host, watermark: int | None, **members: Any) -> list[Sent]:
    """The answer to a handshake and all that is downloaded, without what differs from run to run."""
    async with connected(host.url) as client:
        answers = [await client.shake_hands("m", watermark, authToken="mallory", **members)]
        answers += await client.download()
    for one in answers:
        for name in ("messageId", "nodeId", "serverTime"):
            one.pop(name, None)
        for operation in one.get("operations", ()):
            operation["timestamp"] = None
    return answers


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_a_client_of_the_old_generation_sees_nothing_of_others(tmp_path: Path, schema: str) -> None:
    """The number of batches, the vector, the cursors: whatever it names and wherever it begins."""
    asked: list[dict[str, Any]] = [
        {},
        {"versionVector": {"mine": 2}},
        {"versionVector": {"mine": 2, "m": 9}, "syncScope": {"todos": {"title": "4"}}},
        {"syncQueries": [{"collection": "todos", "where": {"title": "3"}}]},
    ]

    async def look(host: Host) -> list[list[Sent]]:
        return [await first_answers(host, None, **one) for one in asked]

    without, with_it = await worlds(tmp_path, look, SCHEMAS[schema])
    assert without == with_it
    assert [one[1]["totalBatches"] for one in without] == [3, 2, 1, 1]


def cursor_of(operation_id: str, index: int = 0) -> str:
    text = json.dumps({"lastOperationId": operation_id, "batchIndex": index})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


async def test_a_cursor_says_nothing_of_operations_that_one_may_not_see(tmp_path: Path) -> None:
    async def look(host: Host) -> list[list[Sent]]:
        ids = [f"secret/{n}" for n in range(1, 41)]
        return [await first_answers(host, None, deltaCursor=cursor_of(one)) for one in ids]

    without, with_it = await worlds(tmp_path, look)
    assert without == with_it
    assert {len(one) for one in with_it} == {4}


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_a_client_with_a_watermark_sees_nothing_of_others_but_how_far_the_log_reaches(
    tmp_path: Path, schema: str
) -> None:
    async def look(host: Host) -> list[Sent]:
        answers = await first_answers(host, 0)
        for one in answers:
            # Delivery sequences are those of the whole log: that is the protocol (wire.md section 5).
            for name in ("serverMaxDeliverySequence", "baseDeliverySequence", "maxDeliverySequence"):
                one.pop(name, None)
        return answers

    without, with_it = await worlds(tmp_path, look, SCHEMAS[schema])
    assert without == with_it
    assert without[0]["versionVector"] == {"mine": 5}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_vector_names_only_authors_of_what_is_sent(kind: str, tmp_path: Path) -> None:
    """Also where a record has changed hands: its former owner's device has written nothing that is sent."""
    users = Users(admin=None, mallory=MINE, bob={"todos": {"userId": "bob"}})
    place = Place(RECORD_STORES[kind], tmp_path, users)
    async with place.server() as host:
        async with device(host.url, "bob's phone", authToken="bob") as phone:
            await phone.takes(phone.insert("todos", "t", userId="bob"))
        async with device(host.url, "desk", authToken="admin") as desk:
            await desk.takes(desk.update("todos", "t", userId="mallory"))
        async with connected(host.url) as client:
            response = await client.shake_hands("m", 0, authToken="mallory")
            (batch,) = await client.download()
        authors = {one["nodeId"] for one in batch["operations"]}
        assert set(response["versionVector"]) == authors == {"desk"}


async def test_what_is_refused_to_others_moves_nobodys_stream(place: Place) -> None:
    async with place.server() as host:
        async with (
            device(host.url, "m", authToken="mallory") as mallory,
            device(host.url, "b", authToken="bob") as bob,
        ):
            await bob.send(*(bob.insert("todos", f"b{n}", userId="mallory") for n in range(3)))
            await bob.takes(bob.insert("todos", "mine", userId="bob"))
            assert await mallory.hears_nothing_more(), "nothing of it is visible, so nothing is said"


# Closes


@pytest.mark.parametrize(
    "frames",
    [
        [{"type": "operation-batch", "operations": [], "isFinal": True, "batchIndex": 0}],
        [{"type": "handshake", "nodeId": "", "versionVector": {}, "schemaVersion": 1}],
        [{"type": "handshake", "nodeId": "n", "versionVector": {}, "schemaVersion": 1, "authToken": "bad"}],
        [{"type": "handshake", "nodeId": "n", "versionVector": {}, "schemaVersion": 9, "authToken": "mallory"}],
        ["no JSON"],
    ],
)
async def test_errors_and_close_reasons_say_nothing_of_the_server(frames: list[Any]) -> None:
    store = MemoryStore()
    place = Place(RECORD_STORES["memory"], Path(), Users(mallory=MINE))
    place._store = store
    async with place.server() as host, connected(host.url) as client:
        for frame in frames:
            await (client.say_text(frame) if isinstance(frame, str) else client.say(frame))
        said, closed = await _all(client)
        for text in (*said, closed.reason or ""):
            for secret in ("Traceback", "/", "mallory", "postgres", "sqlite", "Error("):
                assert secret not in text.replace("SCHEMA_MISMATCH", "")


async def _all(client: Client) -> tuple[list[str], Closed]:
    texts: list[str] = []
    while True:
        try:
            texts.append(await client.hear_text())
        except Closed as closed:
            return texts, closed


# What constraints tell: that a value is taken, by what they are; not whose it is


async def test_a_value_that_is_taken_does_not_say_by_whom(tmp_path: Path) -> None:
    schema = with_constraints(SCHEMA, todos=[constraint("unique", "title")])
    for kind in KINDS:
        place = Place(RECORD_STORES[kind], tmp_path, Users(admin=None, mallory=MINE), schema)
        async with place.server() as host:
            async with device(host.url, "desk", authToken="admin") as desk:
                await desk.takes(desk.insert("todos", "theirs", userId="bob", title="taken"))
            async with device(host.url, "m", authToken="mallory") as mallory:
                (told,) = await mallory.send(mallory.insert("todos", "t", userId="mallory", title="taken"))
                assert told["code"] == "CONSTRAINT_VIOLATION"
                assert "theirs" not in told["message"]
                assert "bob" not in told["message"]
                # Outside of the scope not even that is told.
                (told,) = await mallory.send(mallory.insert("todos", "u", userId="bob", title="taken"))
                assert told["code"] == "SCOPE_VIOLATION"
