"""The data API: records and trusted writes for back ends in any language (config.md, "HTTP surface")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from urllib.parse import unquote_to_bytes

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from kora_daemon.apply.trusted import ConditionalWrite, TrustedOutcome
from kora_daemon.apply.unknown_fields import unknown_fields
from kora_daemon.errors import StoreError, StoreUnavailable
from kora_daemon.http.access import Role
from kora_daemon.http.data_requests import (
    DEFAULT_RECORDS,
    MAX_RECORDS,
    MAX_WRITE_BYTES,
    SCOPE_HEADER,
    ListRequest,
    read_list_request,
    read_scope,
    read_write,
)
from kora_daemon.http.messages import Request, Response, json_response
from kora_daemon.http.openapi import openapi_document
from kora_daemon.http.problems import Problem, problem_response
from kora_daemon.http.routes import Route
from kora_daemon.materialization.conditions import checked_collection
from kora_daemon.materialization.json_text import shown_json
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.record import QueryError, QueryProblem, Record, RecordQuery
from kora_daemon.server.data_plane import DataPlane
from kora_daemon.server.sync_server import SyncServer

ROOT = "/__kora/data"
LINES_TYPE = "application/x-ndjson"
CONCURRENT_READS = 2
"""However much back ends ask, sessions find readers of the store free."""
PART_RECORDS = 500
PART_BYTES = 4 << 20
"""Of JSON, at a time; an answer of JSON ends with the record that passes it."""

_QUERY_STATUS: dict[QueryProblem, int] = {"no-schema": 409, "unknown-collection": 404}
_REJECTION_STATUS = {"SCOPE_VIOLATION": 403, "INVALID_VALUE": 422, "INVALID_OPERATION": 422, "MISSING_RECORD_ID": 422}
"""All others are about the records that there are: 409."""

log = structlog.get_logger("kora.http")


class _Part(Struct):
    """Some records in JSON. `last_id` is that of the last one, `more` says whether others follow."""

    records: list[bytes]
    last_id: str
    more: bool


def data_routes(server: SyncServer) -> list[Route]:
    """`/__kora/data` and what is below it, and the document that describes it."""
    api = _DataApi(server)

    def route(
        path: str, method: str, answer: Callable[[Request], Awaitable[Response]], *, below: bool = False
    ) -> Route:
        async def translated(request: Request) -> Response:
            try:
                return await answer(request)
            except QueryError as error:
                code = error.problem.upper().replace("-", "_")
                raise Problem(_QUERY_STATUS.get(error.problem, 400), code, str(error)) from None
            except StoreUnavailable:
                problem = Problem(503, "STORE_UNAVAILABLE", "The store does not answer")
                problem.headers = {"retry-after": "2"}
                raise problem from None

        return Route(path, (method,), translated, Role.DATA, below, problem_response)

    routes = [
        route(ROOT, "GET", api.read, below=True),
        route(f"{ROOT}/apply", "POST", api.write),
        route("/__kora/openapi.json", "GET", api.describe),
    ]
    if server.schema is not None and "apply" in server.schema.collections:
        routes.append(route(f"{ROOT}/apply", "GET", api.read))
    return routes


class _DataApi:
    """Answers requests of whoever has the token."""

    def __init__(self, server: SyncServer) -> None:
        self._server = server
        self._reading = trio.CapacityLimiter(CONCURRENT_READS)

    async def describe(self, _request: Request) -> Response:
        return json_response(200, openapi_document(self._server.schema))

    async def read(self, request: Request) -> Response:
        names = _names(request.path)
        if len(names) > 2 or "" in names:
            raise Problem(404, "NOT_FOUND", f"Records are at {ROOT}/COLLECTION and {ROOT}/COLLECTION/ID")
        data = self._data(request)
        collection = checked_collection(self._server.schema, names[0])
        if not data.reaches(collection.name):
            raise Problem(
                403, "SCOPE_VIOLATION", f"The collection {collection.name} is outside the scope of this request"
            )
        if len(names) == 2:
            return await self._find(data, collection.name, names[1])
        asked = read_list_request(collection, request.query)
        if LINES_TYPE in request.headers.get("accept", ""):
            return await self._lines(data, collection.name, asked)
        return await self._list(data, collection.name, asked)

    def _data(self, request: Request) -> DataPlane:
        scope = read_scope(request)
        if scope is None:
            return self._server.data
        try:
            return self._server.data.within(scope)
        except ValueError as error:
            raise Problem(400, "INVALID_SCOPE", f"{SCOPE_HEADER}: {error}") from None

    async def _find(self, data: DataPlane, collection: str, record_id: str) -> Response:
        async with self._reading:
            record = await data.find_record(collection, record_id)
        if record is None:
            raise Problem(404, "NOT_FOUND", f"There is no such record in {collection}")
        return Response(200, shown_json(record).encode(), "application/json")

    async def _list(self, data: DataPlane, collection: str, asked: ListRequest) -> Response:
        wanted = DEFAULT_RECORDS if asked.query.limit is None else asked.query.limit
        if wanted > MAX_RECORDS:
            text = f"limit is {wanted}, expected at most {MAX_RECORDS}; for all records ask for {LINES_TYPE}"
            raise Problem(400, "INVALID_PARAMETER", text)
        part = await self._part(data, collection, asked.query, wanted)
        members = [b'"records": [%s]' % b", ".join(part.records), b'"more": %s' % (b"true" if part.more else b"false")]
        if asked.counted:
            async with self._reading:
                members.append(b'"total": %d' % await data.count(collection, asked.query.where))
        return Response(200, b"{%s}" % b", ".join(members), "application/json")

    async def _lines(self, data: DataPlane, collection: str, asked: ListRequest) -> Response:
        if asked.query.order_by is not None or asked.counted:
            text = f"{LINES_TYPE} comes in the order of the ids and has no total; leave order_by, desc and count out"
            raise Problem(400, "INVALID_PARAMETER", text)
        # The first part now: whatever is wrong with the question still has a status of its own.
        first = await self._part(data, collection, asked.query, _part_size(asked.query.limit))
        return Response(200, self._parts(data, collection, asked.query, first), LINES_TYPE)

    async def _parts(self, data: DataPlane, collection: str, query: RecordQuery, part: _Part) -> AsyncIterator[bytes]:
        """A part at a time, each read for itself: who reads slowly holds nothing of the store."""
        left = query.limit
        while True:
            yield b"".join(record + b"\n" for record in part.records)
            left = None if left is None else left - len(part.records)
            if not part.more or left == 0:
                return
            query = replace(query, after=part.last_id, offset=0)
            try:
                part = await self._part(data, collection, query, _part_size(left))
            except StoreError as error:
                log.warning("data.cut_off", collection=collection, error=str(error))
                raise trio.BrokenResourceError("the store does not answer") from error

    async def _part(self, data: DataPlane, collection: str, query: RecordQuery, most: int) -> _Part:
        asked = replace(query, limit=most + 1)
        async with self._reading:
            return await data.scan(collection, asked, lambda records: _taken(records, most))

    async def write(self, request: Request) -> Response:
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "A write is application/json")
        data = self._data(request)
        wanted = read_write(await request.body.read(MAX_WRITE_BYTES))
        if isinstance(wanted, ConditionalWrite):
            outcome = await data.apply_conditional(wanted)
        else:
            outcome = await data.apply(wanted)
        return _written(outcome, unknown_fields(self._server.schema, wanted))


def _names(path: str) -> list[str]:
    """The parts of a path below the root, as they are meant. Raises Problem for what is no text."""
    parts = path.removeprefix(ROOT).removeprefix("/").split("/")
    try:
        return [unquote_to_bytes(part).decode() for part in parts]
    except UnicodeDecodeError:
        raise Problem(400, "INVALID_PARAMETER", "The path is no UTF-8") from None


def _part_size(left: int | None) -> int:
    return PART_RECORDS if left is None else min(left, PART_RECORDS)


def _taken(records: Iterator[Record], most: int) -> _Part:
    part, size_bytes = _Part([], "", False), 0
    for record in islice(records, most):
        text = shown_json(record).encode()
        part.records.append(text)
        part.last_id = str(record["id"])
        size_bytes += len(text)
        if size_bytes > PART_BYTES:
            break
    part.more = next(records, None) is not None
    return part


def _written(outcome: TrustedOutcome, warnings: list[str]) -> Response:
    if outcome.rejection is not None:
        raise _refused(outcome.rejection)
    operations = [entry.operation.id for entry in outcome.applied]
    members = {"result": outcome.result, "recordIds": outcome.record_ids, "operations": operations}
    # No member without a need: most answers are as they were before there were warnings.
    told = {"warnings": warnings} if warnings and outcome.result == "applied" else {}
    return json_response(200, members | told)


def _refused(rejection: Rejection) -> Problem:
    where = {"collection": rejection.collection, "recordId": rejection.record_id}
    return Problem(_REJECTION_STATUS.get(rejection.code, 409), rejection.code, rejection.message, **where)
