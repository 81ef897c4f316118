"""Kind `token`: a table in the configuration file, or somebody's code (auth.md section 6)."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace

from kora_daemon.auth.answers import read_answer
from kora_daemon.auth.contract import (
    ANEW,
    MAX_TOKEN_LENGTH,
    AuthContext,
    Caller,
    Grounds,
    Standing,
    token_digest,
)
from kora_daemon.auth.provider import ScopingProvider
from kora_daemon.auth.scoping import Scoping, Unrestricted, call_hook, is_async
from kora_daemon.auth.templates import ScopesRefused
from kora_daemon.auth.verdicts import REFUSED_FOR_S, Verdicts

log = structlog.get_logger("kora.auth")


class StaticToken(Struct, frozen=True):
    """One row of the table: `sha256` is the hex digest of the token's UTF-8."""

    sha256: str
    context: AuthContext


class StaticGrounds(Grounds):
    """A row of the table."""


class StaticTokenProvider:
    """Looks a token up by its digest: neither the table nor the time of a look-up tells a token."""

    minds_scopes = True

    def __init__(self, tokens: Iterable[StaticToken]) -> None:
        self._tokens = [
            StaticToken(row.sha256, replace(row.context, token_digest=row.sha256, grounds=StaticGrounds()))
            for row in tokens
        ]

    async def authenticate(self, token: str) -> AuthContext | None:
        """The context of the row with this token."""
        if len(token) > MAX_TOKEN_LENGTH:
            log.info("auth.token_refused", reason="too long")
            return None
        digest = token_digest(token)
        found = self._row(digest)
        if found is None:
            log.info("auth.token_refused", reason="unknown", digest=digest[:12])
        return found

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        """What the rows say now."""
        return [
            self._row(one.token_digest or "") if isinstance(one.grounds, StaticGrounds) else ANEW for one in contexts
        ]

    def _row(self, digest: str) -> AuthContext | None:
        found: AuthContext | None = None
        for row in self._tokens:
            if hmac.compare_digest(row.sha256, digest):
                found = row.context
        return found


class HookGrounds(Grounds):
    """What to ask about again: in memory only, as long as the session."""

    __slots__ = ("caller", "token")

    def __init__(self, token: str, caller: Caller) -> None:
        self.token = token
        self.caller = caller


_REFUSED = AuthContext("")


class HookProvider(ScopingProvider):
    """Asks `ask` about a token and its caller; `name` is what the log calls it.

    An answer holds for `cache_s`, a refusal for a few seconds, both only for the same caller: it may have mattered.
    Answers without scopes get those of `scoping`, which sees {sub, metadata}. `shared`: without any is on purpose.
    """

    minds_scopes = True

    def __init__(  # noqa: PLR0913  each is a setting of its own
        self,
        ask: Callable[[str, Caller], Any],
        scoping: Scoping | None = None,
        *,
        name: str = "validate",
        timeout_s: float = 5.0,
        cache_s: float = 0.0,
        shared: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(scoping or Unrestricted(), clock)
        self._ask = ask
        self._name = name
        self._timeout_s = timeout_s
        self._cache_s = cache_s
        self._verdicts: Verdicts[AuthContext] = Verdicts()
        self._warned = shared
        self.on_close: Callable[[], None] | None = None
        """Ends what `ask` has running."""

    async def judge(self, token: str, caller: Caller) -> AuthContext | None:
        """The context behind a token that this caller shows."""
        if len(token) > MAX_TOKEN_LENGTH:
            log.info("auth.token_refused", reason="too long")
            return None
        digest = token_digest(token)
        remembered = self._verdicts.get((digest, caller), self._clock())
        if remembered is not None:
            return None if remembered is _REFUSED else remembered
        return await self._asked(token, caller, digest)

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        """Ask again, about each; nobody can be asked about a token that has expired, so its session stays."""
        return [await self._standing(one) for one in contexts]

    def tend(self) -> None:
        """There is nothing to be done."""

    def close(self) -> None:
        """Let go of what is asked."""
        if self.on_close is not None:
            self.on_close()

    async def _standing(self, context: AuthContext) -> Standing:
        grounds = context.grounds
        if not isinstance(grounds, HookGrounds):
            return ANEW
        if context.expires_at is not None and self._clock() >= context.expires_at:
            return context
        now = await self._asked(grounds.token, grounds.caller, token_digest(grounds.token))
        return now if now is None or now.user_id == context.user_id else ANEW

    async def _asked(self, token: str, caller: Caller, digest: str) -> AuthContext | None:
        context = read_answer(await call_hook(self._calls, self._timeout_s, self._ask, token, caller))
        reason = "hook"
        if context is not None:
            try:
                context = replace(
                    context,
                    scopes=await self._scopes(context),
                    token_digest=digest,
                    grounds=HookGrounds(token, caller),
                )
            except ScopesRefused as refusal:
                context, reason = None, str(refusal)
        now = self._clock()
        if context is not None and context.expires_at is not None and now >= context.expires_at:
            context, reason = None, "expired"
        if context is None:
            log.info("auth.token_refused", reason=reason, digest=digest[:12])
        self._remember((digest, caller), context, now)
        return context

    def _remember(self, key: tuple[str, Caller], context: AuthContext | None, now: float) -> None:
        if self._cache_s <= 0:
            return
        if context is None:
            self._verdicts.put(key, _REFUSED, now + min(self._cache_s, REFUSED_FOR_S))
            return
        expires_at = now + self._cache_s if context.expires_at is None else context.expires_at
        self._verdicts.put(key, context, min(now + self._cache_s, expires_at))

    async def _scopes(self, context: AuthContext) -> Any:  # noqa: ANN401  scopes or None
        if context.scopes is not None:
            return context.scopes
        if not self._scoping.is_unrestricted:
            claims = {"sub": context.user_id, "metadata": context.metadata or {}}
            return await self._scoping.scopes(context.user_id, claims)
        if not self._warned:
            self._warned = True
            hint = "whoever it gives no scopes may read and write everything; shared_data = true says so"
            log.warning("auth.unrestricted", hook=self._name, hint=hint)
        return None


def about_token(validate: Callable[[str], Any]) -> Callable[[str, Caller], Any]:
    """A validator that wants the token alone, async or plain as it is."""
    if is_async(validate):

        async def ask(token: str, caller: Caller) -> Any:  # noqa: ANN401  checked by `read_answer`
            del caller
            return await validate(token)

        return ask
    return lambda token, caller: validate(token)


class TokenAuthProvider(HookProvider):
    """Kind `token` with a validator of your own.

    `validate` is given the token ("" for none) and returns {"userId", "scopes"?, "metadata"?, "expiresAt"?} or an
    AuthContext, None or False to refuse. It may be async; a plain one runs in a thread of the server. Whatever it
    raises means "can't say now".
    """

    def __init__(
        self,
        validate: Callable[[str], Any],
        *,
        scoping: Scoping | None = None,
        timeout_s: float = 5.0,
        cache_s: float = 0.0,
        shared_data: bool = False,
    ) -> None:
        super().__init__(about_token(validate), scoping, timeout_s=timeout_s, cache_s=cache_s, shared=shared_data)
