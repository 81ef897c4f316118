"""Every recording of the stock client that needs no HTTP polling, played against a server on a real
socket, and what the server says compared with what the reference server said.

The recorded server had a schema; that makes no difference but where constraints are at work, so the others are played
without one, too. Where this server has to differ, `DIFFERENCES` says why; nothing else may.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.auth.contract import AuthContext, AuthProvider, token_digest
from kora_daemon.auth.token import StaticToken, StaticTokenProvider
from kora_daemon.model.schema import Schema
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.schema_file import load_schema
from kora_daemon.server.sync_server import ServerOptions
from kora_daemon.server.validation import IGNORE, Ignore, Reject, ValidationContext
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore
from tests.support.devices import insert, seed, wall_ms
from tests.support.network import connected, running_server
from tests.support.recording import Recording, Replay, Script, Text, comparable, load_recording

WIRE = Path(__file__).parent / "data" / "wire"
SYNC_PATH = "/kora-sync"

SCHEMA = load_schema(WIRE / "schema.json")


def recorded_validator(operation: dict[str, Any], _context: ValidationContext) -> Reject | Ignore | None:
    """What the recorded server had been given as its validator."""
    verdicts: dict[str, Reject | Ignore] = {
        "reject-me": Reject("POLICY", "title is not allowed"),
        "retry-me": Reject("RATE_LIMIT", "later", retriable=True),
        "ignore-me": IGNORE,
    }
    return verdicts.get(operation["data"]["title"])


OPTIONS = {
    "garbage": ServerOptions(),
    "json-auth-token": ServerOptions(refusal_delay=0),
    "json-awareness": ServerOptions(),
    "json-blob-push": ServerOptions(),
    "json-blob-relay": ServerOptions(),
    "json-client-scope": ServerOptions(),
    "json-constraints": ServerOptions(),
    "json-duplicate-handshake": ServerOptions(),
    "json-encrypted": ServerOptions(),
    "json-error-limits": ServerOptions(uploads=UploadLimits(max_operation_bytes=4096, max_operations_per_minute=20)),
    "json-error-timestamp": ServerOptions(),
    "json-field-kinds": ServerOptions(),
    "json-first-sync-batches": ServerOptions(batch_size=3),
    "json-first-sync-empty": ServerOptions(),
    "json-legacy-version-vector": ServerOptions(batch_size=3),
    "json-live-relay": ServerOptions(),
    "json-max-connections": ServerOptions(max_connections=1),
    "json-operation-rejected": ServerOptions(validator=recorded_validator),
    "json-refusal-reconnects": ServerOptions(),
    "json-resume-watermark": ServerOptions(),
    "json-schema-mismatch": ServerOptions(),
    "json-scoped-reconnect-stall": ServerOptions(refusal_delay=0),
    "json-strict-handshake": ServerOptions(),
    "json-sync-queries": ServerOptions(),
    "json-transaction": ServerOptions(),
    "json-unacked-resend": ServerOptions(),
    "json-upload-offline": ServerOptions(),
    "json-yjs-doc": ServerOptions(),
    "protobuf-errors": ServerOptions(),
    "protobuf-first-sync": ServerOptions(),
    "protobuf-live-relay": ServerOptions(),
}
"""Name of each recording, and how the recorded server was set up."""


def _recorded_users() -> AuthProvider:
    """Those of the recorded servers: `tok-admin` is unrestricted, others see what is theirs."""
    admin = StaticToken(token_digest("tok-admin"), AuthContext("admin"))
    scopes = {"todos": {"userId": "alice"}, "notes": {"ownerId": "alice"}}
    alice = StaticToken(token_digest("tok-alice"), AuthContext("alice", scopes))
    return StaticTokenProvider([admin, alice, StaticToken(token_digest("bystander"), AuthContext("bystander", {}))])


USERS = dict.fromkeys(("json-auth-token", "json-scoped-reconnect-stall"), _recorded_users())
"""Of recordings with users."""

NEEDS_SCHEMA = {"json-constraints", "json-refusal-reconnects"}
EVERYWHERE = frozenset(OPTIONS)


@dataclass(frozen=True)
class Difference:
    """What this server says otherwise than the recorded one: `rewrite` turns the one into the other."""

    section: str
    reason: str
    recordings: frozenset[str]
    rewrite: Callable[[Script], None]


DIFFERENCES: list[Difference] = []


def difference(section: str, reason: str, *recordings: str) -> Callable[[Callable[[Script], None]], None]:
    """Put a rewriting into the table; without names it is for every recording."""
    names = frozenset(recordings) or EVERYWHERE
    return lambda rewrite: DIFFERENCES.append(Difference(section, reason, names, rewrite))


@difference("wire.md 7", "a permanent refusal takes no client offline", "json-client-scope", "json-error-limits")
def operation_rejected(script: Script) -> None:
    uploaded = {operation["id"]: operation for operation in script.recording.uploads}
    for one in script.of_type("error"):
        if one.message["code"] in ("SCOPE_VIOLATION", "OPERATION_TOO_LARGE"):
            (operation_id,) = re.findall(r'Operation "(\w+)"', one.message["message"])
            operation = uploaded[operation_id]
            one.message |= {
                "type": "operation-rejected",
                "operationId": operation_id,
                "collection": operation["collection"],
                "recordId": operation["recordId"],
                "message": Text(".+"),
            }


@difference("wire.md 7", "nor does a violated constraint", "json-constraints", "json-refusal-reconnects")
def constraint_rejected(script: Script) -> None:
    for one in script.of_type("error"):
        before = (line for line in script.recording.lines if line.seq < one.seq and line.connection == one.connection)
        batches = [line.text for line in before if line.by_client and '"operation-batch"' in line.text]
        refused = json.loads(batches[-1])["operations"][-1]
        one.message |= {
            "type": "operation-rejected",
            "operationId": refused["id"],
            "collection": refused["collection"],
            "recordId": refused["recordId"],
            "message": Text(".+"),
        }


@difference("wire.md 2", "the wording of messages to people is each server's own")
def free_wording(script: Script) -> None:
    for one in script.of_type("error"):
        one.message["message"] = Text(".+")
    for one in script.of_type("handshake-response"):
        if "rejectReason" in one.message:
            one.message["rejectReason"] = Text("SCHEMA_MISMATCH.+")


@difference(
    "wire.md 5", "what is under way is not sent again with every new operation", "json-field-kinds", "json-sync-queries"
)
def nothing_sent_twice(script: Script) -> None:
    reached: dict[int, int] = {}
    delivered: dict[int, set[str]] = {}
    for one in list(script.of_type("operation-batch")):
        batch, base = one.message, reached.get(one.connection, one.message["baseDeliverySequence"])
        seen = delivered.setdefault(one.connection, set())
        fresh = [operation for operation in batch["operations"] if operation["id"] not in seen]
        if one.connection in reached and not fresh:
            script.drop(one.seq)
            continue
        seen.update(operation["id"] for operation in fresh)
        batch |= {"operations": fresh, "baseDeliverySequence": base}
        reached[one.connection] = batch["maxDeliverySequence"]


@difference("wire.md 7", "a bucket above 0 takes a batch whole, whatever its size", "json-error-limits")
def batch_on_credit(script: Script) -> None:
    script.drop(*(one.seq for one in script.of_type("error") if one.message["code"] == "RATE_LIMIT"))


@difference("scopes.md 7", "who comes back to the same scope goes on where it was", "json-scoped-reconnect-stall")
def resumed_not_stalled(script: Script) -> None:
    # The reference begins at 0 again: its batch counts as a duplicate, and the client stays in `syncing` until somebody
    # writes something that it may see.
    (stalled,) = (one for one in script.of_type("operation-batch") if one.seq == 22)
    stalled.message |= {"operations": [], "baseDeliverySequence": 1, "maxDeliverySequence": 1}


@difference("wire.md 4", "a refused token is closed with a code of its own", "json-auth-token")
def closed_behind_a_refused_token(script: Script) -> None:
    script.close(3, behind=21, code=4001)


@difference(
    "wire.md 7",
    "nothing of a batch from the future is applied or acknowledged",
    "json-error-timestamp",
    "protobuf-errors",
)
def no_acknowledgment_from_the_future(script: Script) -> None:
    (error,) = (one for one in script.of_type("error") if one.message["code"] == "INVALID_TIMESTAMP")
    script.close(1, behind=error.seq, code=4002)


@difference("wire.md 12", "a malformed frame is answered and ends the connection", "garbage")
def answer_to_garbage(script: Script) -> None:
    error = {"type": "error", "code": "MALFORMED_MESSAGE", "message": Text(".+"), "retriable": False}
    script.add(6, 1, error)
    script.close(1, behind=6, code=4002)


@difference("wire.md 4.4", "the server closes behind a refused schema version", "json-schema-mismatch")
def closed_behind_schema_refusal(script: Script) -> None:
    script.close(1, behind=3, code=1000)


@difference("wire.md 9", "presence: one catch-up on joining, none with later updates", "json-awareness")
def one_catch_up(script: Script) -> None:
    script.drop(20)


@difference("wire.md 9", "devices choose request ids, so the server forwards under ids of its own", "json-blob-relay")
def own_request_ids(script: Script) -> None:
    for one in script.of_type("blob-chunk-request"):
        one.message["requestId"] = Text(r"[\da-f-]{36}")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "kora.db")


@pytest.mark.parametrize(
    ("name", "schema"),
    [(name, SCHEMA) for name in OPTIONS] + [(name, None) for name in OPTIONS if name not in NEEDS_SCHEMA],
)
async def test_the_server_says_what_was_recorded(
    name: str, schema: Schema | None, store: Store, tmp_path: Path
) -> None:
    now_ms = wall_ms()
    recording = load_recording(WIRE / f"{name}.jsonl", now_ms)
    seed(store, log_before(recording))
    script = Script.of(recording, store.node_id, now_ms)
    for entry in DIFFERENCES:
        if name in entry.recordings:
            entry.rewrite(script)
    options = replace(OPTIONS[name], apply=ApplyRules(schema))
    blobs = DirectoryBlobs(tmp_path / "blobs") if name == "json-blob-push" else None
    async with (
        running_server(store, USERS.get(name), options, path=SYNC_PATH, blobs=blobs) as host,
        AsyncExitStack() as stack,
    ):
        bystander = None
        if name in USERS:
            bystander = await stack.enter_async_context(connected(host.url))
            await bystander.shake_hands("bystander", authToken="bystander")
            await bystander.download()
        replay = Replay(script, host.url, bystander)
        await replay.run()
    assert comparable(replay.heard) == comparable(script.heard)
    assert replay.closes == {connection: code for connection, (_, code) in script.closes.items()}
    for connection in {one.connection for one in script.heard}:
        first = next(one for one in replay.heard if one.connection == connection)
        assert first.message["type"] in ("handshake-response", "error")


def log_before(recording: Recording) -> list[dict[str, Any]]:
    """What the log held before the recording began; of an operation that nobody saw only the place is known."""
    uploaded = {operation["id"] for operation in recording.uploads}
    shown = {
        (operation["nodeId"], operation["sequenceNumber"]): operation
        for line in recording.lines
        if not line.by_client and '"operation-batch"' in line.text
        for operation in json.loads(line.text)["operations"]
        if operation["id"] not in uploaded
    }
    return [
        shown.get((node, number)) or insert(node, number) | {"collection": "asked for by nobody"}
        for node, last in recording.operations_before.items()
        for number in range(1, last + 1)
    ]


def test_every_recording_is_played() -> None:
    assert {path.stem for path in WIRE.glob("*.jsonl")} == set(OPTIONS)


def test_the_table_of_differences_holds_nothing_that_makes_no_difference() -> None:
    for name in OPTIONS:
        recording = load_recording(WIRE / f"{name}.jsonl", 0)
        script = Script.of(recording, "server", 0)
        for entry in DIFFERENCES:
            if name not in entry.recordings:
                continue
            before = deepcopy((script.heard, script.closes))
            entry.rewrite(script)
            assert entry.recordings == EVERYWHERE or (script.heard, script.closes) != before, (name, entry.reason)
