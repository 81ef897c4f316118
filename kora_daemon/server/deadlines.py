"""What becomes overdue on a connection: an answer that is awaited, the end of its token, a sign of life."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol.moves import Phase
from kora_daemon.protocol.session import Session
from kora_daemon.server.clock import now, wall_s
from kora_daemon.server.identity import COME_AGAIN, Identity
from kora_daemon.server.transport import Transport

QUIET_AT_MOST_S = 10.0
"""A connection whose token ends is looked at that often even though nothing is overdue: wall clocks jump, and
whether it ends with its token is a setting."""
_LOST_AFTER_INTERVALS = 3

Overdue = on.Renewal | on.Tick | do.Close


class Deadlines:
    """Of one connection. Most have none for a long time; `stirred` is called when that may have changed."""

    __slots__ = (
        "_ends_with_token",
        "_ping_interval_s",
        "_pinged_at",
        "_session",
        "_stirred",
        "_transport",
        "quiet_until",
    )

    def __init__(
        self,
        session: Session,
        transport: Transport,
        ping_interval_s: float,
        ends_with_token: Callable[[], bool],
        stirred: Callable[[], None],
    ) -> None:
        self._session = session
        self._transport = transport
        self._ping_interval_s = ping_interval_s or math.inf
        self._ends_with_token = ends_with_token
        self._stirred = stirred
        self._pinged_at = 0.0
        self.quiet_until = 0.0
        """On the event loop's clock (s): nothing is overdue before. 0 until `look` has found out."""

    def changed(self) -> None:
        """Something has happened: what was found out does not hold any more."""
        if self.quiet_until:
            self.quiet_until = 0.0
            self._stirred()

    def look(self, identity: Identity | None) -> Overdue | None:
        """The most important thing that is overdue, for the owner to act upon; pings by itself."""
        moment = trio.current_time()
        self.quiet_until = 0.0
        token_s = self._token_lasts_s(identity)
        if token_s <= 0:
            return on.Renewal(f"the token has expired, {COME_AGAIN}")
        interval = self._ping_interval_s
        silent_s = moment - self._transport.heard_at
        if silent_s >= _LOST_AFTER_INTERVALS * interval:
            return do.Close(do.GOING_AWAY, "no sign of life")
        if silent_s >= interval and moment - self._pinged_at >= interval:
            self._pinged_at = moment
            self._transport.ping()
        answer_s = self._answer_lasts_s()
        if answer_s <= 0 and self._is_out():
            return on.Tick(int(silent_s * 1_000))
        ping_s = interval - min(silent_s, moment - self._pinged_at)
        jump_s = math.inf if identity is None or identity.ends_at is None else QUIET_AT_MOST_S
        self.quiet_until = moment + min(token_s, answer_s, ping_s, jump_s)
        return None

    def _token_lasts_s(self, identity: Identity | None) -> float:
        if identity is None or identity.ends_at is None or not self._ends_with_token():
            return math.inf
        return identity.ends_at - wall_s()

    def _answer_lasts_s(self) -> float:
        due_ms = self._session.due_ms
        return math.inf if due_ms is None else (due_ms - now().elapsed_ms) / 1000

    def _is_out(self) -> bool:
        """Whether the peer can have what it is to answer to.

        What has not left this machine is not lost: who reads slowly is waited for, not sent everything twice.
        """
        return self._session.phase is Phase.CONNECTED or self._transport.delivered()
