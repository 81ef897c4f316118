"""Tokens that an issuer of JWTs makes, and its key sets."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from kora_daemon.auth.keys import Key, key_set

NOW = 1_760_000_000.0
SECRET = "public-vector-secret-0123456789-abcdef"

_MAKERS: dict[str, Any] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
_WRITERS: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "ES384": ECAlgorithm, "EdDSA": OKPAlgorithm}


@cache
def private_key(algorithm: str, kid: str) -> Any:
    """The private key of this name; the same in every call."""
    del kid
    return _MAKERS[algorithm]()


def pem(algorithm: str, kid: str = "k1") -> bytes:
    found: bytes = (
        private_key(algorithm, kid).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return found


def public_jwk(algorithm: str, kid: str | None = "k1", **members: Any) -> dict[str, Any]:
    """The public half as a JWK."""
    made: dict[str, Any] = json.loads(_WRITERS[algorithm].to_jwk(private_key(algorithm, kid or "k1").public_key()))
    made.pop("key_ops", None)
    return made | ({} if kid is None else {"kid": kid}) | members


def jwks(*members: dict[str, Any]) -> bytes:
    return json.dumps({"keys": members}).encode()


def keys(*members: dict[str, Any]) -> list[Key]:
    return key_set(jwks(*members))


def token(algorithm: str = "ES256", kid: str | None = "k1", *, signed_by: str | None = None, **claims: Any) -> str:
    """A token that is good at NOW, unless its claims say otherwise."""
    headers = {} if kid is None else {"kid": kid}
    content = {"sub": "ali", "exp": int(NOW) + 600} | claims
    content = {name: value for name, value in content.items() if value is not ...}
    key = SECRET if algorithm.startswith("HS") else private_key(algorithm, signed_by or kid or "k1")
    return jwt.encode(content, key, algorithm, headers)
