"""Who gets in, and how long the others wait for their answer. On a clock that jumps ahead while everybody waits."""

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from kora_daemon.auth.contract import AuthContext, AuthProvider, Caller, token_digest
from kora_daemon.auth.token import StaticToken, StaticTokenProvider
from kora_daemon.errors import AuthUnavailable
from kora_daemon.server.admission import Admission
from kora_daemon.server.identification import Identification

GOOD = StaticTokenProvider([StaticToken(token_digest("good"), AuthContext("ali"))])
HERE = Caller("node-1", "192.0.2.1")


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


def admission_of(provider: AuthProvider, refusal_delay_s: float = 1.0, *, query: bool = False) -> Admission:
    return Admission(Identification(provider), refusal_delay_s, allow_query_token=query)


async def _refused_after(admission: Admission, token: object, caller: Caller = HERE) -> float:
    before = trio.current_time()
    assert await admission.admit(token, None, caller) is None
    return round(trio.current_time() - before, 3)


async def test_a_good_token_is_let_in_at_once(autojump_clock: MockClock) -> None:
    before = trio.current_time()
    assert await admission_of(GOOD).admit("good", None, HERE) == AuthContext("ali")
    assert trio.current_time() == before


async def test_refusals_are_held_back_longer_each_time(autojump_clock: MockClock) -> None:
    admission = admission_of(GOOD)
    assert [await _refused_after(admission, "bad") for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


async def test_another_address_or_token_starts_over(autojump_clock: MockClock) -> None:
    admission = admission_of(GOOD)
    assert await _refused_after(admission, "bad") == 1
    assert await _refused_after(admission, "bad", Caller("node-1", "192.0.2.2")) == 1
    assert await _refused_after(admission, "worse") == 1
    assert await _refused_after(admission, "bad", Caller("node-2", "192.0.2.1")) == 2


async def test_a_refusal_is_forgiven_after_a_while(autojump_clock: MockClock) -> None:
    admission = admission_of(GOOD)
    await _refused_after(admission, "bad")
    await trio.sleep(200)
    assert await _refused_after(admission, "bad") == 1


@pytest.mark.parametrize("token", [5, True, ["good"], {"token": "good"}])
async def test_a_token_that_is_no_text_is_refused(autojump_clock: MockClock, token: object) -> None:
    with capture_logs() as logged:
        assert await _refused_after(admission_of(GOOD), token) == 1
    assert [line.get("reason") for line in logged] == ["not text", None]


async def test_the_token_of_the_url_counts_only_when_allowed_and_needed(autojump_clock: MockClock) -> None:
    assert await admission_of(GOOD).admit(None, "good", HERE) is None
    allowing = admission_of(GOOD, query=True)
    assert await allowing.admit(None, "good", HERE) == AuthContext("ali")
    assert await allowing.admit("bad", "good", HERE) is None


class _Counting:
    """Refuses everybody, or all but those from one node."""

    def __init__(self, welcome: str | None = None) -> None:
        self.asked: list[tuple[str, Caller]] = []
        self._welcome = welcome

    async def authenticate(self, token: str) -> AuthContext | None:
        return await self.judge(token, Caller())

    async def judge(self, token: str, caller: Caller) -> AuthContext | None:
        self.asked.append((token, caller))
        return AuthContext("ali", {}) if caller.node_id == self._welcome else None


async def test_a_refused_client_that_comes_back_is_not_looked_up_for_a_while(autojump_clock: MockClock) -> None:
    provider = _Counting()
    admission = admission_of(provider, 0.1)
    for _ in range(4):
        await admission.admit("bad", None, HERE)
    assert provider.asked == [("bad", HERE)]
    await trio.sleep(5)
    await admission.admit("bad", None, HERE)
    await admission.admit("worse", None, HERE)
    assert [token for token, _ in provider.asked] == ["bad", "bad", "worse"]


async def test_a_refusal_is_remembered_for_its_caller_alone(autojump_clock: MockClock) -> None:
    admission = admission_of(_Counting(welcome="node-2"))
    assert await admission.admit("t", None, HERE) is None
    assert await admission.admit("t", None, Caller("node-2", "192.0.2.1")) == AuthContext("ali", {})


class _Broken:
    def __init__(self, error: BaseException | None, answer: object = None) -> None:
        self._error = error
        self._answer: object = answer

    async def authenticate(self, token: str) -> AuthContext | None:
        del token
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]


class _Hanging:
    async def authenticate(self, token: str) -> AuthContext | None:
        del token
        await trio.sleep_forever()
        return None


async def test_an_outage_is_answered_late_so_that_not_everybody_is_back_at_once(autojump_clock: MockClock) -> None:
    provider = _Broken(AuthUnavailable("down"))
    admission = admission_of(provider)
    took: list[float] = []
    for _ in range(5):
        before = trio.current_time()
        with pytest.raises(AuthUnavailable):
            await admission.admit("good", None, HERE)
        took.append(round(trio.current_time() - before, 3))
    assert took == [1, 2, 4, 8, 8]


@pytest.mark.parametrize(
    "provider",
    [
        _Broken(AuthUnavailable("down")),
        _Broken(ValueError("s3cret")),
        _Broken(SystemExit("s3cret")),
        _Broken(None, AuthContext("")),
        _Broken(None, AuthContext(5)),  # type: ignore[arg-type]
        _Broken(None, AuthContext("ali", {"todos": None})),  # type: ignore[dict-item]
        _Broken(None, AuthContext("ali", {"todos": {"tags": ["s3cret"]}})),
        _Broken(None, AuthContext("ali", "s3cret")),  # type: ignore[arg-type]
        _Broken(None, AuthContext("ali", {}, expires_at="s3cret")),  # type: ignore[arg-type]
        _Broken(None, {"userId": "s3cret"}),
        _Broken(None, True),
        _Hanging(),
    ],
    ids=[
        "unavailable", "raises", "exits", "no user id", "a number for a user", "null for a scope", "a list in a scope",
        "a text for scopes", "a text for a time", "a dict", "true", "hangs",
    ],
)  # fmt: skip
async def test_a_provider_in_trouble_never_looks_like_a_bad_token(
    autojump_clock: MockClock, provider: _Broken | _Hanging
) -> None:
    with capture_logs() as lines, pytest.raises(AuthUnavailable) as raised:
        await admission_of(provider).admit("s3cret", None, HERE)
    assert [line["event"] for line in lines] == ["auth.unavailable"]
    assert "s3cret" not in repr(lines) + str(raised.value)
    assert raised.value.__cause__ is None
