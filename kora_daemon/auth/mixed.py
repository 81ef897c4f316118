"""Kind `mixed`: visitors beside signed-in users (auth.md section 1)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from kora_daemon.auth.contract import (
    ANEW,
    NOBODY,
    AuthContext,
    AuthProvider,
    Caller,
    Calls,
    CallsOut,
    Grounds,
    MindsScopes,
    Standing,
    Tended,
    judge_of,
    standings,
)
from kora_daemon.model.scope import ScopeMap

_UNIQUE_BYTES = 16


class AnonymousGrounds(Grounds):
    """No token at all."""


class MixedAuthProvider:
    """No token: a visitor with these scopes and an id that nobody can guess. A token: what the primary provider says.

    A refused token is refused, unless `accept_refused`: then its user becomes a visitor, without a word. An outage of
    the primary provider never makes anybody a visitor.
    """

    def __init__(
        self,
        primary: AuthProvider,
        anonymous_scopes: ScopeMap,
        *,
        anonymous_prefix: str = "anon",
        accept_refused: bool = False,
    ) -> None:
        self._primary = primary
        self._judge = judge_of(primary)
        self._scopes = anonymous_scopes
        self._prefix = anonymous_prefix
        self._accept_refused = accept_refused

    def use(self, calls: Calls) -> None:
        """Lend these to the primary provider."""
        if isinstance(self._primary, CallsOut):
            self._primary.use(calls)

    @property
    def minds_scopes(self) -> bool:
        """Whether nobody is unrestricted unnoticed."""
        return isinstance(self._primary, MindsScopes) and self._primary.minds_scopes

    async def authenticate(self, token: str) -> AuthContext | None:
        """The context behind a token, or that of a visitor."""
        return await self.judge(token, NOBODY)

    async def judge(self, token: str, caller: Caller) -> AuthContext | None:
        """The context behind a token that this caller shows, or that of a visitor."""
        if not token:
            return self._visitor()
        context = await self._judge(token, caller)
        return self._visitor() if context is None and self._accept_refused else context

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        """Visitors get the scopes of now and keep their ids; the others are the primary provider's."""
        users = [one for one in contexts if not isinstance(one.grounds, AnonymousGrounds)]
        judged = iter(await standings(self._primary, users) if users else [])
        return [
            self._visitor(one.user_id) if isinstance(one.grounds, AnonymousGrounds) else next(judged, ANEW)
            for one in contexts
        ]

    def tend(self) -> None:
        """Tend the primary provider."""
        if isinstance(self._primary, Tended):
            self._primary.tend()

    def close(self) -> None:
        """Close the primary provider."""
        if isinstance(self._primary, Tended):
            self._primary.close()

    def _visitor(self, user_id: str | None = None) -> AuthContext:
        unique = user_id or f"{self._prefix}-{secrets.token_urlsafe(_UNIQUE_BYTES)}"
        return AuthContext(unique, self._scopes, grounds=AnonymousGrounds(), is_visitor=True)
