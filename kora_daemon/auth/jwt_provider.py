"""Kind `token` with JWTs of somebody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from kora_daemon.auth.claims import MISSING, ClaimPath, claim_at
from kora_daemon.auth.contract import (
    ANEW,
    MAX_TOKEN_LENGTH,
    AuthContext,
    Caller,
    Grounds,
    Standing,
    token_digest,
)
from kora_daemon.auth.jws import Refused, split_token
from kora_daemon.auth.jwt import (
    JwtRules,
    VerifiedToken,
    candidates,
    is_known,
    read_claims,
    read_header,
    read_user,
    signer,
)
from kora_daemon.auth.key_sets import KeySource, Missing
from kora_daemon.auth.keys import Key
from kora_daemon.auth.provider import ScopingProvider
from kora_daemon.auth.scoping import Scoping
from kora_daemon.auth.templates import ScopesRefused
from kora_daemon.auth.verdicts import ACCEPTED_FOR_S, Verdicts
from kora_daemon.errors import AuthUnavailable

log = structlog.get_logger("kora.auth")

FETCH_TIMEOUT_S = 8.0
"""For a login that waits for a key set."""


class JwtGrounds(Grounds):
    """What a token said, and which key signed it."""

    __slots__ = ("claims", "key_digest")

    def __init__(self, claims: dict[str, Any], key_digest: str) -> None:
        self.claims = claims
        self.key_digest = key_digest


class JwtProvider(ScopingProvider):
    """Verifies signatures on the spot, and waits only for keys. `metadata` maps names to the claims that are kept."""

    def __init__(
        self,
        rules: JwtRules,
        source: KeySource,
        scoping: Scoping,
        metadata: dict[str, ClaimPath] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(scoping, clock)
        self._rules = rules
        self._source = source
        self._metadata = metadata or {}
        self._verified: Verdicts[VerifiedToken] = Verdicts()

    async def judge(self, token: str, caller: Caller) -> AuthContext | None:
        """The context behind a token; who shows it does not matter."""
        del caller
        if len(token) > MAX_TOKEN_LENGTH:
            log.info("auth.token_refused", reason="too long")
            return None
        digest = token_digest(token)
        try:
            verified = await self._verified_token(token, digest)
            return await self._context(verified, digest)
        except (Refused, ScopesRefused) as refusal:
            log.info("auth.token_refused", reason=str(refusal), digest=digest[:12])
            return None

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        """Judge the claims again by the rules and scopes of now; whose key is gone has to show a token anew."""
        keys = {key.digest for key in self._source.current()}
        return [await self._standing(one, keys) for one in contexts]

    async def _standing(self, context: AuthContext, keys: set[str]) -> Standing:
        grounds = context.grounds
        if not isinstance(grounds, JwtGrounds) or grounds.key_digest not in keys or context.token_digest is None:
            return ANEW
        try:
            user_id = read_user(grounds.claims, self._rules)
            if user_id != context.user_id:
                return ANEW
            verified = VerifiedToken(user_id, grounds.claims, context.expires_at, grounds.key_digest)
            return await self._context(verified, context.token_digest)
        except (Refused, ScopesRefused):
            return ANEW

    def tend(self) -> None:
        """Fetch the keys again in good time."""
        if self._source.is_due():
            try:
                self._source.refresh()
            except AuthUnavailable as error:
                log.warning("auth.keys_unavailable", problem=str(error))

    def close(self) -> None:
        """There is nothing to let go of."""

    async def _verified_token(self, token: str, digest: str) -> VerifiedToken:
        now = self._clock()
        keys = await self._keys()
        verified = self._verified.get(digest, now)
        if verified is not None and any(key.digest == verified.key_digest for key in keys):
            return verified
        segments = split_token(token)
        header = read_header(segments, self._rules)
        key = signer(segments, header, keys)
        if key is None and not is_known(header, keys):
            keys = await self._newer_keys(header.kid) or keys
            key = signer(segments, header, keys)
        if key is None:
            raise Refused("signature" if candidates(header, keys) else "key")
        verified = read_claims(segments, self._rules, key, now)
        until = now + ACCEPTED_FOR_S
        if verified.expires_at is not None:
            until = min(until, verified.expires_at + self._rules.leeway_s)
        self._verified.put(digest, verified, until)
        return verified

    async def _keys(self) -> Sequence[Key]:
        if self._source.is_due():
            # Old keys are good enough; without any, the next line says so.
            with suppress(AuthUnavailable):
                await self._calls.blocking(self._source.refresh, FETCH_TIMEOUT_S)
        return self._source.current()

    async def _newer_keys(self, kid: str | None) -> Sequence[Key] | None:
        verdict = self._source.missing(kid)
        if verdict is Missing.WAIT:
            raise AuthUnavailable("The token's key is not known, and it is too early to ask for keys again")
        if verdict is Missing.REFUSE:
            return None
        await self._calls.blocking(self._source.refresh, FETCH_TIMEOUT_S)
        return self._source.current()

    async def _context(self, verified: VerifiedToken, digest: str) -> AuthContext:
        return AuthContext(
            verified.user_id,
            await self._scoping.scopes(verified.user_id, verified.claims),
            self._kept(verified.claims),
            expires_at=verified.expires_at,
            token_digest=digest,
            grounds=JwtGrounds(verified.claims, verified.key_digest),
        )

    def _kept(self, claims: dict[str, Any]) -> dict[str, Any] | None:
        found = {name: claim_at(claims, path) for name, path in self._metadata.items()}
        return {name: value for name, value in found.items() if value is not MISSING} if self._metadata else None
