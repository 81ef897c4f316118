"""Keys that verify the signatures of other people's tokens: JWK, PEM and shared secrets."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import InvalidVersion, load_pem_x509_certificate
from jwt import get_algorithm_by_name
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError
from msgspec import Struct

from kora_daemon.auth.jws import decode_segment

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

LEAST_RSA_BITS: Final = 2048
LEAST_SECRET_BYTES: Final = 32
MAX_KEYS: Final = 100
"""A key set with more is somebody's mistake or attack: a token without kid is tried against all of them."""

_HASHES: Final = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_PUBLIC_MEMBERS: Final = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}

log = structlog.get_logger("kora.auth")


class BadKey(ValueError):
    """Something that is no key for signatures. The text never quotes it."""


class Key(Struct, frozen=True, eq=False):
    """A key: for which algorithms, under which name, and the digest by which it is known."""

    algorithms: tuple[str, ...]
    digest: str
    material: bytes | PublicKey
    kid: str | None = None

    def __repr__(self) -> str:
        return f"<Key {self.kid!r} for {', '.join(self.algorithms)}>"

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether this key signed these bytes with this algorithm."""
        if algorithm not in self.algorithms:
            return False
        if isinstance(self.material, bytes):
            return hmac.compare_digest(hmac.digest(self.material, signed, _HASHES[algorithm]), signature)
        try:
            return bool(get_algorithm_by_name(algorithm).verify(signed, self.material, signature))
        except (ValueError, TypeError):
            return False

    def sign(self, algorithm: str, signed: bytes) -> bytes:
        """The signature of a shared secret. Raises BadKey for any other key: this server issues nothing with those."""
        if not isinstance(self.material, bytes):
            raise BadKey("a public key signs nothing")
        return hmac.digest(self.material, signed, _HASHES[algorithm])


def secret_key(secret: bytes) -> Key:
    """A shared secret, for HS*. Raises BadKey."""
    if len(secret) < LEAST_SECRET_BYTES:
        raise BadKey(f"the secret has fewer than {LEAST_SECRET_BYTES} bytes")
    return Key(tuple(_HASHES), hashlib.sha256(b"jwt secret" + secret).hexdigest(), secret)


def pem_key(content: bytes) -> Key:
    """The public key or the certificate in a PEM file. Raises BadKey."""
    if b"PRIVATE KEY" in content:
        raise BadKey("it is a private key, expected the public one: this server only verifies")
    try:
        if b"BEGIN CERTIFICATE" in content:
            return _public_key(load_pem_x509_certificate(content).public_key())
        return _public_key(load_pem_public_key(content))
    except BadKey:
        raise
    except (ValueError, TypeError, InvalidVersion, UnsupportedAlgorithm):
        raise BadKey('it is no public key in PEM ("-----BEGIN PUBLIC KEY-----") and no certificate') from None


def key_set(content: bytes) -> list[Key]:
    """The keys of a JSON Web Key Set that can verify signatures; others are passed over. Raises BadKey.

    An empty list is a key set, too: nobody gets in by it.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise BadKey("it is no JSON") from None
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or not all(isinstance(one, dict) for one in members):
        raise BadKey('it is no key set, expected an object with a list "keys"')
    if len(members) > MAX_KEYS:
        raise BadKey(f"it has {len(members)} keys, expected at most {MAX_KEYS}")
    return list(_usable(members))


def _usable(members: Iterable[Mapping[str, Any]]) -> Iterable[Key]:
    for index, member in enumerate(members):
        try:
            key = jwk(member)
        except BadKey as error:
            log.warning("auth.key_unusable", index=index, kty=str(member.get("kty"))[:16], problem=str(error))
        else:
            if key is not None:
                yield key


def jwk(member: Mapping[str, Any]) -> Key | None:
    """A JSON Web Key; None for one that is not for signatures. Raises BadKey."""
    operations = member.get("key_ops")
    if member.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    kid, algorithm = member.get("kid"), member.get("alg")
    if not isinstance(kid, str | None) or not isinstance(algorithm, str | None):
        raise BadKey("kid and alg must be texts")
    key = _jwk_material(member)
    algorithms = key.algorithms if algorithm is None else tuple(one for one in key.algorithms if one == algorithm)
    return Key(algorithms, key.digest, key.material, kid)


def _jwk_material(member: Mapping[str, Any]) -> Key:
    kty = member.get("kty")
    if kty == "oct":
        return secret_key(_secret_of(member))
    if not isinstance(kty, str) or kty not in _PUBLIC_MEMBERS:
        raise BadKey("its kty is not RSA, EC, OKP or oct")
    # The private half of a key has no business here, so it is not even looked at.
    public = {name: member[name] for name in _PUBLIC_MEMBERS[kty] if name in member}
    readers: dict[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
    try:
        return _public_key(readers[kty].from_jwk(public))
    except BadKey:
        raise
    except (InvalidKeyError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        raise BadKey("its numbers make no key") from None


def _secret_of(member: Mapping[str, Any]) -> bytes:
    value = member.get("k")
    if not isinstance(value, str):
        raise BadKey("it has no k")
    try:
        return decode_segment(value)
    except ValueError:
        raise BadKey("its k is not base64url") from None


def _public_key(material: object) -> Key:
    if isinstance(material, rsa.RSAPublicKey):
        if material.key_size < LEAST_RSA_BITS:
            raise BadKey(f"its RSA key has {material.key_size} bits, expected {LEAST_RSA_BITS} or more")
        return Key(_RSA, _digest(material), material)
    if isinstance(material, ec.EllipticCurvePublicKey):
        if material.curve.name not in _CURVES:
            raise BadKey("its curve is not P-256, P-384 or P-521")
        return Key((_CURVES[material.curve.name],), _digest(material), material)
    if isinstance(material, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return Key(("EdDSA",), _digest(material), material)
    raise BadKey("it is not for RS*, PS*, ES* or EdDSA signatures")


def _digest(material: PublicKey) -> str:
    return hashlib.sha256(material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
