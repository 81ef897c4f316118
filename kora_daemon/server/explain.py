"""Why an operation was or was not delivered to a device: grant, what it asked for itself, subsets, acknowledgments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.scope import ScopeMap
from kora_daemon.model.view import Subsets, View
from kora_daemon.protocol.delivery import Progress
from kora_daemon.protocol.moves import AUTHENTICATED
from kora_daemon.protocol.session import Session
from kora_daemon.server.visible import judged_by

Verdict = Literal["not-in-log", "own", "not-connected", "hidden", "delivered", "sent", "to-come"]

Shows = Callable[[View, DeliveryEntry], Awaitable[bool]]
"""Whether a view shows an entry of the log, by what records are now."""


class SessionAccount(Struct, frozen=True, rename="camel"):
    """One session of the device, and what it makes of the operation.

    `hidden_by` is what keeps it from being shown: "grant" of authentication, "request" of the device itself, "subset"
    of its live queries.
    """

    session: int
    user: str
    verdict: Verdict
    reason: str
    hidden_by: Literal["grant", "request", "subset"] | None = None
    grant: ScopeMap | None = None
    scopes: ScopeMap | None = None
    subsets: Subsets = ()
    progress: Progress | None = None


class Explanation(Struct, frozen=True, rename="camel"):
    """What became of an operation for a device. `fields` are those of its record that decide, as they stand now."""

    node: str
    operation: str
    verdict: Verdict
    reason: str
    sequence: int | None = None
    author: str | None = None
    collection: str | None = None
    record: str | None = None
    fields: Mapping[str, Any] = {}
    sessions: Sequence[SessionAccount] = ()


async def explain(
    node: str,
    operation: str,
    entry: DeliveryEntry | None,
    sessions: Sequence[tuple[Session, ScopeMap | None]],
    shows: Shows,
) -> Explanation:
    """Judge `entry`, None for an operation that is not in the log, for the sessions of a device with their grants.

    Raises StoreError.
    """
    if entry is None:
        reason = "no operation with this id is in the log: it has not been uploaded, or was refused"
        return Explanation(node, operation, "not-in-log", reason)
    accounts = [await _account(session, granted, entry, shows) for session, granted in sessions]
    verdict, reason = _overall(node, entry, accounts)
    judged = judged_by(entry)
    deciding = {name for session, _ in sessions for name in _fields(session.view, entry.collection)}
    known = {**(judged.stamped or {}), **judged.carried}
    return Explanation(
        node,
        operation,
        verdict,
        reason,
        entry.sequence,
        entry.node_id,
        entry.collection,
        judged.key.record_id,
        {name: known[name] for name in sorted(deciding) if name in known},
        accounts,
    )


def _fields(view: View, collection: str) -> frozenset[str]:
    rule = view.rule(collection)
    return frozenset() if rule is None else rule.fields


def _overall(node: str, entry: DeliveryEntry, accounts: Sequence[SessionAccount]) -> tuple[Verdict, str]:
    if accounts:
        best = min(accounts, key=lambda one: _BEST_FIRST.index(one.verdict))
        return best.verdict, best.reason
    if entry.node_id == node:
        return "own", _OWN
    return "not-connected", "the device is not connected: what it may see is known while it is"


_OWN = "the device has written it itself, and has it unless it has lost its data"
_BEST_FIRST: tuple[Verdict, ...] = ("delivered", "sent", "to-come", "own", "hidden", "not-connected", "not-in-log")


async def _account(session: Session, granted: ScopeMap | None, entry: DeliveryEntry, shows: Shows) -> SessionAccount:
    def account(verdict: Verdict, reason: str, hidden_by: Any = None) -> SessionAccount:  # noqa: ANN401  a literal
        return SessionAccount(
            session.number,
            session.user_id,
            verdict,
            reason,
            hidden_by,
            granted,
            session.scopes,
            session.subsets,
            progress,
        )

    progress = session.progress
    if session.phase not in AUTHENTICATED or progress is None:
        return account("to-come", "its handshake is not done")
    by_record = session.view.by_record
    if not await shows(View(granted, by_record=by_record), entry):
        return account("hidden", f"{_place(entry)} lies outside of what its user is granted", "grant")
    if not await shows(View(session.scopes, by_record=by_record), entry):
        return account("hidden", f"{_place(entry)} lies outside of the scope that the device asked for", "request")
    if not await shows(session.view, entry):
        return account("hidden", f"{_place(entry)} is in none of its live queries", "subset")
    if entry.node_id == session.node_id:
        return account("own", _OWN)
    return account(*_position(entry.sequence, progress))


def _position(sequence: int, progress: Progress) -> tuple[Verdict, str]:
    if sequence <= progress.acknowledged:
        return "delivered", f"the device has acknowledged everything up to {progress.acknowledged}"
    if sequence <= progress.sent:
        return "sent", f"it was sent, and everything up to {progress.acknowledged} is acknowledged so far"
    return "to-come", f"everything up to {progress.sent} was sent so far"


def _place(entry: DeliveryEntry) -> str:
    return f"{entry.collection}/{judged_by(entry).key.record_id}"
