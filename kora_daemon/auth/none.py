"""Kind `none`: everybody is the same anonymous user."""

from __future__ import annotations

from kora_daemon.auth.contract import AuthContext

_ANONYMOUS = AuthContext("anonymous")


class NoAuthProvider:
    """Accepts every token, without looking at it."""

    async def authenticate(self, token: str) -> AuthContext:
        """The anonymous context."""
        del token
        return _ANONYMOUS
