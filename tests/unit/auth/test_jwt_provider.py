"""JWTs of somebody else: keys on demand, scopes by claims, live sessions."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kora_daemon.auth.contract import ANEW, AuthContext
from kora_daemon.auth.jws import encode_segment
from kora_daemon.auth.jwt import JwtRules
from kora_daemon.auth.jwt_provider import JwtProvider
from kora_daemon.auth.key_sets import FetchedKeys, FixedKeys
from kora_daemon.auth.keys import secret_key
from kora_daemon.auth.scoping import HookScoping, Scoping, TableScoping, Unrestricted
from kora_daemon.auth.templates import parse_grant, parse_table
from kora_daemon.errors import AuthUnavailable
from kora_daemon.server.auth_calls import AuthCalls
from tests.support.tokens import NOW, SECRET, jwks, keys, private_key, public_jwk, token

RULES = JwtRules(("ES256", "RS256", "EdDSA"))


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def provider(scoping: Scoping | None = None, *, clock: Any = None, rules: JwtRules = RULES, **more: Any) -> JwtProvider:
    source = more.pop("source", None) or FixedKeys(keys(public_jwk("ES256")))
    return JwtProvider(rules, source, scoping or Unrestricted(), clock=clock or Clock(), **more)


async def test_a_good_token_is_its_user() -> None:
    metadata = {"email": ("email",), "org": ("org", "slug"), "nothing": ("nothing",)}
    context = await provider(metadata=metadata).authenticate(token(email="a@example.org", org={"slug": "acme"}))
    assert context == AuthContext("ali", metadata={"email": "a@example.org", "org": "acme"}, expires_at=NOW + 600)
    assert context.token_digest is not None
    assert "acme" not in repr(context.grounds)


async def test_claims_become_scopes_or_nobody_gets_in() -> None:
    asked = provider(TableScoping(parse_table({"todos": {"userId": "{sub}"}, "projects": {"org": "{org?}"}})))
    context = await asked.authenticate(token())
    assert context is not None
    assert context.scopes == {"todos": {"userId": "ali"}}
    asked = provider(TableScoping(parse_table({"todos": {"org": "{org}"}})))
    assert await asked.authenticate(token()) is None


async def test_the_first_grant_that_matches_replaces_the_table() -> None:
    asked = provider(
        TableScoping(
            parse_table({"todos": {"userId": "{sub}"}}),
            [
                parse_grant({"role": "admin"}, {"todos": {}}),
                parse_grant({"role": ["viewer", "guest"], "org.id": 7}, {"todos": {"orgId": "{org.id}"}}),
                parse_grant({"level": 1}, {"levels": {}}),
            ],
        )
    )
    for claims, scopes in (
        ({"role": "admin"}, {"todos": {}}),
        ({"role": ["x", "admin"]}, {"todos": {}}),
        ({"role": "guest", "org": {"id": 7}}, {"todos": {"orgId": 7}}),
        ({"role": "guest", "org": {"id": 8}}, {"todos": {"userId": "ali"}}),
        ({"role": None}, {"todos": {"userId": "ali"}}),
        ({"level": True}, {"todos": {"userId": "ali"}}),
        ({"level": 1}, {"levels": {}}),
    ):
        context = await asked.authenticate(token(**claims))
        assert context is not None
        assert context.scopes == scopes, claims


async def test_whom_no_grant_matches_sees_nothing() -> None:
    asked = provider(TableScoping(None, [parse_grant({"role": "admin"}, {"todos": {}})], {}))
    context = await asked.authenticate(token())
    assert context is not None
    assert context.scopes == {}


async def test_scopes_may_be_somebodys_code() -> None:
    async def scopes(user_id: str, claims: Any) -> Any:
        return {"a": {"todos": {"org": claims.get("org")}}, "b": None, "c": False, "d": {"todos": []}}[user_id]

    asked = provider(HookScoping(scopes))
    asked.use(AuthCalls())
    first = await asked.authenticate(token(sub="a", org=1))
    assert first is not None
    assert first.scopes == {"todos": {"org": 1}}
    second = await asked.authenticate(token(sub="b"))
    assert second is not None
    assert second.scopes is None
    assert await asked.authenticate(token(sub="c")) is None
    for bad in ("d", "e"):
        with pytest.raises(AuthUnavailable):
            await asked.authenticate(token(sub=bad))


class Issuer:
    def __init__(self, *kids: str) -> None:
        self.kids = kids
        self.asked = 0
        self.clock = 0.0
        self.is_down = False

    def fetch(self) -> bytes:
        self.asked += 1
        if self.is_down:
            raise AuthUnavailable("down")
        return jwks(*(public_jwk("ES256", kid) for kid in self.kids))

    def provider(self) -> JwtProvider:
        made = provider(source=FetchedKeys(self.fetch, lambda: self.clock))
        made.use(AuthCalls())
        return made


async def test_a_new_key_is_fetched_when_its_first_token_comes() -> None:
    issuer = Issuer("k1")
    asked = issuer.provider()
    assert await asked.authenticate(token(kid="k1"))
    assert issuer.asked == 1
    issuer.kids = ("k1", "k2")
    with pytest.raises(AuthUnavailable):
        await asked.authenticate(token(kid="k2"))
    issuer.clock += 60
    assert await asked.authenticate(token(kid="k2"))
    assert await asked.authenticate(token(kid="k1"))
    assert issuer.asked == 2


async def test_a_token_with_a_made_up_kid_is_refused_after_one_fetch() -> None:
    issuer = Issuer("k1")
    asked = issuer.provider()
    assert await asked.authenticate(token(kid="k1"))
    issuer.clock += 60
    for _ in range(3):
        assert await asked.authenticate(token(kid="k9", signed_by="k1")) is None
    assert issuer.asked == 2


async def test_a_forged_signature_makes_nobody_ask_for_keys() -> None:
    issuer = Issuer("k1")
    asked = issuer.provider()
    await asked.authenticate(token(kid="k1"))
    issuer.clock += 60
    assert await asked.authenticate(token(kid="k1", signed_by="k2")) is None
    assert issuer.asked == 1


async def test_an_issuer_that_is_down_makes_no_token_bad() -> None:
    issuer = Issuer("k1")
    issuer.is_down = True
    asked = issuer.provider()
    for _ in range(2):
        with pytest.raises(AuthUnavailable):
            await asked.authenticate(token(kid="k1"))
    assert issuer.asked == 1
    issuer.is_down = False
    issuer.clock += 5
    assert await asked.authenticate(token(kid="k1"))
    issuer.is_down = True
    issuer.clock += 1000
    assert await asked.authenticate(token(kid="k1", sub="bea")), "the old keys are good for a day"
    asked.tend()


async def test_keys_are_fetched_in_good_time() -> None:
    issuer = Issuer("k1")
    asked = issuer.provider()
    asked.tend()
    asked.tend()
    assert issuer.asked == 1
    issuer.clock += 600
    asked.tend()
    assert issuer.asked == 2


async def test_a_remembered_token_still_expires_and_goes_with_its_key() -> None:
    clock = Clock()
    issuer = Issuer("k1")
    asked = provider(source=FetchedKeys(issuer.fetch, lambda: issuer.clock), clock=clock)
    shown = token(kid="k1", exp=int(NOW) + 10)
    assert await asked.authenticate(shown)
    clock.now += 14.9
    assert await asked.authenticate(shown)
    clock.now += 0.1
    assert await asked.authenticate(shown) is None
    shown = token(kid="k1")
    assert await asked.authenticate(shown)
    issuer.kids = ()
    issuer.clock += 600
    assert await asked.authenticate(shown), "retired a moment ago"
    issuer.clock += 301
    assert await asked.authenticate(shown) is None


async def test_live_sessions_follow_rules_and_scopes() -> None:
    clock = Clock()
    before = provider(TableScoping(parse_table({"todos": {"userId": "{sub}"}})), clock=clock)
    context = await before.authenticate(token(iss="one"))
    assert context is not None
    clock.now += 5000
    assert await before.revalidate([context]) == [context], "an expired token alone is no reason to go"
    after = provider(TableScoping(parse_table({"todos": {}})))
    assert await after.revalidate([context]) == [replace(context, scopes={"todos": {}})]
    stricter = provider(TableScoping(parse_table({"todos": {"org": "{org}"}})))
    assert await stricter.revalidate([context]) == [ANEW]
    elsewhere = provider(rules=JwtRules(("ES256",), issuers=("two",)))
    assert await elsewhere.revalidate([context]) == [ANEW]
    other_key = provider(source=FixedKeys(keys(public_jwk("ES256", "k2"))))
    assert await other_key.revalidate([context, AuthContext("anonymous")]) == [ANEW, ANEW]


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_hs_tokens_need_the_secret() -> None:
    asked = provider(rules=JwtRules(("HS256",)), source=FixedKeys([secret_key(SECRET.encode())]))
    assert await asked.authenticate(token("HS256", None))
    assert await asked.authenticate(token("HS256", "any-kid"))
    assert await asked.authenticate(token("HS384", None)) is None
    assert await asked.authenticate(token("ES256")) is None


GOOD = token(role="admin")


@given(st.data())
def test_no_token_with_a_changed_character_is_accepted(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD) - 1))
    other = data.draw(st.one_of(st.sampled_from("ABCDwxyz0189-_.=+/ "), st.characters()))
    changed = GOOD[:place] + other + GOOD[place + 1 :]
    if changed == GOOD:
        return
    assert _answer(changed) is None


@given(
    st.one_of(
        st.text(),
        st.binary().map(lambda content: content.decode("latin-1")),
        st.from_regex(r"\A[\w-]*\.[\w-]*\.[\w-]*\Z"),
    )
)
def test_no_text_is_accepted_or_breaks_anything(text: str) -> None:
    assert _answer(text) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "sub", "exp", "nbf", "iss", "aud", "org"])


@given(st.dictionaries(_NAMES, _JSON), st.dictionaries(_NAMES, _JSON))
def test_no_header_or_payload_gets_anybody_in_without_a_signature(header: Any, payload: Any) -> None:
    head, body = (encode_segment(json.dumps(one).encode()) for one in ({"alg": "ES256"} | header, payload))
    assert _answer(f"{head}.{body}.{GOOD.rpartition('.')[2]}") is None


@given(st.dictionaries(_NAMES, _JSON))
def test_signed_claims_of_any_shape_give_a_user_or_nothing(payload: Any) -> None:
    signed = jwt.api_jws.encode(json.dumps(payload).encode(), private_key("ES256", "k1"), "ES256")
    context = _answer(signed)
    if context is not None:
        assert isinstance(payload["sub"], str)
        assert payload["sub"] == context.user_id
        assert isinstance(payload["exp"], int | float)
        assert payload["exp"] + 5 > NOW


def _answer(text: str) -> AuthContext | None:
    asked = provider(TableScoping(parse_table({"todos": {"org": "{org?}"}})), rules=JwtRules(("ES256",)))
    waiting = asked.authenticate(text)
    try:
        waiting.send(None)
    except StopIteration as done:
        answer: AuthContext | None = done.value
        return answer
    raise AssertionError("it waits")
