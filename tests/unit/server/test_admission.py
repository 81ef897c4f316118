"""Who gets in, and how long the others wait for their answer. On a clock that jumps ahead while everybody waits."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from kora_daemon.auth.contract import AuthContext, token_digest
from kora_daemon.auth.token import StaticToken, StaticTokenProvider
from kora_daemon.errors import AuthUnavailable
from kora_daemon.server.admission import Admission

GOOD = StaticTokenProvider([StaticToken(token_digest("good"), AuthContext("ali"))])


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


async def _refused_after(admission: Admission, token: object, address: str = "192.0.2.1") -> float:
    before = trio.current_time()
    assert await admission.admit(token, None, address) is None
    return round(trio.current_time() - before, 3)


async def test_a_good_token_is_let_in_at_once(autojump_clock: MockClock) -> None:
    before = trio.current_time()
    assert await Admission(GOOD).admit("good", None, "192.0.2.1") == AuthContext("ali")
    assert trio.current_time() == before


async def test_refusals_are_held_back_longer_each_time(autojump_clock: MockClock) -> None:
    admission = Admission(GOOD, 1.0)
    assert [await _refused_after(admission, "bad") for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


async def test_another_address_or_token_starts_over(autojump_clock: MockClock) -> None:
    admission = Admission(GOOD, 1.0)
    assert await _refused_after(admission, "bad") == 1
    assert await _refused_after(admission, "bad", "192.0.2.2") == 1
    assert await _refused_after(admission, "worse") == 1
    assert await _refused_after(admission, "bad") == 2


async def test_a_refusal_is_forgiven_after_a_while(autojump_clock: MockClock) -> None:
    admission = Admission(GOOD, 1.0)
    await _refused_after(admission, "bad")
    await trio.sleep(200)
    assert await _refused_after(admission, "bad") == 1


@pytest.mark.parametrize("token", [5, True, ["good"], {"token": "good"}])
async def test_a_token_that_is_no_text_is_refused(autojump_clock: MockClock, token: object) -> None:
    assert await _refused_after(Admission(GOOD), token) == 1


async def test_the_token_of_the_url_counts_only_when_allowed_and_needed(autojump_clock: MockClock) -> None:
    assert await Admission(GOOD).admit(None, "good", "a") is None
    allowing = Admission(GOOD, allow_query_token=True)
    assert await allowing.admit(None, "good", "a") == AuthContext("ali")
    assert await allowing.admit("bad", "good", "a") is None


class _Broken:
    def __init__(self, error: Exception | None, context: AuthContext | None = None) -> None:
        self._error = error
        self._context = context

    async def authenticate(self, token: str) -> AuthContext | None:
        del token
        if self._error is not None:
            raise self._error
        return self._context


class _Hanging:
    async def authenticate(self, token: str) -> AuthContext | None:
        del token
        await trio.sleep_forever()
        return None


@pytest.mark.parametrize(
    "provider",
    [_Broken(AuthUnavailable("down")), _Broken(ValueError("secret")), _Broken(None, AuthContext("")), _Hanging()],
    ids=["unavailable", "raises", "no user id", "hangs"],
)
async def test_a_provider_in_trouble_never_looks_like_a_bad_token(
    autojump_clock: MockClock, provider: _Broken | _Hanging
) -> None:
    with pytest.raises(AuthUnavailable):
        await Admission(provider).admit("good", None, "192.0.2.1")
