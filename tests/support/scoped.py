"""Servers with users whose scopes a test changes as it goes, and a store that outlives them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.auth.contract import AuthContext
from kora_daemon.model.schema import Kind, Schema
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.options import ServerOptions
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from tests.support.network import Host, running_server
from tests.support.records import schema_of
from tests.support.stores import RECORD_STORES, StoreKind

FIELDS: dict[str, Kind] = {"userId": "string", "orgId": "number", "title": "string", "done": "boolean"}
SCHEMA = schema_of(1, todos=FIELDS, notes=FIELDS).with_scopes({"todos": ["userId", "orgId"], "notes": ["userId"]})


class Users:
    """A provider: token -> user."""

    def __init__(self, **scopes: ScopeMap | None) -> None:
        self.contexts = {name: AuthContext(name, given) for name, given in scopes.items()}

    def grant(self, name: str, scopes: ScopeMap | None, **members: Any) -> None:
        """From the next connection on; "" is a visitor."""
        self.contexts[name] = AuthContext(
            name or f"visitor-{len(self.contexts)}", scopes, is_visitor=not name, **members
        )

    async def authenticate(self, token: str) -> AuthContext | None:
        return self.contexts.get(token)


class Place:
    """Where a server is started, as often as a test wants."""

    def __init__(self, kind: StoreKind, folder: Path, users: Users, schema: Schema | None = SCHEMA) -> None:
        self.users = users
        self.schema = schema
        self._kind = kind
        self._store = kind(folder)

    @property
    def store(self) -> Store:
        """The store of the server that runs."""
        return self._store

    @property
    def outlives_servers(self) -> bool:
        return not isinstance(self._store, MemoryStore)

    @asynccontextmanager
    async def server(self, *, moves_history: bool = False, **options: Any) -> AsyncIterator[Host]:
        """A server on the data of those before it."""
        rules = ApplyRules(self.schema, moves_history=moves_history)
        made = ServerOptions(apply=rules, refusal_delay=0, **options)
        async with running_server(self._store, self.users, made) as host:
            yield host

    @asynccontextmanager
    async def another(self, **options: Any) -> AsyncIterator[Host]:
        """A server beside the one that runs."""
        assert self._kind.another is not None
        made = ServerOptions(apply=ApplyRules(self.schema), refusal_delay=0, **options)
        async with running_server(self._kind.another(self._store), self.users, made) as host:
            yield host


KINDS = list(RECORD_STORES)
DURABLE = [name for name, kind in RECORD_STORES.items() if kind.another is not None]
