"""Who gets in, and how long those who don't have to wait for the answer (auth.md section 5)."""

from __future__ import annotations

from collections import OrderedDict

import structlog
import trio

from kora_daemon.auth.contract import AuthContext, Caller, token_digest
from kora_daemon.auth.verdicts import REFUSED_FOR_S, Verdicts
from kora_daemon.errors import AuthUnavailable
from kora_daemon.server.identification import Identification

MAX_REFUSAL_DELAY_S = 30.0
MAX_OUTAGE_DELAY_S = 8.0
"""For those whom nobody can judge now: they are to be back soon once somebody can."""
_REMEMBERED_REFUSALS = 10_000
_FORGOTTEN_AFTER_S = 120.0

log = structlog.get_logger("kora.auth")


class Admission:
    """Asks who somebody is, and holds refusals back: 1 s, doubling for the same address and token, up to 30 s.

    While nobody can tell who they are, up to 8 s. Stock clients that are not let in come back about every second for
    ever, since connecting succeeded. So a refusal is remembered for a few seconds and costs no look-up then; only for
    the same token from the same caller, who may have mattered.
    """

    def __init__(
        self, identification: Identification, refusal_delay_s: float = 1.0, *, allow_query_token: bool = False
    ) -> None:
        self._identification = identification
        self._refusal_delay_s = refusal_delay_s
        self._allow_query_token = allow_query_token
        self._refused: Verdicts[bool] = Verdicts()
        self._delays: OrderedDict[tuple[str, str | None], tuple[float, float]] = OrderedDict()

    async def admit(self, token: object, query_token: str | None, caller: Caller) -> AuthContext | None:
        """The context behind a token, None (late) for a bad one.

        `token` is what the handshake carries, of any type. Raises AuthUnavailable (late, too) when the provider can't
        decide.
        """
        if token is None:
            token = query_token if query_token is not None and self._allow_query_token else ""
        digest = token_digest(token if isinstance(token, str) else repr(type(token)))
        if not isinstance(token, str):
            log.info("auth.token_refused", reason="not text")
        try:
            context = await self._ask(token, digest, caller) if isinstance(token, str) else None
        except AuthUnavailable:
            await trio.sleep(self._next_delay(digest, caller.address, MAX_OUTAGE_DELAY_S))
            raise
        if context is None:
            log.warning("auth.refused", address=caller.address)
            await trio.sleep(self._next_delay(digest, caller.address))
        return context

    async def _ask(self, token: str, digest: str, caller: Caller) -> AuthContext | None:
        if self._refused.get((digest, caller), trio.current_time()):
            return None
        try:
            context = await self._identification.judge(token, caller)
        except AuthUnavailable as error:
            log.error("auth.unavailable", problem=str(error))
            raise
        if context is None:
            self._refused.put((digest, caller), True, trio.current_time() + REFUSED_FOR_S)
        return context

    def _next_delay(self, digest: str, address: str | None, at_most_s: float = MAX_REFUSAL_DELAY_S) -> float:
        who, now = (digest, address), trio.current_time()
        delay, refused_at = self._delays.pop(who, (0.0, now))
        if now - refused_at > _FORGOTTEN_AFTER_S:
            delay = 0.0
        delay = min(max(2 * delay, self._refusal_delay_s), at_most_s)
        self._delays[who] = (delay, now)
        while len(self._delays) > _REMEMBERED_REFUSALS:
            self._delays.popitem(last=False)
        return delay
