"""What every provider promises (auth.md section 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct


def token_digest(token: str) -> str:
    """Hex SHA-256 of a token: the form in which one is compared and remembered."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class AuthContext(Struct, frozen=True):
    """Somebody. `scopes` None = unrestricted, {} = nothing at all; `metadata` is never sent to clients."""

    user_id: str
    scopes: Mapping[str, Mapping[str, Any]] | None = None
    metadata: Mapping[str, Any] | None = None


class AuthProvider(Protocol):
    """Turns a token into a context."""

    async def authenticate(self, token: str) -> AuthContext | None:
        """The context of a good token, None for a bad one; "" stands for no token.

        Raises AuthUnavailable when it can't decide now: that must never look like a bad token, since clients sign
        their users out on those.
        """
        ...
