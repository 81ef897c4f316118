"""Tenants that share a server: tokens with scopes, notes that belong to somebody, and clients that are signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.auth.contract import AuthContext, AuthProvider, token_digest
from kora_daemon.auth.token import StaticToken, StaticTokenProvider
from kora_daemon.model.scope import READ_ONLY, ScopeMap
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.schema_file import load_schema
from kora_daemon.server.sync_server import ServerOptions
from tests.support.devices import insert, wall_ms
from tests.support.network import Client, connected

SCHEMA = load_schema(Path(__file__).parents[1] / "conformance" / "data" / "wire" / "schema.json")
"""Notes have a `title`, a `body` and an `ownerId`; todos a `title` and a `userId`; things may have a `file`."""

ALI: ScopeMap = {"notes": {"ownerId": "ali"}}
BEA: ScopeMap = {"notes": {"ownerId": "bea"}}
ALIS_VIEWER: ScopeMap = {"notes": {"ownerId": "ali", READ_ONLY: True}}
GRANTS: Mapping[str, ScopeMap | None] = {"ali": ALI, "bea": BEA, "viewer": ALIS_VIEWER, "admin": None, "nobody": {}}


def tokens(grants: Mapping[str, ScopeMap | None] = GRANTS) -> AuthProvider:
    """A provider whose tokens are the names of who has them."""
    return StaticTokenProvider(
        StaticToken(token_digest(name), AuthContext(name, scopes=scopes)) for name, scopes in grants.items()
    )


def options(**changes: Any) -> ServerOptions:
    """A server with the schema and without a limit on uploads."""
    return ServerOptions(
        **{"apply": ApplyRules(SCHEMA), "uploads": UploadLimits(max_operations_per_minute=0), **changes}
    )


def note(number: int, owner: str, **data: Any) -> dict[str, Any]:
    """A new note "n<number>" of somebody."""
    fields = {"title": f"note {number}", "ownerId": owner, **data}
    return insert("seed", number) | {"collection": "notes", "recordId": f"n{number}", "data": fields}


def handed_over(number: int, note_number: int, owner: str) -> dict[str, Any]:
    """The `number`-th operation: the note belongs to somebody else from now on."""
    return note(number, owner) | {"type": "update", "recordId": f"n{note_number}", "data": {"ownerId": owner}}


@asynccontextmanager
async def signed_in(url: str, token: str, node_id: str | None = None, **members: Any) -> AsyncIterator[Client]:
    """A client past its handshake with this token; the first download is acknowledged."""
    async with connected(url) as client:
        response = await client.shake_hands(node_id or f"{token}-{wall_ms()}", authToken=token, **members)
        assert response["accepted"] is True
        await client.download()
        yield client


async def hears(client: Client, kind: str) -> dict[str, Any]:
    """The next message of a kind; batches on the way are acknowledged."""
    while True:
        message = await client.hear()
        if message["type"] == kind:
            return message
        if message["type"] == "operation-batch":
            await client.acknowledge(message)


async def hears_no(client: Client, kind: str, seconds: float = 0.2) -> bool:
    """Whether no message of a kind comes for a while."""
    with trio.move_on_after(seconds):
        await hears(client, kind)
        return False
    return True


async def has_uploaded(client: Client, *operations: dict[str, Any]) -> None:
    """Upload, and wait until that is stored."""
    await client.upload(*operations)
    await hears(client, "acknowledgment")


def presence(name: str, client_id: int = 1, note_number: int | None = None) -> dict[str, Any]:
    """An update of one's presence, with a cursor in a note or without."""
    state: dict[str, Any] = {"user": {"name": name, "color": "#123456"}}
    if note_number is not None:
        state["cursor"] = cursor(f"n{note_number}")
    return {"type": "awareness-update", "clientId": client_id, "states": {str(client_id): state}}


def cursor(record_id: str, collection: str = "notes") -> dict[str, Any]:
    return {"collection": collection, "recordId": record_id, "field": "body", "anchor": 1, "head": 1}


def typed(update: str, note_number: int, **changes: Any) -> dict[str, Any]:
    """An update of the body of a note."""
    message = {"type": "yjs-doc-update", "collection": "notes", "recordId": f"n{note_number}", "field": "body"}
    return {**message, "update": update, **changes}
