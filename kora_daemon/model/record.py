"""Records: what the operations of a collection amount to, and the questions to them (store.md section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from kora_daemon.errors import KoraError

Record: TypeAlias = dict[str, Any]
"""`id`, every field of the schema in its order (None where there is no value), `_created_at`, `_updated_at` in ms."""


class RecordKey(NamedTuple):
    """Names one record of a log."""

    collection: str
    record_id: str


class RecordQuery(Struct, frozen=True):
    """A question to one collection.

    `where` maps fields to the values they must have, all of them, exactly: no value equals one of another type.
    Without `order_by` the order is that of the ids; with it, records without a value come last in both directions, and
    ids break ties. `offset` applies before `limit`. `after` leaves out the ids up to this one, itself included: the way
    to read a collection in parts. It goes with the order of the ids alone.
    """

    where: Mapping[str, Any] = {}
    order_by: str | None = None
    descending: bool = False
    limit: int | None = None
    offset: int = 0
    include_deleted: bool = False
    after: str | None = None


QueryProblem = Literal["no-schema", "unknown-collection", "unknown-field", "invalid-limit", "invalid-after"]


class QueryError(KoraError):
    """A question that can't be asked; `problem` says why."""

    def __init__(self, problem: QueryProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem
