"""What is written down of one session: log lines for later, journal entries for now, numbers for the sum of all."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio
from msgspec import Struct

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.protocol import actions as do
from kora_daemon.protocol.messages import ErrorMessage, Message, OperationRejected
from kora_daemon.protocol.session import Session
from kora_daemon.server.journal import Journal, Value
from kora_daemon.server.measures import OPERATION_CODES, Measures

_ENDED_BEFORE_IT_BEGAN = {
    do.TOO_MANY_CONNECTIONS: "refused",
    do.AUTHENTICATION_FAILED: "unauthenticated",
}

log = structlog.get_logger("kora.session")


class Telemetry(Struct, frozen=True):
    """What a server keeps of its doings for whoever looks at it."""

    measures: Measures
    journal: Journal


class Ledger:
    """The books of one session; `transport` names what carries its frames."""

    __slots__ = (
        "_address",
        "_has_joined",
        "_has_strangers",
        "_joined_at",
        "_journal",
        "_measures",
        "_session",
        "begun_at",
        "transport",
    )

    def __init__(self, telemetry: Telemetry, session: Session, address: str, transport: str) -> None:
        self._measures, self._journal = telemetry.measures, telemetry.journal
        self._session = session
        self._address = address
        self.transport = transport
        self.begun_at = trio.current_time()
        self._joined_at: float | None = None
        """Until it has been sent what it lacked."""
        self._has_joined = self._has_strangers = False

    @property
    def who(self) -> dict[str, Value]:
        """The session, for log lines."""
        return {"session": self._session.number, "address": self._address, "node": self._session.node_id}

    @property
    def _who_and_user(self) -> dict[str, Value]:
        return {**self.who, "user": self._session.user_id}

    def refused(self, limit: str) -> None:
        """There was no room for it."""
        log.warning("session.refused", **self.who, reason=limit)
        self._journal.repeat("session.refused", ("refused", limit), address=self._address, reason=limit)

    def authenticated(self, outcome: str) -> None:
        """The provider has answered, or can't."""
        self._measures.auth.add(outcome)
        if outcome != "accepted":
            self._journal.repeat(f"auth.{outcome}", (outcome, self._address), address=self._address)

    def joined(self) -> None:
        """Its handshake was accepted."""
        self._has_joined = True
        self._joined_at = trio.current_time()
        self._measures.connection(self.transport, "joined")
        log.info("session.joined", **self._who_and_user)
        self._journal.record("session.joined", **self._who_and_user, transport=self.transport)

    def dismissed(self, reason: str) -> None:
        """It has to go, or to come again."""
        log.info("session.dismissed", **self._who_and_user, reason=reason)

    def saw_strangers(self, operations: int) -> None:
        """It uploads in the name of other devices."""
        if operations and not self._has_strangers:
            self._has_strangers = True
            log.warning("session.foreign_node", **self._who_and_user, operations=operations)

    def uploaded(self, operations: int, size_bytes: int) -> None:
        """It has sent a batch."""
        self._measures.uploaded_operations += operations
        self._measures.uploaded_bytes += size_bytes

    def acknowledged(self, received_at: float) -> None:
        """A batch that was received then is durable, and it has been told."""
        self._measures.write_to_ack.add(trio.current_time() - received_at)

    def told(self, message: Message) -> None:
        """It was sent a message."""
        kind = type(message)
        if kind is OperationRejected:
            self._rejected(message.code)  # type: ignore[attr-defined]
        elif kind is ErrorMessage:
            self._told_error(message.code)  # type: ignore[attr-defined]

    def _told_error(self, code: str) -> None:
        # Old clients know no other way to be told of a refused operation.
        if code in OPERATION_CODES and code != "INVALID_TIMESTAMP":
            self._rejected(code)
            return
        self._measures.errors.add(code)
        self._journal.repeat("session.error", (self._address, code), **self._who_and_user, code=code)

    def _rejected(self, code: str) -> None:
        self._measures.rejections.add(code)
        same = (self._session.number, code)
        self._journal.repeat("operation.rejected", same, **self._who_and_user, code=code)

    def delivered(self, batch: DeliveryBatch) -> None:
        """It was sent a batch of the log."""
        measures = self._measures
        measures.delivered_batches += 1
        measures.delivered_operations += len(batch.entries)
        measures.delivered_bytes += batch.size_bytes
        if self._joined_at is not None and batch.is_final:
            self._synced(self._joined_at)

    def _synced(self, joined_at: float) -> None:
        measures = self._measures
        tally = measures.first_sync_seconds if self._session.starts_over else measures.resync_seconds
        tally.add(trio.current_time() - joined_at)
        self._joined_at = None

    def crashed(self, errors: Sequence[BaseException]) -> None:
        """Something in here has gone wrong."""
        log.error("session.crashed", **self.who, error=repr(errors[0]), exc_info=errors[0])
        self._journal.record("session.crashed", **self.who)

    def read_failed(self, error: Exception) -> None:
        """The store did not say what the session needs."""
        log.error("store.read_failed", **self.who, error=str(error))

    def closed(self, closing: do.Close | None) -> None:
        """It is over; `closing` unless the peer has just gone."""
        code = None if closing is None else closing.code
        log.info("session.closed", **self.who, code=code)
        self._measures.closes.add("peer" if code is None else str(code))
        if not self._has_joined:
            self._measures.connection(self.transport, _ENDED_BEFORE_IT_BEGAN.get(code or 0, "unfinished"))
            return
        reason = None if closing is None else closing.reason
        self._journal.record("session.closed", **self._who_and_user, code=code, reason=reason)
