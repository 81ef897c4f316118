"""Records and writes for the server's own side: back ends, routes, library users (store.md section 8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import trio
from msgspec.structs import replace

from kora_daemon.apply.predicates import checked_predicate
from kora_daemon.apply.trusted import ConditionalWrite, Mutation, TrustedOutcome, TrustedWrite, with_record_ids
from kora_daemon.auth.scope_maps import checked_scopes
from kora_daemon.errors import AuthUnavailable, StoreUnavailable
from kora_daemon.materialization.conditions import checked_collection, checked_query
from kora_daemon.model.jsvalue import strictly_equal
from kora_daemon.model.record import QueryError, Record, RecordQuery
from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import ScopeMap, matches, plain_where
from kora_daemon.server.clock import new_id
from kora_daemon.server.readers import Readers
from kora_daemon.server.write_requests import TrustedRequest
from kora_daemon.server.writer import Writer
from kora_daemon.store.contract import Store

T = TypeVar("T")


class DataPlane:
    """Reads records and writes in the server's own name: everything, or like a device with these scopes.

    Reads raise `QueryError` for a question that can't be asked, and `StoreError`.
    """

    def __init__(self, readers: Readers, writer: Writer, schema: Schema | None, scopes: ScopeMap | None = None) -> None:
        self._readers = readers
        self._writer = writer
        self._schema = schema
        self._scopes = scopes

    def within(self, scopes: ScopeMap) -> DataPlane:
        """The same for whoever has these scopes: {collection: {field: value}}, all else is not there (scopes.md).

        Raises ValueError for what is no scope map, or names what the schema does not have.
        """
        if self._scopes is not None:
            raise ValueError("there are scopes already; begin with the data plane that has none")
        return DataPlane(self._readers, self._writer, self._schema, _checked(scopes, self._schema))

    def reaches(self, collection: str) -> bool:
        """Whether the scopes name this collection at all."""
        return self._scopes is None or collection in self._scopes

    async def apply(self, mutation: Mutation) -> TrustedOutcome:
        """Change one record in the server's own name, judged like any operation; devices hear of it.

        An insert without a record id gets a new one. Raises `StoreUnavailable` when it could not be stored.
        """
        return await self._write(mutation)

    async def apply_conditional(self, write: ConditionalWrite) -> TrustedOutcome:
        """Change several records together, if a condition holds. Raises `StoreUnavailable` and `MalformedPredicate`."""
        checked_predicate(write.condition)
        return await self._write(write)

    async def _write(self, write: TrustedWrite) -> TrustedOutcome:
        await self._writer.wait_for_room()
        answered: list[TrustedOutcome | None] = []
        done = trio.Event()

        def answer(outcome: TrustedOutcome | None) -> None:
            answered.append(outcome)
            done.set()

        self._writer.submit(TrustedRequest(with_record_ids(write, new_id), answer, self._scopes, []))
        with trio.CancelScope(shield=True):  # once handed in it happens, and whoever asked should know
            await done.wait()
        if answered[0] is None:
            raise StoreUnavailable("The write could not be stored; the log of the server says why")
        return answered[0]

    async def query(self, collection: str, query: RecordQuery | None = None) -> list[Record]:
        """The records that a query finds."""
        asked = self._narrowed(collection, query or RecordQuery())
        return [] if asked is None else await self._read(lambda store: store.query_collection(collection, asked))

    async def scan(self, collection: str, query: RecordQuery, take: Callable[[Iterator[Record]], T]) -> T:
        """What `take` makes of the records that a query finds: it gets them one by one, of one moment, in a thread."""
        asked = self._narrowed(collection, query)
        if asked is None:
            return take(iter(()))

        def read(store: Store) -> T:
            with store.stream_collection(collection, asked) as records:
                return take(records)

        return await self._read(read)

    async def find_record(self, collection: str, record_id: str) -> Record | None:
        """A live record, None where there is none."""
        found = await self._read(lambda store: store.find_record(collection, record_id))
        if found is None or self._scopes is None:
            return found
        where = self._scopes.get(collection)
        return None if where is None or not matches(plain_where(where), found) else found

    async def count(self, collection: str, where: Mapping[str, Any] | None = None) -> int:
        """How many live records have these values."""
        asked = self._narrowed(collection, RecordQuery(where or {}))
        return 0 if asked is None else await self._read(lambda store: store.count_collection(collection, asked.where))

    async def _read(self, call: Callable[[Store], T]) -> T:
        return await self._readers.read(call)

    def _narrowed(self, collection: str, query: RecordQuery) -> RecordQuery | None:
        """The query within the scopes, None when it can find nothing there."""
        if self._scopes is None or self._schema is None:
            return query
        checked_query(checked_collection(self._schema, collection), query)
        if collection not in self._scopes:
            return None
        where = plain_where(self._scopes[collection])
        if any(name in query.where and not strictly_equal(query.where[name], value) for name, value in where.items()):
            return None
        return replace(query, where={**query.where, **where})


class BlockingDataPlane:
    """A data plane for code in a thread of `trio.to_thread`. Each call ends the thread's work once nobody waits for it.

    Raises what the calls of `DataPlane` raise, and `trio.Cancelled` then.
    """

    def __init__(self, data: DataPlane) -> None:
        self._data = data

    def within(self, scopes: ScopeMap) -> BlockingDataPlane:
        """The same for whoever has these scopes. Raises ValueError."""
        return BlockingDataPlane(self._data.within(scopes))

    def apply(self, mutation: Mutation) -> TrustedOutcome:
        """See `DataPlane.apply`."""
        return _run(lambda: self._data.apply(mutation))

    def apply_conditional(self, write: ConditionalWrite) -> TrustedOutcome:
        """See `DataPlane.apply_conditional`."""
        return _run(lambda: self._data.apply_conditional(write))

    def query(self, collection: str, query: RecordQuery | None = None) -> list[Record]:
        """See `DataPlane.query`."""
        return _run(lambda: self._data.query(collection, query))

    def find_record(self, collection: str, record_id: str) -> Record | None:
        """See `DataPlane.find_record`."""
        return _run(lambda: self._data.find_record(collection, record_id))

    def count(self, collection: str, where: Mapping[str, Any] | None = None) -> int:
        """See `DataPlane.count`."""
        return _run(lambda: self._data.count(collection, where))


def _run(call: Callable[[], Awaitable[T]]) -> T:
    trio.from_thread.check_cancelled()
    return trio.from_thread.run(call)


def _checked(scopes: object, schema: Schema | None) -> ScopeMap:
    try:
        checked = checked_scopes(scopes)
    except AuthUnavailable as error:
        raise ValueError(str(error)) from None
    if checked is None:
        raise ValueError("The scopes are nothing, expected a map of collections")
    if schema is not None:
        for name, where in checked.items():
            _check_fields(schema, name, plain_where(where))
    return checked


def _check_fields(schema: Schema, collection: str, where: Mapping[str, Any]) -> None:
    try:
        known = checked_collection(schema, collection)
    except QueryError as error:
        raise ValueError(f"The scopes: {error}") from None
    for name in where:
        if name != "id" and name not in known.fields:
            raise ValueError(
                f"The scope of {collection!r}: there is no field {name!r}; there are {', '.join(known.fields)}"
            )
