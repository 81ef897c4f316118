"""Every kind of store, for the suites that hold all of them to the same promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kora_daemon.materialization.columns import Dialect
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.sqlite import SqliteStore
from tests.support.postgres import server


class StoreKind(NamedTuple):
    """A kind of store: called with a folder and a node id of its own or None, it makes a new one.

    `another` makes one more on the data of a store that is there, None where data belong to one store alone. `tables`
    says whether there are tables with columns, which can be of a wrong type.
    """

    make: Callable[[Path, str | None], Store]
    another: Callable[[Store], Store] | None = None
    dialect: Dialect = Dialect.SQLITE
    tables: bool = True

    def __call__(self, folder: Path, node_id: str | None = None) -> Store:
        """A new store without anything in it."""
        return self.make(folder, node_id)


def sqlite_path(store: Store) -> Path:
    """The file of a SQLite store."""
    assert isinstance(store, SqliteStore)
    return store._path


def postgres_url(store: Store) -> str:
    """How to connect to the database of a PostgreSQL store."""
    assert isinstance(store, PostgresStore)
    return store._connections.session.url


def _fresh(folder: Path) -> Path:
    return folder / f"kora-{len(list(folder.glob('*.db')))}.db"


RECORD_STORES: dict[str, StoreKind] = {
    "memory": StoreKind(lambda folder, node_id: MemoryStore(node_id=node_id), tables=False),
    "sqlite": StoreKind(
        # These suites are not about the loss of power.
        lambda folder, node_id: SqliteStore(_fresh(folder), node_id=node_id, durability="normal"),
        lambda store: SqliteStore(sqlite_path(store), durability="normal"),
    ),
    "postgres": StoreKind(
        lambda folder, node_id: PostgresStore(server().schema(), node_id=node_id),
        lambda store: PostgresStore(postgres_url(store)),
        Dialect.POSTGRES,
    ),
}
DURABLE_STORES = {name: kind for name, kind in RECORD_STORES.items() if kind.another is not None}
"""Those whose data outlive the store object."""


def beside(kind: StoreKind, store: Store) -> Store:
    """Another server's store; where data belong to one alone, the same."""
    if kind.another is None:
        return store
    made = kind.another(store)
    made.open()
    return made
