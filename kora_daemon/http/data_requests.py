"""What back ends ask of the data API: queries in URLs, writes in bodies, scopes in a header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from kora_daemon.apply.predicates import MalformedPredicate, checked_predicate
from kora_daemon.apply.trusted import ConditionalWrite, Mutation, Refusal, TrustedWrite
from kora_daemon.http.messages import Request
from kora_daemon.http.problems import Problem
from kora_daemon.materialization.conditions import column_kind, is_shown, written_value
from kora_daemon.materialization.json_text import read_json
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.operation import OperationType
from kora_daemon.model.record import RecordKey, RecordQuery
from kora_daemon.model.schema import Collection

SCOPE_HEADER = "x-kora-scope"
MAX_RECORDS = 1_000
"""In one JSON answer."""
DEFAULT_RECORDS = 100
MAX_OFFSET = 1_000_000_000
MAX_CHANGES = 1_000
"""In one conditional write, besides that of its target."""
MAX_WRITE_BYTES = 4 << 20

_PARAMETERS = ("where", "order_by", "desc", "limit", "offset", "after", "include_deleted", "count")
_NUMBER = re.compile("[0-9]{1,10}")
T = TypeVar("T")


class ListRequest(Struct, frozen=True):
    """A question to a collection; `counted` asks for the number of records besides."""

    query: RecordQuery
    counted: bool = False


def read_list_request(collection: Collection, query: Mapping[str, Sequence[str]]) -> ListRequest:
    """What the parameters of a URL ask for. Raises Problem, and `QueryError` for an unknown field."""
    given = {name: _only(name, values) for name, values in query.items()}
    where = dict(_conditions(collection, given))
    unknown = [name for name in given if name not in _PARAMETERS and not name.startswith("where.")]
    if unknown:
        raise _bad(f"there is no parameter {unknown[0]!r}; there are {', '.join(_PARAMETERS)} and where.FIELD")
    descending = _flag("desc", given)
    asked = RecordQuery(
        where,
        given.get("order_by", "id" if descending else None),
        descending,
        _number("limit", given, MAX_OFFSET),
        _number("offset", given, MAX_OFFSET) or 0,
        _flag("include_deleted", given),
        given.get("after"),
    )
    counted = _flag("count", given)
    if counted and asked.include_deleted:
        raise _bad("count is about live records; leave include_deleted out")
    return ListRequest(asked, counted)


def _conditions(collection: Collection, given: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    named: set[str] = set()
    whole = _json(given["where"], "where") if "where" in given else {}
    if not isinstance(whole, dict):
        raise _bad("where is no JSON object, expected fields with their values")
    single = [(name.removeprefix("where."), text) for name, text in given.items() if name.startswith("where.")]
    for name, value in [*whole.items(), *(_condition(collection, *one) for one in single)]:
        if name in named:
            raise _bad(f"where has {name!r} twice, and it can have one value only")
        named.add(name)
        yield name, value


def _condition(collection: Collection, name: str, text: str) -> tuple[str, Any]:
    exact = name.endswith(":")
    name = name.removesuffix(":")
    kind = "json" if exact else column_kind(collection, name)
    try:
        value = written_value(kind, text)
    except ValueError as error:
        raise _bad(f"where.{name}: {text[:40]!r} is no JSON ({error})") from None
    if value is not None and not is_shown(kind, value):
        raise _bad(f"where.{name} is {text[:40]!r}, which no {kind} is; where.{name}: takes any JSON value")
    return name, value


def _only(name: str, values: Sequence[str]) -> str:
    if len(values) != 1:
        raise _bad(f"{name} is given twice")
    return values[0]


def _flag(name: str, given: Mapping[str, str]) -> bool:
    text = given.get(name, "false")
    if text not in ("true", "false"):
        raise _bad(f"{name} is {text[:40]!r}, expected true or false")
    return text == "true"


def _number(name: str, given: Mapping[str, str], most: int) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or int(text) > most:
        raise _bad(f"{name} is {text[:40]!r}, expected a whole number from 0 to {most}")
    return int(text)


def _bad(message: str) -> Problem:
    return Problem(400, "INVALID_PARAMETER", message)


def _json(text: str | bytes, what: str) -> JsonValue:
    try:
        return read_json(text)
    except (ValueError, RecursionError) as error:
        words = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Problem(400, "MALFORMED_JSON", f"{what} is no JSON: {words}") from None


def read_scope(request: Request) -> dict[str, Any] | None:
    """The value of the scope header, None without one; whether it is a scope map is still to be judged.

    Raises Problem: what can't be read is never taken for no restriction.
    """
    if request.raw.lower().count(f"\n{SCOPE_HEADER}:".encode()) > 1:
        raise Problem(400, "INVALID_SCOPE", f"{SCOPE_HEADER} is given twice")
    text = request.headers.get(SCOPE_HEADER)
    if text is None:
        return None
    try:
        scope: object = read_json(text.encode("latin-1"))
    except (ValueError, RecursionError):
        scope = None
    if not isinstance(scope, dict):
        raise Problem(
            400, "INVALID_SCOPE", f'{SCOPE_HEADER} is no JSON object such as {{"todos": {{"userId": "alice"}}}}'
        )
    return scope


class _Key(Struct, rename="camel", forbid_unknown_fields=True):
    collection: str
    record_id: str

    @property
    def key(self) -> RecordKey:
        return RecordKey(self.collection, self.record_id)


class _Change(Struct, rename="camel", forbid_unknown_fields=True):
    type: OperationType
    collection: str
    record_id: str | None = None
    data: dict[str, Any] | None = None
    atomic: dict[str, Any] | None = None

    @property
    def mutation(self) -> Mutation:
        return Mutation(self.type, self.collection, self.record_id, self.data, self.atomic)


class _OneChange(_Change, rename="camel", forbid_unknown_fields=True):
    idempotency: _Key | None = None


class _Refusal(Struct, frozen=True, forbid_unknown_fields=True):
    code: str = Refusal().code
    message: str = Refusal().message


class _Conditional(Struct, rename="camel", forbid_unknown_fields=True):
    target: _Key
    condition: dict[str, dict[str, Any]]
    update: dict[str, Any] | None = None
    atomic: dict[str, Any] | None = None
    also: Annotated[list[_Change], Meta(max_length=MAX_CHANGES)] = []
    refusal: _Refusal = _Refusal()
    idempotency: _Key | None = None


def read_write(body: bytes) -> TrustedWrite:
    """The write that a body asks for: one change, or several under a condition. Raises Problem."""
    document = _json(body, "the body")
    if isinstance(document, dict) and "condition" in document:
        return _conditional(_converted(document, _Conditional))
    change = _converted(document, _OneChange)
    if change.idempotency is None:
        return change.mutation
    done = change.idempotency.key
    target = RecordKey(change.collection, change.record_id or done.record_id)
    return ConditionalWrite(target, {}, also=[change.mutation], idempotency=done)


def _conditional(asked: _Conditional) -> ConditionalWrite:
    try:
        checked_predicate(asked.condition)
    except MalformedPredicate as error:
        raise Problem(422, "MALFORMED_REQUEST", f"condition: {error}") from None
    return ConditionalWrite(
        asked.target.key,
        asked.condition,
        asked.update,
        asked.atomic,
        [one.mutation for one in asked.also],
        Refusal(asked.refusal.code, asked.refusal.message),
        None if asked.idempotency is None else asked.idempotency.key,
    )


def _converted(document: JsonValue, shape: type[T]) -> T:
    try:
        return msgspec.convert(document, shape)
    except UnicodeEncodeError:
        raise Problem(422, "MALFORMED_REQUEST", "The body is no write: half of a surrogate pair is no text") from None
    except msgspec.ValidationError as error:
        raise Problem(422, "MALFORMED_REQUEST", f"The body is no write: {error}") from None
