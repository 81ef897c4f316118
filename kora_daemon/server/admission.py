"""Who gets in, and how long those who don't have to wait for the answer (auth.md section 5)."""

from __future__ import annotations

from collections import OrderedDict

import structlog
import trio

from kora_daemon.auth.contract import AuthContext, AuthProvider, token_digest
from kora_daemon.errors import AuthUnavailable

AUTHENTICATION_TIMEOUT_S = 10.0
MAX_REFUSAL_DELAY_S = 30.0
_REMEMBERED_REFUSALS = 10_000
_FORGOTTEN_AFTER_S = 120.0

log = structlog.get_logger("kora.auth")


class Admission:
    """Asks the provider, and holds refusals back: 1 s, doubling for the same address and token, up to 30 s.

    Refused stock clients come back about every second for ever, since connecting succeeded.
    """

    def __init__(
        self, provider: AuthProvider, refusal_delay_s: float = 1.0, *, allow_query_token: bool = False
    ) -> None:
        self._provider = provider
        self._refusal_delay_s = refusal_delay_s
        self._allow_query_token = allow_query_token
        self._refusals: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    async def admit(self, token: object, query_token: str | None, address: str) -> AuthContext | None:
        """The context behind a token, None (late) for a bad one.

        `token` is what the handshake carries, of any type. Raises AuthUnavailable when the provider can't decide.
        """
        if token is None:
            token = query_token if query_token is not None and self._allow_query_token else ""
        context = await self._ask(token) if isinstance(token, str) else None
        if context is None:
            digest = token_digest(token if isinstance(token, str) else repr(type(token)))
            log.warning("auth.refused", address=address)
            await trio.sleep(self._next_delay((address, digest)))
        return context

    async def _ask(self, token: str) -> AuthContext | None:
        try:
            with trio.fail_after(AUTHENTICATION_TIMEOUT_S):
                context = await self._provider.authenticate(token)
        except AuthUnavailable:
            log.exception("auth.unavailable")
            raise
        except Exception as error:
            log.exception("auth.provider_failed")
            raise AuthUnavailable("The auth provider failed") from error
        if context is not None and not (isinstance(context.user_id, str) and context.user_id):
            log.error("auth.provider_failed", problem="the context has no user id")
            raise AuthUnavailable("The auth provider answered without a user id")
        return context

    def _next_delay(self, who: tuple[str, str]) -> float:
        now = trio.current_time()
        delay, refused_at = self._refusals.pop(who, (0.0, now))
        if now - refused_at > _FORGOTTEN_AFTER_S:
            delay = 0.0
        delay = min(max(2 * delay, self._refusal_delay_s), MAX_REFUSAL_DELAY_S)
        self._refusals[who] = (delay, now)
        while len(self._refusals) > _REMEMBERED_REFUSALS:
            self._refusals.popitem(last=False)
        return delay
