"""Whether a session may upload an operation: scopes and node ids (scopes.md section 4, auth.md section 5)."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, UnsetType

from kora_daemon.apply.work import Work
from kora_daemon.materialization.columns import shown_value
from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.json_text import read_json
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.node import NodeNews
from kora_daemon.model.operation import NULL, Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import READ_ONLY, ScopeMap, Where, matches, may_write, plain_where

NodeBinding = Literal["off", "warn", "enforce"]
"""What becomes of operations that are written in the name of somebody else's device."""
VISITOR = ""
"""Claims a node for nobody in particular."""

MAX_SEQUENCE_JUMP = 1_000_000
"""How far a sequence number may lie above the largest known one of its node. A device that comes back to a server that
has lost its data begins high; one that lies must not reach the end of the numbers."""


class Authority(Struct, frozen=True):
    """In whose name a session uploads, and where it may: its effective scopes, its node id, who that belongs to.

    `claimant` is the user id, VISITOR for those without one. `device_id` is the device that the token was given to.
    """

    node_id: str
    scopes: ScopeMap | None = None
    claimant: str = VISITOR
    device_id: str | None = None
    binding: NodeBinding = "off"
    handover: bool = True


def is_outside(work: Work, scopes: ScopeMap | None, operation: Operation, data: JsonValue) -> bool:
    """Whether an operation lies outside these scopes, by the record as it is now; `data` is its data, read."""
    if scopes is None:
        return False
    scope = scopes.get(operation.collection)
    if scope is None or scope.get(READ_ONLY):
        return True
    where = plain_where(scope)
    if not where:
        return False
    key = RecordKey(operation.collection, operation.record_id)
    state = work.current(key)
    fits = may_write(
        scopes,
        operation.collection,
        record=None if state is None else _shown(work, key, state, where),
        data=data if isinstance(data, dict) else {},
        previous=_previous(operation) if state is None else {},
        replaces=operation.type == "insert",
    )
    if not fits or state is None or not _composes(where, state, operation):
        return not fits
    return not matches(where, _shown(work, key, work.result(state, operation, data), where))


def is_hidden(work: Work, scopes: ScopeMap | None, key: RecordKey, state: RecordState) -> bool:
    """Whether a record, as it is in this state, lies outside these scopes."""
    if scopes is None:
        return False
    scope = scopes.get(key.collection)
    if scope is None:
        return True
    where = plain_where(scope)
    return bool(where) and not matches(where, _shown(work, key, state, where))


def _composes(where: Where, state: RecordState, operation: Operation) -> bool:
    """Whether what becomes of the fields of a scope may be something else than what the operation says."""
    return not isinstance(operation.atomic_ops, UnsetType) or not where.keys().isdisjoint(state.atomic_writers)


def _shown(work: Work, key: RecordKey, state: RecordState, where: Where) -> dict[str, Any]:
    """What a record shows of the fields of a scope."""
    kinds = work.kinds(key.collection)
    fields = state.fields
    if kinds is None:
        shown = {name: fields[name] for name in where if name in fields}
    else:
        shown = {name: shown_value(kinds[name], fields.get(name)) for name in where if name in kinds}
    return shown | {"id": key.record_id}


def _previous(operation: Operation) -> dict[str, Any]:
    if operation.previous_data == NULL:
        return {}
    try:
        previous = read_json(operation.previous_data)
    except RecursionError:
        return {}
    return previous if isinstance(previous, dict) else {}


def is_free(authority: Authority, claim: str | None) -> bool:
    """Whether the node id of a session, claimed like this, is one that it may use."""
    if claim is None or claim in (VISITOR, authority.claimant):
        return True
    return authority.handover and authority.device_id == authority.node_id


class NodeClaims:
    """Who may write as which device, within one write transaction.

    A node id belongs to whom uploads with it first. Users of one browser share a device, hence a node id, so the device
    that a token was given to goes with the token, where `handover` says so; what visitors have used is anybody's. The
    server's own is nobody's.
    """

    def __init__(self, work: Work, server_node_id: str) -> None:
        self._work = work
        self._server_node_id = server_node_id
        self._claims: dict[str, str | None] = {}

    def expect(self, node_ids: set[str]) -> None:
        """These will be asked about."""
        self._claims = dict.fromkeys(node_ids) | dict(self._work.claims(node_ids))

    def is_foreign(self, authority: Authority, operation: Operation) -> bool:
        """Whether an operation comes in the name of somebody else's device; with the binding off nobody asks."""
        return authority.binding != "off" and not self._is_own(authority, operation)

    def accepted(self, authority: Authority, operation: Operation) -> None:
        """An operation has got through: with the first one that is its own a session claims its node id."""
        if authority.binding == "off" or not self._is_own(authority, operation):
            return
        claim = self._claims.get(authority.node_id)
        if claim is None or (claim == VISITOR and authority.claimant != VISITOR):
            self._claims[authority.node_id] = authority.claimant
            self._work.remember(NodeNews(authority.node_id, claimed_by=authority.claimant))

    def _is_own(self, authority: Authority, operation: Operation) -> bool:
        if operation.node_id != authority.node_id or operation.node_id == self._server_node_id:
            return False
        return is_free(authority, self._claims.get(authority.node_id))


def jumps(work: Work, operation: Operation) -> bool:
    """Whether a sequence number lies too far above those known of its node."""
    number = operation.sequence_number
    return number > MAX_SEQUENCE_JUMP and number - work.sequence_number(operation.node_id) > MAX_SEQUENCE_JUMP
