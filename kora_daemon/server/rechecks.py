"""Live sessions are judged again: users go, devices are revoked, roles change (auth.md section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import structlog
import trio

from kora_daemon.auth.contract import Standing
from kora_daemon.errors import AuthUnavailable
from kora_daemon.server.beat import next_beat
from kora_daemon.server.identification import Identification
from kora_daemon.server.identity import Identity

TICK_S: Final = 1.0
CHUNK: Final = 200
"""Sessions in one question to the provider, which is one look-up in user tables."""
_EARLY: Final = 0.8
"""Of the interval: whoever is nearly due goes along with those that are, so that chunks are full."""
_PAUSE_S: Final = 0.02
"""Between chunks, for everybody else."""
MOST_FAILURES: Final = 20
"""Questions without an answer before a round is given up."""

log = structlog.get_logger("kora.auth")


class Recheckable(Protocol):
    """What is known of a connection here."""

    @property
    def identity(self) -> Identity | None:
        """Who it is, None as long as (or since) nobody knows."""
        ...

    def judged(self, standing: Standing) -> None:
        """Take where its context stands now."""
        ...


class Rechecks:
    """Asks about every authenticated session once in `AuthRules.revalidate` seconds, and after `soon` at once."""

    def __init__(self, identification: Identification, connections: Callable[[], Iterable[Recheckable]]) -> None:
        self._identification = identification
        self._connections = connections
        self._all_due = False
        self._none_before = 0.0
        """On the event loop's clock (s): nobody is due earlier."""
        self._failures = 0

    def soon(self) -> None:
        """The provider is another one: ask it about everybody. May be called from any thread."""
        self._all_due = True

    async def run(self) -> None:
        """Ask, for ever."""
        while True:
            await trio.sleep_until(next_beat(TICK_S))
            due = self._due()
            self._failures = 0
            for start in range(0, len(due), CHUNK):
                await self._judge(due[start : start + CHUNK])
                await trio.sleep(_PAUSE_S)

    def _due(self) -> list[Recheckable]:
        interval, now = self._identification.rules.revalidate, trio.current_time()
        if not self._all_due and (not interval or now < self._none_before):
            return []
        known = [(one, identity) for one in self._connections() if (identity := one.identity) is not None]
        oldest = min((identity.judged_at for _, identity in known), default=now)
        if self._all_due:
            self._all_due = False
        elif now - oldest < interval:
            self._none_before = oldest + interval
            return []
        else:
            known = [(one, identity) for one, identity in known if now - identity.judged_at >= _EARLY * interval]
        for _, identity in known:
            identity.judged_at = now
        self._none_before = 0.0
        return [one for one, _ in known]

    async def _judge(self, sessions: Sequence[Recheckable]) -> None:
        """Tell these sessions where they stand. One that can't be judged must not hide the others, so look closer."""
        present = [(one, identity.context) for one in sessions if (identity := one.identity) is not None]
        if not present or self._all_due or self._failures >= MOST_FAILURES:
            return  # when all are due again, they are asked about again
        try:
            standings = await self._identification.standings([context for _, context in present])
        except AuthUnavailable as error:
            self._failures += 1
            if self._failures == 1:
                log.warning("auth.recheck_unavailable", sessions=len(present), problem=str(error))
            if len(present) > 1:
                await self._judge(sessions[: len(sessions) // 2])
                await self._judge(sessions[len(sessions) // 2 :])
            return
        for (one, _), standing in zip(present, standings, strict=True):
            one.judged(standing)
