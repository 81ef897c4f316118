"""Tokens, key sets and what hooks answer: who somebody is, and what they may see."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from random import Random

import msgspec

from kora_daemon.auth.answers import read_answer
from kora_daemon.auth.claims import BadPath, parse_path
from kora_daemon.auth.jws import Refused, decode_segment, encode_segment
from kora_daemon.auth.jwt import JwtRules, verify
from kora_daemon.auth.keys import BadKey, key_set, pem_key, secret_key
from kora_daemon.auth.kora_tokens import HEADER, KoraTokens
from kora_daemon.auth.templates import BadTemplate, ScopesRefused, parse_table
from kora_daemon.errors import AuthUnavailable
from kora_daemon.http.sign_in import COOKIE, cookie_value, is_signed_in
from kora_daemon.materialization.blobs import blob_hashes, listed_parts
from kora_daemon.protocol.delta import decode_cursor
from kora_daemon.server.cursors import read_presence
from tests.fuzz.mutation import Mutator, mutated_bytes, mutated_json
from tests.fuzz.seeds import DATA, objects_in, vector
from tests.fuzz.target import Disagreement, Target

SECRET = "a secret that is long enough for everybody"
NOW = 1_795_000_000.0
_KEYS = [secret_key(SECRET.encode())]
_TOKENS = KoraTokens([SECRET])
_COOKIE = cookie_value(SECRET, NOW + 60)
_RULES = [
    JwtRules(("HS256", "HS512")),
    JwtRules(("HS256",), ("https://issuer",), ("kora",), 0.0, False, ("user", "id")),
]
_TABLE = parse_table({"todos": {"owner": "{sub}", "team": "{org/id?}", "path": "t/{tenant?}"}, "notes": {}})


def run_tokens(data: bytes) -> None:
    """A token as a client shows it: refused, or somebody whose name everybody can write down."""
    token = data.decode("utf-8", "surrogateescape")
    for rules in _RULES:
        with suppress(Refused):
            verified = verify(token, rules, _KEYS, NOW)
            verified.user_id.encode()
            with suppress(ScopesRefused):
                msgspec.json.encode(_TABLE.scopes(verified.claims))
    with suppress(Refused):
        claims = _TOKENS.validate(token, NOW).claims
        f"{claims.sub}{claims.dev}".encode()
    cookie = data.decode("latin-1")  # as headers are
    if is_signed_in(SECRET, "GET", f"{COOKIE}={cookie}", NOW) and _COOKIE not in cookie:
        raise Disagreement("a cookie that nobody has signed")


@cache
def _seeds_of_tokens() -> list[bytes]:
    payloads = [
        {"sub": "ann", "exp": 1_900_000_000, "tenant": "t", "org": {"id": 7}},
        {"user": {"id": "ann"}, "iss": "https://issuer", "aud": ["kora"], "nbf": 1, "exp": 1_900_000_000},
        {"jti": "j", "sub": "ann", "dev": "d", "type": "access", "iat": 1, "exp": 1_900_000_000},
    ]
    made = [_signed(HEADER, json.dumps(one).encode()) for one in payloads]
    vectors = [case["token"] for case in objects_in(vector("auth-tokens")) if isinstance(case.get("token"), str)]
    return [*made, _COOKIE.encode(), *(one.encode("utf-8", "replace") for one in vectors)]


def _signed(header: str, payload: bytes) -> bytes:
    signed = f"{header}.{encode_segment(payload)}"
    return f"{signed}.{encode_segment(_KEYS[0].sign('HS256', signed.encode()))}".encode()


def _mutated_token(data: bytes, random: Random) -> bytes:
    """Mostly with a good signature: what is behind it shall be reached."""
    if random.random() < 0.2:
        return mutated_bytes(data, random, [b".", b"=", b"-", b"_", b"eyJ"])
    try:
        header, payload, _ = data.decode("ascii").split(".")
        changed = mutated_json(decode_segment(payload), random)
        if random.random() < 0.2:
            header = encode_segment(mutated_json(decode_segment(header), random))
    except ValueError:
        return mutated_bytes(data, random)
    return _signed(header, changed)


def run_keys(data: bytes) -> None:
    """A key set as an issuer serves it, or a PEM file."""
    for read in (key_set, pem_key):
        with suppress(BadKey):
            read(data)


@cache
def _seeds_of_keys() -> list[bytes]:
    sets = [case for case in objects_in(vector("auth-jwt")) if isinstance(case.get("keys"), list)]
    secret = {"kty": "oct", "k": encode_segment(SECRET.encode()), "kid": "a", "alg": "HS256"}
    plain = [{"keys": [secret, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}, {"keys": [{"kty": "EC", "crv": "P-256"}]}]
    pems = [path.read_bytes() for path in (DATA.parents[1] / "unit" / "data" / "tls").glob("*.pem")]
    return [json.dumps(one).encode() for one in [*plain, *sets]] + pems


def run_answers(data: bytes) -> None:
    """What a hook answers, read as JSON, and scope tables as they stand in a file."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return
    with suppress(AuthUnavailable):
        context = read_answer(answer)
        if context is not None:
            context.user_id.encode()
            msgspec.json.encode(context.scopes)
    if isinstance(answer, dict):
        claims = answer.get("metadata") if isinstance(answer.get("metadata"), dict) else answer
        with suppress(ScopesRefused):
            msgspec.json.encode(_TABLE.scopes(claims))
        tables = {str(k): v for k, v in answer.items() if isinstance(v, dict)}
        with suppress(BadTemplate, ScopesRefused):
            parse_table(tables).scopes({"sub": "ann"})
    with suppress(BadPath):
        parse_path(data.decode("utf-8", "replace"))


def _seeds_of_answers() -> list[bytes]:
    return [
        b'{"userId":"ann","scopes":{"todos":{"owner":"ann"}},"metadata":{"sub":"x","tenant":"t"},"expiresAt":1.5}',
        b'{"userId":"ann","scopes":null}',
        b'{"todos":{"owner":"{sub}","path":"a/{org/name?}/{/a~1b}"},"sub":"ann","tenant":7}',
        b"null",
        b"/a~0b/c",
        b"a.b.c",
    ]


def run_small(data: bytes) -> None:
    """The small texts inside of messages: cursors, presence, manifests of blobs."""
    for part in listed_parts(data):
        bytes.fromhex(part)
    with suppress(UnicodeDecodeError):  # the codec has seen to that
        data.decode()
        read_presence(msgspec.Raw(data))
    decode_cursor(data.decode("utf-8", "replace"))
    decode_cursor(encode_segment(data))
    with suppress(ValueError, RecursionError):
        list(blob_hashes(json.loads(data)))


def _seeds_of_small() -> list[bytes]:
    manifest = {"chunkHashes": ["0" * 64, "1" * 64], "size": 5}
    reference = {"hash": "0" * 64, "manifestHash": "1" * 64, "size": 3, "mimeType": "a/b"}
    return [
        b'{"user":{"name":"a"},"cursor":{"collection":"todos","recordId":"r","field":"f","anchor":1,"head":2}}',
        b'{"lastOperationId":"op","batchIndex":1}',
        json.dumps(manifest).encode(),
        json.dumps(reference).encode(),
    ]


_JSON_OR_BYTES: Mutator = mutated_json

TARGETS = [
    Target("tokens", run_tokens, _seeds_of_tokens, _mutated_token, share=9),
    Target("keys", run_keys, _seeds_of_keys, _JSON_OR_BYTES, share=4),
    Target("answers", run_answers, _seeds_of_answers, _JSON_OR_BYTES, share=4),
    Target("small", run_small, _seeds_of_small, _JSON_OR_BYTES, share=2),
]
