"""Tokens that somebody else issues (auth.md section 6, `[auth.jwt]`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from kora_daemon.auth.claims import ClaimPath, claim_at
from kora_daemon.auth.jws import Refused, Segments, decode_object, decode_segment, is_number, split_token
from kora_daemon.auth.keys import Key
from kora_daemon.model.jsvalue import has_lone_surrogate


class JwtRules(Struct, frozen=True):
    """What a token must fulfil. `issuers` and `audiences` None = not looked at."""

    algorithms: tuple[str, ...]
    issuers: tuple[str, ...] | None = None
    audiences: tuple[str, ...] | None = None
    leeway_s: float = 5.0
    require_exp: bool = True
    user_claim: ClaimPath = ("sub",)


class Header(Struct, frozen=True):
    """What a token says about its signature. An embedded `jwk`, `jku` or `x5u` is not even read."""

    algorithm: str
    kid: str | None


class VerifiedToken(Struct, frozen=True):
    """A good token."""

    user_id: str
    claims: dict[str, Any]
    expires_at: float | None
    key_digest: str


def read_header(segments: Segments, rules: JwtRules) -> Header:
    """The header of a token with an algorithm that is allowed. Raises Refused."""
    try:
        header = decode_object(segments.header)
    except ValueError:
        raise Refused("malformed") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in rules.algorithms or algorithm.lower() == "none":
        raise Refused("algorithm")
    if "crit" in header or not isinstance(kid, str | None):
        raise Refused("header")
    return Header(algorithm, kid)


def candidates(header: Header, keys: Sequence[Key]) -> list[Key]:
    """The keys that may have signed: by kid, where both have one."""
    return [key for key in keys if header.kid is None or key.kid is None or key.kid == header.kid]


def is_known(header: Header, keys: Sequence[Key]) -> bool:
    """Whether there is a key of just this name."""
    return header.kid is not None and any(key.kid == header.kid for key in keys)


def signer(segments: Segments, header: Header, keys: Sequence[Key]) -> Key | None:
    """The key that signed, None if none of these did."""
    try:
        signature = decode_segment(segments.signature)
    except ValueError:
        return None
    for key in candidates(header, keys):
        if key.verifies(header.algorithm, segments.signed, signature):
            return key
    return None


def verify(token: str, rules: JwtRules, keys: Sequence[Key], now: float) -> VerifiedToken:
    """Judge a token at a time in seconds since the epoch, by these keys. Raises Refused.

    The order is part of the contract: nothing is said about the claims of a token with a bad signature.
    """
    segments = split_token(token)
    header = read_header(segments, rules)
    if not candidates(header, keys):
        raise Refused("key")
    key = signer(segments, header, keys)
    if key is None:
        raise Refused("signature")
    return read_claims(segments, rules, key, now)


def read_claims(segments: Segments, rules: JwtRules, key: Key, now: float) -> VerifiedToken:
    """The claims of a token whose signature is good. Raises Refused."""
    try:
        claims = decode_object(segments.payload)
    except ValueError:
        raise Refused("payload") from None
    _check_times(claims, rules, now)
    return VerifiedToken(read_user(claims, rules), claims, claims.get("exp"), key.digest)


def read_user(claims: dict[str, Any], rules: JwtRules) -> str:
    """Whose claims these are, from the right issuer and for us. Raises Refused."""
    if rules.issuers is not None and claims.get("iss") not in rules.issuers:
        raise Refused("issuer")
    if rules.audiences is not None and not _is_for(claims.get("aud"), rules.audiences):
        raise Refused("audience")
    user_id = claim_at(claims, rules.user_claim)
    if not isinstance(user_id, str) or not user_id or has_lone_surrogate(user_id):
        raise Refused("user")
    return user_id


def _check_times(claims: dict[str, Any], rules: JwtRules, now: float) -> None:
    exp, nbf = claims.get("exp"), claims.get("nbf")
    if not is_number(exp) and ("exp" in claims or rules.require_exp):
        raise Refused("claims")
    if exp is not None and now >= exp + rules.leeway_s:
        raise Refused("expired")
    if "nbf" in claims and not is_number(nbf):
        raise Refused("claims")
    if nbf is not None and nbf > now + rules.leeway_s:
        raise Refused("not_yet")


def _is_for(audience: object, wanted: Sequence[str]) -> bool:
    named = audience if isinstance(audience, list) else [audience]
    return any(isinstance(one, str) and one in wanted for one in named)
