"""Writes by the server's own side: routes, tools, library users (store.md section 8).

The server authors the operations, and they pass the same judgement as those of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from kora_daemon.apply.author import Draft
from kora_daemon.apply.authority import is_hidden, is_outside
from kora_daemon.apply.pipeline import Pipeline, refuse
from kora_daemon.apply.predicates import Predicate, satisfies
from kora_daemon.apply.work import Work, data_of
from kora_daemon.materialization.atomic import compose, read_intents
from kora_daemon.materialization.columns import shown_fields
from kora_daemon.materialization.fold import RecordState
from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.operation import MAX_NAME_LENGTH, Operation, OperationType
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import ScopeMap
from kora_daemon.model.structure import is_name
from kora_daemon.store.contract import Store

Fields = Mapping[str, Any]


class Mutation(Struct, frozen=True):
    """One change to one record.

    `atomic` maps fields of an update to intents, `{"type": "increment", "value": 1}` and the like (store.md section 5);
    what they come to is worked out on the current record. An insert without a record id gets a new one.
    """

    type: OperationType
    collection: str
    record_id: str | None = None
    data: Fields | None = None
    atomic: Fields | None = None


class Refusal(Struct, frozen=True):
    """What a conditional write is to answer when its condition does not hold."""

    code: str = "CONDITION_NOT_MET"
    message: str = "The condition does not hold"


class ConditionalWrite(Struct, frozen=True):
    """Changes that happen together, or not at all: only if `target` satisfies `condition`.

    `update` and `atomic` change the target, `also` whatever else. `idempotency` names a record whose being there means
    that all of this has been done before.
    """

    target: RecordKey
    condition: Predicate
    update: Fields | None = None
    atomic: Fields | None = None
    also: Sequence[Mutation] = ()
    refusal: Refusal = Refusal()
    idempotency: RecordKey | None = None


TrustedWrite = Mutation | ConditionalWrite


class TrustedOutcome(Struct):
    """What became of a write: `skipped` with a rejection, `repeated` when it had been done before, else `applied`."""

    result: Literal["applied", "repeated", "skipped"]
    applied: list[LogEntry] = []
    """The operations and, right behind each, what it brought about."""
    record_ids: list[str] = []
    """Of the records written to, in the order of the changes."""
    rejection: Rejection | None = None
    has_moved: bool = False
    """Whether the write has moved records from one scope to another."""


class WriteRefused(Exception):
    """Nothing of the write may stay: leaves the transaction with it."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


def with_record_ids(wanted: TrustedWrite, new_id: Callable[[], str]) -> TrustedWrite:
    """The write with a record id for each insert that has none."""
    if isinstance(wanted, ConditionalWrite):
        return replace(wanted, also=[_with_record_id(one, new_id) for one in wanted.also])
    return _with_record_id(wanted, new_id)


def commit_trusted(
    store: Store,
    pipeline: Pipeline,
    wanted: TrustedWrite,
    now_ms: int,
    scopes: ScopeMap | None = None,
    tried: list[TrustedOutcome] | None = None,
) -> TrustedOutcome:
    """Do it, in a transaction of its own. `now_ms` is the server's clock, ms since the epoch. Raises StoreError.

    With `scopes` it may do no more than a device that has them: what lies outside is not there for its conditions, and
    can't be changed. `tried` remembers what earlier calls have tried: a commit that was reported as failed may have
    happened all the same, and then is not repeated.
    """
    tried = [] if tried is None else tried
    locks = [wanted.target] if isinstance(wanted, ConditionalWrite) else []
    if isinstance(wanted, ConditionalWrite) and wanted.idempotency is not None:
        locks.append(wanted.idempotency)
    try:
        with store.transaction(locks) as tx:
            for outcome in tried:
                if tx.known_ids([entry.operation.id for entry in outcome.applied]):
                    return outcome
            work = pipeline.work(tx, now_ms)
            outcome = write(pipeline, work, wanted, scopes)
            outcome.applied = work.finish()
            outcome.has_moved = work.has_moved
            tried.append(outcome)
    except WriteRefused as refused:
        return TrustedOutcome("skipped", rejection=refused.rejection)
    return outcome


def _with_record_id(mutation: Mutation, new_id: Callable[[], str]) -> Mutation:
    return replace(mutation, record_id=new_id()) if mutation.type == "insert" and not mutation.record_id else mutation


def write(pipeline: Pipeline, work: Work, wanted: TrustedWrite, scopes: ScopeMap | None = None) -> TrustedOutcome:
    """Author and apply. Raises `WriteRefused` when the transaction has to be given up, for a write of many parts.

    An insert must have its record id by now. The outcome has no `applied` yet: `Work.finish` has.
    """
    if isinstance(wanted, ConditionalWrite):
        return _write_if(pipeline, work, wanted, scopes)
    rejection = _mutate(pipeline, work, wanted, scopes)
    if rejection is not None:
        return TrustedOutcome("skipped", rejection=rejection)
    return TrustedOutcome("applied", record_ids=[wanted.record_id or ""])


def _write_if(pipeline: Pipeline, work: Work, wanted: ConditionalWrite, scopes: ScopeMap | None) -> TrustedOutcome:
    for key in (wanted.target, wanted.idempotency):
        if key is not None and (problem := _name_problem(pipeline, *key)) is not None:
            return TrustedOutcome("skipped", rejection=Rejection("", *key, "INVALID_OPERATION", problem))
    if wanted.idempotency is not None and _live(work, wanted.idempotency, scopes) is not None:
        return TrustedOutcome("repeated", record_ids=[wanted.target.record_id])
    state = _live(work, wanted.target, scopes)
    if not satisfies(wanted.condition, None if state is None else _shown(pipeline, wanted.target, state)):
        refusal = wanted.refusal
        return TrustedOutcome("skipped", rejection=Rejection("", *wanted.target, refusal.code, refusal.message))
    changes = list(wanted.also)
    if wanted.update is not None or wanted.atomic:
        changes.insert(0, Mutation("update", *wanted.target, wanted.update or {}, wanted.atomic))
    for change in changes:
        rejection = _mutate(pipeline, work, change, scopes)
        if rejection is not None:
            raise WriteRefused(rejection)
    return TrustedOutcome("applied", record_ids=[change.record_id or "" for change in changes])


def _live(work: Work, key: RecordKey, scopes: ScopeMap | None) -> RecordState | None:
    """The state of a live record within the scopes."""
    state = work.current(key)
    return None if state is None or not state.live or is_hidden(work, scopes, key, state) else state


def _mutate(pipeline: Pipeline, work: Work, wanted: Mutation, scopes: ScopeMap | None) -> Rejection | None:
    problem = _problem(pipeline, wanted)
    if problem is not None:
        return Rejection("", wanted.collection, wanted.record_id or "", *problem)
    operation = _authored(pipeline, work, wanted)
    data = data_of(operation)
    if is_outside(work, scopes, operation, data):
        return refuse(operation, "SCOPE_VIOLATION", "The change is outside the scope of this request")
    return pipeline.apply_one(work, operation, data)


def _problem(pipeline: Pipeline, wanted: Mutation) -> tuple[str, str] | None:
    if not wanted.record_id:
        return "MISSING_RECORD_ID", f"an {wanted.type} needs the id of a record"
    misnamed = _name_problem(pipeline, wanted.collection, wanted.record_id)
    if misnamed is not None:
        return "INVALID_OPERATION", misnamed
    if wanted.type != "delete" and wanted.data is None and not wanted.atomic:
        return "INVALID_OPERATION", f"an {wanted.type} needs data"
    if wanted.atomic and wanted.type != "update":
        return "INVALID_OPERATION", "only an update can be atomic"
    if wanted.atomic and read_intents(dict(wanted.atomic)).keys() != wanted.atomic.keys():
        return "INVALID_OPERATION", "an atomic change has a type (increment, max, min, append, remove) and a value"
    return None


def _name_problem(pipeline: Pipeline, collection: str, record_id: str) -> str | None:
    schema = pipeline.rules.schema
    for word, name in (("record id", record_id), ("collection", collection)):
        if not is_name(name):
            return f"a {word} is a text of 1 to {MAX_NAME_LENGTH} whole characters"
    if schema is not None and collection not in schema.collections:
        return f"there is no collection {collection!r}; the schema has {', '.join(schema.collections)}"
    return None


def _authored(pipeline: Pipeline, work: Work, wanted: Mutation) -> Operation:
    key = RecordKey(wanted.collection, wanted.record_id or "")
    schema = pipeline.rules.schema
    state = pipeline.see(work, key)
    current = dict(state.fields) if state is not None and state.live else {}
    data = None if wanted.type == "delete" else dict(wanted.data or {})
    if data is not None:
        for field, intent in read_intents(dict(wanted.atomic or {})).items():
            data[field] = compose(intent, current.get(field))
    previous = None
    if wanted.type == "update" and data is not None:
        previous = {name: current.get(name) for name in data} if current else {}
    elif wanted.type == "delete":
        previous = current or None
    version = 1 if schema is None else schema.version
    draft = Draft(wanted.type, key, data, previous, version, atomic_ops=wanted.atomic)
    number = work.next_sequence_number(pipeline.author.node_id)
    return pipeline.author.write(draft, number, work.received_at_ms)


def _shown(pipeline: Pipeline, key: RecordKey, state: RecordState) -> dict[str, Any]:
    """A record as a query shows it."""
    schema = pipeline.rules.schema
    collection = None if schema is None else schema.collections.get(key.collection)
    if collection is None:
        return shown_fields(None, key.record_id, state)
    shown = shown_fields(collection.kinds, key.record_id, state)
    return {**shown, "_created_at": state.created_at_ms, "_updated_at": state.updated_at_ms}
