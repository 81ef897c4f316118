"""Tokens of `@korajs/auth` (auth.md section 2): compact JWS with HMAC-SHA-256, and nothing else.

Some lines of `hmac` instead of a library, since this contract is about texts: the header is compared as text, and so
is the signature.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import uuid
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from kora_daemon.auth.jws import Refused, decode_object, encode_object, encode_segment, is_number, split_token
from kora_daemon.model.jsvalue import has_lone_surrogate

HEADER: Final = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
"""`{"alg":"HS256","typ":"JWT"}`, the one header there is."""
TOLERANCE_S: Final = 5
LEAST_SECRET_LENGTH: Final = 32
"""UTF-16 code units, which is what JavaScript calls length."""
TYPES: Final = ("access", "refresh", "device_credential")
LIFETIMES_S: Final = {"access": 15 * 60, "refresh": 90 * 86_400, "device_credential": 90 * 86_400}


class KoraClaims(Struct, frozen=True):
    """The six claims that count; whatever else is in a token does not."""

    jti: str
    sub: str
    dev: str
    type: str
    iat: float
    exp: float

    def as_claims(self) -> dict[str, Any]:
        """By name, as templates see them."""
        return {
            "jti": self.jti, "sub": self.sub, "dev": self.dev, "type": self.type, "iat": self.iat, "exp": self.exp,
        }  # fmt: skip


class Validated(Struct, frozen=True):
    """A good token: what it says, and the digest of the secret that it was signed with."""

    claims: KoraClaims
    key_digest: str


def secret_problem(secrets: Sequence[str]) -> str | None:
    """Why these can't be the secrets, None when they can. Never quotes one."""
    if not secrets:
        return "there is no secret"
    for index, secret in enumerate(secrets):
        if len(secret.encode("utf-16-le", "surrogatepass")) < 2 * LEAST_SECRET_LENGTH:
            return f"secret {index + 1} has fewer than {LEAST_SECRET_LENGTH} characters"
    return None


class KoraTokens:
    """Reads and writes tokens. The first secret signs, all verify. A secret is text, also one that looks like hex."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if problem := secret_problem(secrets):
            raise ValueError(problem)
        self._keys = [secret.encode("utf-8", "surrogatepass") for secret in secrets]
        self._digests = [hashlib.sha256(b"kora secret" + key).hexdigest() for key in self._keys]

    def validate(self, token: str, now: float) -> Validated:
        """Judge a token at a time in seconds since the epoch. Raises Refused.

        The order is part of the contract: a forged token is never called expired.
        """
        segments = split_token(token)
        if segments.header != HEADER:
            raise Refused("header")
        key_digest = self._signer(segments.signed, segments.signature)
        if key_digest is None:
            raise Refused("signature")
        try:
            payload = decode_object(segments.payload)
        except ValueError:
            raise Refused("payload") from None
        return Validated(_claims(payload, now), key_digest)

    def still_verify(self, key_digest: str) -> bool:
        """Whether the secret of this digest is one of these."""
        return key_digest in self._digests

    def encode(self, payload: dict[str, Any]) -> str:
        """The token with this payload, its keys in this order."""
        signed = f"{HEADER}.{encode_object(payload)}"
        return f"{signed}.{_signature(self._keys[0], signed.encode())}"

    def issue(self, user_id: str, device_id: str, kind: str, now: float, lifetime_s: float) -> str:
        """A new token, as the TypeScript server writes one."""
        issued = math.floor(now)
        return self.encode(
            {
                "jti": str(uuid.uuid4()),
                "sub": user_id,
                "dev": device_id,
                "type": kind,
                "iat": issued,
                "exp": issued + math.floor(lifetime_s),
            }
        )

    def _signer(self, signed: bytes, signature: str) -> str | None:
        given = signature.encode("utf-8", "surrogatepass")
        found: str | None = None
        for key, digest in zip(self._keys, self._digests, strict=True):
            if hmac.compare_digest(_signature(key, signed).encode(), given):
                found = digest
        return found


def _signature(key: bytes, signed: bytes) -> str:
    return encode_segment(hmac.digest(key, signed, hashlib.sha256))


def _claims(payload: dict[str, Any], now: float) -> KoraClaims:
    exp, iat = payload.get("exp"), payload.get("iat")
    if is_number(exp) and math.floor(now) >= exp + TOLERANCE_S:
        raise Refused("expired")
    jti, sub, dev, kind = (payload.get(name) for name in ("jti", "sub", "dev", "type"))
    texts = isinstance(jti, str) and isinstance(sub, str) and isinstance(dev, str) and isinstance(kind, str)
    if not texts or not is_number(exp) or not is_number(iat) or has_lone_surrogate(f"{sub}{dev}"):
        raise Refused("claims")
    if kind not in TYPES:
        raise Refused("type")
    return KoraClaims(str(jti), str(sub), str(dev), str(kind), iat, exp)
