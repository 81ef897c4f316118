"""What happens to operations inside the write transaction (store.md section 6)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from kora_daemon.apply.author import Author, Draft
from kora_daemon.apply.authority import Authority, NodeClaims, is_outside, jumps
from kora_daemon.apply.constraints import constraint_problem
from kora_daemon.apply.references import Effect, Restricted, plan_effects
from kora_daemon.apply.values import value_problem
from kora_daemon.apply.work import Work, data_of
from kora_daemon.materialization.fold import RecordState
from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.operation import Operation, Timestamp
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.record import RecordKey
from kora_daemon.model.schema import Collection, Schema
from kora_daemon.store.contract import WriteTransaction


class ApplyRules(Struct, frozen=True):
    """How operations are judged. Without a schema they are not.

    `cascade_levels` says how far down deletes go on: 1 is to the records that point at the deleted one.
    `moves_history`: a record that goes from one scope to another takes all of its operations along, to the end of the
    log, so that those who see it from now on get them (scopes.md section 3).
    `max_record_bytes`: of JSON. What every write of a record costs grows with it, so no update makes one larger.
    """

    schema: Schema | None = None
    cascade_levels: int = 1
    moves_history: bool = False
    max_record_bytes: int = 1_048_576


class BatchOutcome(Struct):
    """What became of one batch. What is neither applied nor refused was in the log already.

    `applied` has the operations and, right behind each, what it brought about.
    """

    applied: list[LogEntry]
    rejections: list[Rejection]
    has_moved: bool = False
    """Whether the write has moved records from one scope to another."""
    strangers: int = 0
    """How many operations its session brought in the name of somebody else's device."""


class Pipeline:
    """Judges, appends, folds: everything that is to become part of the log passes through here.

    Belongs to one thread at a time, like the write transactions that it works in.
    """

    def __init__(self, node_id: str, rules: ApplyRules | None = None) -> None:
        self.author = Author(node_id)
        self.rules = rules or ApplyRules()

    def apply_batches(
        self,
        tx: WriteTransaction,
        batches: Sequence[Sequence[Operation]],
        received_at_ms: int,
        authorities: Sequence[Authority | None] | None = None,
    ) -> list[BatchOutcome]:
        """Apply batches of several sessions in order, as one write; one outcome for each.

        An id that is in the log, or came earlier in the same write, is a duplicate: acknowledged, never compared,
        and asked for before anything else. `received_at_ms` is the server's clock, ms since the epoch; `authorities`
        has whose batch each is, None for those that may write anything.
        """
        work = self.work(tx, received_at_ms)
        whose = authorities or [None] * len(batches)
        claims = NodeClaims(work, self.author.node_id)
        bound = {one.node_id for one in whose if one is not None and one.binding != "off"}
        if bound:
            claims.expect(bound)
        seen = tx.known_ids([operation.id for batch in batches for operation in batch])
        work.load(RecordKey(one.collection, one.record_id) for batch in batches for one in batch if one.id not in seen)
        outcomes: list[BatchOutcome] = []
        ends: list[int] = []
        for batch, authority in zip(batches, whose, strict=True):
            outcome = BatchOutcome([], [])
            for operation in batch:
                if operation.id not in seen:
                    rejection = self._take(work, claims, authority, operation, outcome)
                    if rejection is None:
                        seen.add(operation.id)
                    else:
                        outcome.rejections.append(rejection)
            outcomes.append(outcome)
            ends.append(work.accepted)
        written = work.finish()
        for outcome, begin, end in zip(outcomes, [0, *ends], ends, strict=False):
            outcome.applied = list(written[begin:end])
            outcome.has_moved = work.has_moved
        return outcomes

    def work(self, tx: WriteTransaction, now_ms: int) -> Work:
        """A write transaction as the judgement sees it; `now_ms` is the server's clock, ms since the epoch."""
        return Work(tx, now_ms, moves_history=self.rules.moves_history)

    def _take(
        self, work: Work, claims: NodeClaims, authority: Authority | None, operation: Operation, outcome: BatchOutcome
    ) -> Rejection | None:
        data = data_of(operation)
        if authority is None:
            return self.apply_one(work, operation, data)
        foreign = claims.is_foreign(authority, operation)
        outcome.strangers += foreign
        rejection = _trespass(work, authority, operation, data, foreign) or self.apply_one(work, operation, data)
        if rejection is None:
            claims.accepted(authority, operation)
        return rejection

    def apply_one(self, work: Work, operation: Operation, data: JsonValue) -> Rejection | None:
        """Judge one operation with a new id; accept it and what it brings about, or say why not.

        `data` is its data, read.
        """
        schema = self.rules.schema
        collection = None if schema is None else schema.collections.get(operation.collection)
        if schema is None or collection is None or not work.has_table(collection.name):
            work.accept(operation, data)
            return None
        if operation.type != "delete":
            rejection = self._judge(work, schema, collection, operation, data) or self._outgrown(work, operation, data)
            if rejection is None:
                work.accept(operation, data)
            return rejection
        try:
            effects = plan_effects(
                work, schema, RecordKey(operation.collection, operation.record_id), self.rules.cascade_levels
            )
        except Restricted as restricted:
            text = f"a record of {restricted.relation.from_collection} points at this one ({restricted.relation.name})"
            return refuse(operation, "REFERENTIAL_INTEGRITY", text)
        work.accept(operation, data)
        self._bring_about(work, operation, effects)
        return None

    def _judge(
        self, work: Work, schema: Schema, collection: Collection, operation: Operation, data: JsonValue
    ) -> Rejection | None:
        if operation.schema_version == schema.version:
            problem = value_problem(collection, data)
            if problem is not None:
                return refuse(operation, "INVALID_VALUE", problem)
        problem = constraint_problem(work, collection, operation, data)
        return None if problem is None else refuse(operation, "CONSTRAINT_VIOLATION", problem)

    def _outgrown(self, work: Work, operation: Operation, data: JsonValue) -> Rejection | None:
        most_bytes = self.rules.max_record_bytes
        if operation.type != "update" or not work.outgrows(operation, data, most_bytes):
            return None
        return refuse(operation, "OPERATION_TOO_LARGE", f"The record would have more than {most_bytes} bytes")

    def see(self, work: Work, key: RecordKey) -> RecordState | None:
        """The state of a record. What the server writes next is the newest of it, whatever devices have stamped."""
        state = work.current(key)
        if state is not None:
            self.author.saw(Timestamp(*state.last))
        return state

    def _bring_about(self, work: Work, deleted: Operation, effects: Sequence[Effect]) -> None:
        if not effects:
            return
        self.author.saw(deleted.timestamp)
        written: list[Operation] = []
        for effect in effects:
            cause = deleted if effect.cause is None else written[effect.cause]
            self.see(work, effect.key)
            emptied = {effect.field: None} if effect.type == "update" else None
            previous = None if emptied is None else {effect.field: cause.record_id}
            draft = Draft(effect.type, effect.key, emptied, previous, deleted.schema_version, [cause.id])
            number = work.next_sequence_number(self.author.node_id)
            operation = self.author.write(draft, number, work.received_at_ms)
            written.append(operation)
            work.accept(operation, emptied)


def refuse(operation: Operation, code: str, message: str) -> Rejection:
    """A refusal for good."""
    return Rejection(operation.id, operation.collection, operation.record_id, code, message)


def _trespass(
    work: Work, authority: Authority, operation: Operation, data: JsonValue, foreign: bool
) -> Rejection | None:
    """Refuse what a session may not write. The text never says what there is."""
    if is_outside(work, authority.scopes, operation, data):
        return refuse(operation, "SCOPE_VIOLATION", "The operation is outside the scope of this session")
    if jumps(work, operation):
        text = f"sequence number {operation.sequence_number} is too far above those known of its node"
        return refuse(operation, "INVALID_OPERATION", text)
    if foreign and authority.binding == "enforce":
        return refuse(operation, "NODE_ID_MISMATCH", "The operation is not in the name of this session's device")
    return None
