"""Keys of other issuers: which count, and how a key set behind a URL is kept fresh."""

from __future__ import annotations

import json
from threading import Event, Thread

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kora_daemon.auth.jws import encode_segment
from kora_daemon.auth.key_sets import FetchedKeys, FixedKeys, Missing
from kora_daemon.auth.keys import BadKey, key_set, pem_key, secret_key
from kora_daemon.errors import AuthUnavailable
from tests.support.tokens import jwks, pem, private_key, public_jwk


class Issuer:
    """An issuer's key set, a clock, and how often it was asked for."""

    def __init__(self, *names: str) -> None:
        self.now = 1000.0
        self.asked = 0
        self.fails: str | None = None
        self.publish(*names)
        self.keys = FetchedKeys(self.fetch, lambda: self.now)

    def publish(self, *names: str) -> None:
        self.content = jwks(*(public_jwk("ES256", name) for name in names))

    def fetch(self) -> bytes:
        self.asked += 1
        if self.fails is not None:
            raise AuthUnavailable(self.fails)
        return self.content

    def known(self) -> list[str | None]:
        return sorted(str(key.kid) for key in self.keys.current())


def test_before_the_first_fetch_nobody_can_be_judged() -> None:
    issuer = Issuer("a")
    with pytest.raises(AuthUnavailable):
        issuer.keys.current()
    assert issuer.keys.is_due()
    issuer.keys.refresh()
    assert issuer.known() == ["a"]
    assert not issuer.keys.is_due()


def test_whoever_comes_during_the_first_fetch_waits_for_it() -> None:
    issuer = Issuer("a")
    began, end = Event(), Event()
    waiting: list[Thread] = []

    def fetch() -> bytes:
        began.set()
        assert end.wait(10)
        return issuer.content

    keys = FetchedKeys(fetch, lambda: issuer.now)
    for _ in range(3):
        waiting.append(Thread(target=keys.refresh))
        waiting[-1].start()
    assert began.wait(10)
    assert keys.is_due()
    end.set()
    for one in waiting:
        one.join(10)
    assert [key.kid for key in keys.current()] == ["a"]
    assert not keys.is_due()


def test_an_unknown_kid_makes_for_one_fetch_a_minute() -> None:
    issuer = Issuer("a")
    issuer.keys.refresh()
    issuer.publish("a", "b")
    # Nobody knows yet whether b is a new key: to call its token bad would sign people out.
    assert issuer.keys.missing("b") is Missing.WAIT
    issuer.keys.refresh()
    assert issuer.asked == 1
    issuer.now += 60
    assert issuer.keys.missing("b") is Missing.FETCH
    issuer.keys.refresh()
    assert (issuer.known(), issuer.asked) == (["a", "b"], 2)


def test_a_kid_that_a_fetch_has_not_found_is_refused_until_the_next_may_be_made() -> None:
    issuer = Issuer("a")
    issuer.keys.refresh()
    issuer.now += 61
    assert issuer.keys.missing("x") is Missing.FETCH
    issuer.keys.refresh()
    assert issuer.keys.missing("x") is Missing.REFUSE
    assert issuer.keys.missing("y") is Missing.WAIT
    issuer.now += 61
    assert issuer.keys.missing("x") is Missing.FETCH


def test_any_number_of_made_up_kids_is_remembered_in_little_room() -> None:
    issuer = Issuer("a")
    issuer.keys.refresh()
    for number in range(5000):
        issuer.keys.missing(f"made-up-{number}")
    assert len(issuer.keys._asked) <= 1000
    assert issuer.asked == 1


def test_a_key_that_has_left_the_set_counts_for_a_short_while() -> None:
    issuer = Issuer("a", "b")
    issuer.keys.refresh()
    issuer.publish("b")
    issuer.now += 600
    issuer.keys.refresh()
    assert issuer.known() == ["a", "b"]
    issuer.now += 301
    assert issuer.known() == ["b"]
    issuer.now += 300
    issuer.keys.refresh()
    assert len(issuer.keys._known) == 1


def test_a_key_that_comes_back_stays() -> None:
    issuer = Issuer("a")
    issuer.keys.refresh()
    for names in (("b",), ("a", "b")):
        issuer.publish(*names)
        issuer.now += 100
        issuer.keys.refresh()
    issuer.now += 400
    assert issuer.known() == ["a", "b"]


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"keys": 1}', b'{"keys": [1]}', b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_key_set_leaves_the_old_one(content: bytes) -> None:
    issuer = Issuer("a")
    issuer.keys.refresh()
    issuer.content = content
    issuer.now += 700
    with pytest.raises(AuthUnavailable):
        issuer.keys.refresh()
    assert issuer.known() == ["a"]
    issuer.now += 4
    assert not issuer.keys.is_due()
    issuer.now += 1
    assert issuer.keys.is_due()


def test_a_set_that_could_not_be_fetched_for_a_day_proves_nothing() -> None:
    issuer = Issuer("a")
    issuer.keys.refresh()
    issuer.now += 86_401
    with pytest.raises(AuthUnavailable):
        issuer.keys.current()


def test_fixed_keys_are_all_there_is() -> None:
    keys = FixedKeys(key_set(jwks(public_jwk("ES256", "a"))))
    assert keys.missing("b") is Missing.REFUSE
    assert not keys.is_due()


def test_keys_that_are_of_no_use_are_passed_over() -> None:
    small = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    odd = public_jwk("ES256", "odd-curve", crv="secp256k1")
    found = key_set(
        jwks(
            public_jwk("RS256", "good"),
            public_jwk("RS256", "for-encryption", use="enc"),
            public_jwk("RS256", "only-signs", key_ops=["sign"]),
            public_jwk("RS256", "verifies", key_ops=["verify"]),
            public_jwk("RS256", "other-algorithm", alg="RSA-OAEP"),
            public_jwk("ES256", "broken", x="AAAA"),
            public_jwk("ES256", "no-text", x=5),
            {"kty": "RSA", "kid": "small", "n": _number(small.n), "e": "AQAB"},
            {"kty": "oct", "kid": "short", "k": "c2hvcnQ"},
            {"kty": "oct", "kid": "none"},
            {"kty": "weird"},
            {},
            odd,
            public_jwk("ES256", "k1") | {"kid": 7},
        )
    )
    assert [(key.kid, bool(key.algorithms)) for key in found] == [
        ("good", True),
        ("verifies", True),
        ("other-algorithm", False),
    ]


def _number(value: int) -> str:
    return encode_segment(value.to_bytes(128, "big"))


@pytest.mark.parametrize("kty", [None, 1, {}, [], "RSA"])
def test_a_key_of_whatever_type_is_passed_over(kty: object) -> None:
    assert key_set(json.dumps({"keys": [{"kty": kty, "n": {}, "e": 1}]}).encode()) == []


def test_a_set_of_more_keys_than_anybody_has_is_refused() -> None:
    with pytest.raises(BadKey):
        key_set(json.dumps({"keys": [{}] * 101}).encode())


def test_a_pem_file_holds_a_public_key_or_a_certificate(request: pytest.FixtureRequest) -> None:
    assert pem_key(pem("RS256")).algorithms == ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    assert pem_key(pem("ES384")).algorithms == ("ES384",)
    assert pem_key(pem("EdDSA")).algorithms == ("EdDSA",)
    certificate = request.config.rootpath / "tests/unit/data/tls/cert.pem"
    assert pem_key(certificate.read_bytes()).algorithms


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        private_key("ES256", "k1").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ec.generate_private_key(ec.SECP256K1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "text", "broken", "private", "odd-curve"],
)
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(BadKey):
        pem_key(content)


def test_a_shared_secret_has_32_bytes_and_is_shown_nowhere() -> None:
    with pytest.raises(BadKey):
        secret_key(b"x" * 31)
    key = secret_key(b"top-secret-" * 3)
    assert "top-secret" not in f"{key!r} {key}"
