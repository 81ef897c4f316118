"""What every provider promises (auth.md section 1), and what it may ask of the server that holds it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from msgspec import Struct

from kora_daemon.auth.scope_maps import same_scopes
from kora_daemon.model.scope import ScopeMap

T = TypeVar("T")

MAX_TOKEN_LENGTH = 1 << 16
"""Characters. Real tokens are far below; a longer one is no token, and is not hashed, split or passed on."""


def token_digest(token: str) -> str:
    """Hex SHA-256 of a token: the form in which one is compared and remembered."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Grounds:
    """On what a context was given; only the provider that gave it knows more. Never shown: a token may be in it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class AuthContext(Struct, frozen=True, eq=False):
    """Somebody. `scopes` None = unrestricted, {} = nothing at all; `metadata` is never sent to clients.

    `device_id` is the token's own idea of the device, `expires_at` (seconds since the epoch) the end of the token, None
    where there is none. `token_digest` and `grounds` are what the context can be judged by again; they say nothing
    about the person, so contexts that differ in them alone are equal.
    """

    user_id: str
    scopes: ScopeMap | None = None
    metadata: Mapping[str, Any] | None = None
    device_id: str | None = None
    expires_at: float | None = None
    token_digest: str | None = None
    grounds: Grounds | None = None
    is_visitor: bool = False
    """Nobody in particular: the user id lasts as long as the session."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AuthContext):
            return NotImplemented
        return (
            self.user_id == other.user_id
            and self.metadata == other.metadata
            and self.device_id == other.device_id
            and self.expires_at == other.expires_at
            and same_scopes(self.scopes, other.scopes)
        )

    def __hash__(self) -> int:
        return hash((self.user_id, self.device_id, self.expires_at))


class Caller(Struct, frozen=True):
    """Where a token comes from, as far as it is known: unauthenticated, for hooks that want to look at it."""

    node_id: str | None = None
    address: str | None = None


NOBODY: Final = Caller()


class Anew(Enum):
    """The third answer of a re-check: this context can't be judged any more; let the client authenticate anew.

    Close the session without an error message: the client comes back and shows a token.
    """

    ANEW = "anew"


ANEW: Final = Anew.ANEW
Standing = AuthContext | Anew | None
"""What a re-check finds: the context as it is now (perhaps with other scopes), ANEW, or None for gone or revoked."""


class AuthProvider(Protocol):
    """Turns a token into a context."""

    async def authenticate(self, token: str) -> AuthContext | None:
        """The context of a good token, None for a bad one; "" stands for no token.

        Raises AuthUnavailable when it can't decide now: that must never look like a bad token, since clients sign
        their users out on those.
        """
        ...


@runtime_checkable
class JudgesCallers(Protocol):
    """A provider that wants to know where a token comes from."""

    async def judge(self, token: str, caller: Caller) -> AuthContext | None:
        """As `authenticate`."""
        ...


@runtime_checkable
class Revalidates(Protocol):
    """A provider that can tell whether contexts still hold. The contexts may be those of another provider."""

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        """Where they stand now, in the same order. An expired token alone is no reason to go.

        Raises AuthUnavailable when it can't decide: then all of them stay.
        """
        ...


class Calls(Protocol):
    """How a provider does what takes time: the server lends its threads and its clock."""

    async def blocking(self, call: Callable[[], T], timeout_s: float) -> T:
        """The result of a call that blocks, made in a thread. Raises AuthUnavailable when it is late."""
        ...

    async def awaiting(self, call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """The result of an awaitable. Raises AuthUnavailable when it is late."""
        ...


@runtime_checkable
class CallsOut(Protocol):
    """A provider that does what takes time. Until it is lent something better it blocks its caller, without limits."""

    def use(self, calls: Calls) -> None:
        """Use these from now on."""
        ...


@runtime_checkable
class Tended(Protocol):
    """A provider with work that no login waits for: stamps to write, keys to fetch, lists to read again, a child."""

    def tend(self) -> None:
        """Do what is due. Blocks; to be called in a thread about once a second, one call at a time. Never raises."""
        ...

    def close(self) -> None:
        """Write what is left and let go of everything. Blocks; to be called once, after the last session."""
        ...


@runtime_checkable
class MindsScopes(Protocol):
    """A provider that takes care itself that nobody is unrestricted unnoticed: it was told so, or warns by itself."""

    @property
    def minds_scopes(self) -> bool:
        """Whether it does."""
        ...


class DirectCalls:
    """Calls made on the spot, for programs without an event loop to keep alive."""

    async def blocking(self, call: Callable[[], T], timeout_s: float) -> T:
        """Block."""
        del timeout_s
        return call()

    async def awaiting(self, call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """Await it for as long as it takes."""
        del timeout_s
        return await call()


def judge_of(provider: AuthProvider) -> Callable[[str, Caller], Awaitable[AuthContext | None]]:
    """How to ask a provider: it is told where the token comes from if it wants to know."""
    return (
        provider.judge if isinstance(provider, JudgesCallers) else lambda token, _caller: provider.authenticate(token)
    )


async def standings(provider: AuthProvider, contexts: Sequence[AuthContext]) -> list[Standing]:
    """Ask a provider for a re-check; one that knows none lets everybody stay."""
    if isinstance(provider, Revalidates):
        return await provider.revalidate(contexts)
    return list(contexts)
