"""Kind `token` with a table in the configuration file (auth.md section 6)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from msgspec import Struct

from kora_daemon.auth.contract import AuthContext, token_digest


class StaticToken(Struct, frozen=True):
    """One row of the table: `sha256` is the hex digest of the token's UTF-8."""

    sha256: str
    context: AuthContext


class StaticTokenProvider:
    """Looks a token up by its digest: neither the table nor the time of a look-up tells a token."""

    def __init__(self, tokens: Iterable[StaticToken]) -> None:
        self._tokens = list(tokens)

    async def authenticate(self, token: str) -> AuthContext | None:
        """The context of the row with this token."""
        digest = token_digest(token)
        found: AuthContext | None = None
        for row in self._tokens:
            if hmac.compare_digest(row.sha256, digest):
                found = row.context
        return found
