"""Kind `kora`: the users of an existing `@korajs/auth` server (auth.md sections 2 and 3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from kora_daemon.auth.contract import (
    ANEW,
    AuthContext,
    Caller,
    Grounds,
    Standing,
    token_digest,
)
from kora_daemon.auth.jws import Refused
from kora_daemon.auth.kora_tokens import KoraClaims, KoraTokens, Validated
from kora_daemon.auth.provider import ScopingProvider
from kora_daemon.auth.revocations import RevocationList
from kora_daemon.auth.scoping import HookScoping, ScopeHook, Scoping, Unrestricted
from kora_daemon.auth.templates import ScopesRefused
from kora_daemon.auth.users import LastSeen, UserDirectory
from kora_daemon.errors import AuthUnavailable, StoreError

LOOK_UP_TIMEOUT_S = 8.0
"""Longer than the drivers wait for a lock, shorter than a client waits for its handshake."""

log = structlog.get_logger("kora.auth")

_User = tuple[str, str]


class KoraGrounds(Grounds):
    """What a token said, and which secret signed it."""

    __slots__ = ("claims", "key_digest")

    def __init__(self, claims: KoraClaims, key_digest: str) -> None:
        self.claims = claims
        self.key_digest = key_digest


class KoraAuthProvider(ScopingProvider):
    """Access tokens of `@korajs/auth`, signed with one of `secrets` (newest first).

    With `users` the user has to exist and the device must not be revoked (`check_device`), and the device is stamped,
    at most once in `touch_interval_s`; without, the signature alone counts. `scopes` decides what somebody may see:
    a `Scoping`, or a callable of user id and claims. Stamps are written by `tend`.
    """

    def __init__(  # noqa: PLR0913  each is a setting of its own
        self,
        secrets: Sequence[str],
        users: UserDirectory | None = None,
        scopes: Scoping | ScopeHook | None = None,
        *,
        check_device: bool = True,
        touch_interval_s: float = 60.0,
        revoked: RevocationList | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(_scoping(scopes), clock)
        self._tokens = KoraTokens(secrets)
        self._users = users
        self._check_device = check_device
        self._last_seen = None if users is None else LastSeen(users, touch_interval_s)
        self._revoked = revoked

    async def judge(self, token: str, caller: Caller) -> AuthContext | None:
        """The context of an access token; who shows it does not matter. A refused login stamps nothing."""
        del caller
        now = self._clock()
        try:
            validated = self._tokens.validate(token, now)
            claims = validated.claims
            if claims.type != "access":
                raise Refused("not an access token")
            self._refuse_revoked(claims)
            context = await self._context(validated, await self._look_up([claims]), token_digest(token))
        except (Refused, ScopesRefused) as refusal:
            digest = token_digest(token)[:12] if len(token) < 1 << 16 else ""
            log.info("auth.token_refused", reason=str(refusal), digest=digest)
            return None
        if self._last_seen is not None:
            self._last_seen.saw(claims.dev, now)
        return context

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        """Look all of them up in one go."""
        claims = [one.grounds.claims for one in contexts if isinstance(one.grounds, KoraGrounds)]
        found = await self._look_up(claims) if claims else None
        return [await self._standing(one, found) for one in contexts]

    async def _standing(self, context: AuthContext, found: _Found | None) -> Standing:
        grounds = context.grounds
        if not isinstance(grounds, KoraGrounds) or not self._tokens.still_verify(grounds.key_digest):
            return ANEW
        try:
            self._refuse_revoked(grounds.claims)
            return await self._context(Validated(grounds.claims, grounds.key_digest), found, context.token_digest or "")
        except Refused as refusal:
            log.info("auth.session_refused", reason=refusal.reason, user=context.user_id)
            return None
        except ScopesRefused:
            return ANEW

    def tend(self) -> None:
        """Write the stamps that wait."""
        if self._last_seen is not None:
            self._last_seen.write(self._clock())

    def close(self) -> None:
        """Write the last stamps and give up the connections."""
        self.tend()
        if self._users is not None:
            self._users.close()

    def _refuse_revoked(self, claims: KoraClaims) -> None:
        if self._revoked is not None and self._revoked.revokes(claims.jti, claims.dev):
            raise Refused("revoked")

    async def _look_up(self, claims: Sequence[KoraClaims]) -> _Found | None:
        if self._users is None:
            return None
        users = self._users
        user_ids = list(dict.fromkeys(one.sub for one in claims))
        device_ids = list(dict.fromkeys(one.dev for one in claims)) if self._check_device else []
        try:
            found, revoked = await self._calls.blocking(lambda: users.look_up(user_ids, device_ids), LOOK_UP_TIMEOUT_S)
        except StoreError as error:
            raise AuthUnavailable(f"The user database does not answer: {error}") from error
        return found, frozenset(revoked)

    async def _context(self, validated: Validated, found: _Found | None, digest: str) -> AuthContext:
        claims = validated.claims
        if not claims.sub:
            raise Refused("no user id")
        metadata: dict[str, Any] = {"deviceId": claims.dev}
        seen: dict[str, Any] = claims.as_claims()
        if found is not None:
            users, revoked = found
            if claims.sub not in users:
                raise Refused("no such user")
            if claims.dev in revoked:
                raise Refused("the device is revoked")
            email, name = users[claims.sub]
            seen["user"] = {"email": email, "name": name}
            metadata |= seen["user"]
        return AuthContext(
            claims.sub,
            await self._scoping.scopes(claims.sub, seen),
            metadata,
            device_id=claims.dev,
            expires_at=claims.exp,
            token_digest=digest,
            grounds=KoraGrounds(claims, validated.key_digest),
        )


_Found = tuple[Mapping[str, _User], frozenset[str]]


def _scoping(scopes: Scoping | ScopeHook | None) -> Scoping:
    if scopes is None:
        return Unrestricted()
    if hasattr(scopes, "is_unrestricted"):
        return scopes  # type: ignore[return-value]  # a Scoping has it, a function does not
    return HookScoping(scopes)
