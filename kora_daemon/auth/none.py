"""Kind `none`: everybody is the same anonymous user."""

from __future__ import annotations

from collections.abc import Sequence

from kora_daemon.auth.contract import ANEW, AuthContext, Standing

_ANONYMOUS = AuthContext("anonymous")


class NoAuthProvider:
    """Accepts every token, without looking at it."""

    minds_scopes = True

    async def authenticate(self, token: str) -> AuthContext:
        """The anonymous context."""
        del token
        return _ANONYMOUS

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        """All stay, but those who were somebody before the configuration changed."""
        return [one if one == _ANONYMOUS and one.grounds is None else ANEW for one in contexts]
