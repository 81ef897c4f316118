"""The auth provider in its time in office: what it is lent, when it is tended and closed, and how its troubles end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, current_thread
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from kora_daemon.auth.contract import ANEW, AuthContext, Caller, Calls, Standing
from kora_daemon.auth.mixed import MixedAuthProvider
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.auth.token import StaticToken, StaticTokenProvider, TokenAuthProvider
from kora_daemon.errors import AuthUnavailable
from kora_daemon.server import identification
from kora_daemon.server.identification import AuthRules, Identification
from tests.support.network import eventually

HERE = Caller("node-1", "192.0.2.1")
ALI = AuthContext("ali", {"todos": {}})


class Office:
    """A provider that does what a test tells it to, and keeps a diary."""

    def __init__(self, answer: Any = ALI) -> None:
        self.answer = answer
        self.diary: list[str] = []
        self.calls: Calls | None = None
        self.chore: Callable[[], None] = lambda: None
        self.until = trio.Event()
        self.until.set()

    def use(self, calls: Calls) -> None:
        self.calls = calls

    async def authenticate(self, token: str) -> AuthContext | None:
        self.diary.append(f"asked about {token}")
        await self.until.wait()
        return self.answer  # type: ignore[no-any-return]

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        return self.answer  # type: ignore[no-any-return]

    def tend(self) -> None:
        self.diary.append(f"tended in {current_thread().name}")
        self.chore()

    def close(self) -> None:
        self.diary.append("closed")
        self.chore()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identification, "TEND_INTERVAL_S", 0.01)


async def test_a_provider_is_lent_threads_and_tended_and_closed(quick: None, nursery: trio.Nursery) -> None:
    office = Office()
    held = Identification(office)
    assert office.calls is not None
    assert await office.calls.blocking(lambda: current_thread().name, 5.0) == "kora-auth"
    with pytest.raises(AuthUnavailable):
        await office.calls.awaiting(trio.sleep_forever, 0.01)
    nursery.start_soon(held.tend)
    await eventually(lambda: len(office.diary) >= 3)
    await held.close()
    assert set(office.diary) == {"tended in kora-auth-chores", "closed"}
    assert office.diary.count("closed") == 1


async def test_who_comes_after_is_asked_and_tended_and_who_was_before_is_closed_when_it_has_answered(
    quick: None, nursery: trio.Nursery
) -> None:
    before, after = Office(ALI), Office(AuthContext("bea", {}))
    held = Identification(before)
    nursery.start_soon(held.tend)
    before.until = trio.Event()
    answers: list[AuthContext | None] = []

    async def ask() -> None:
        answers.append(await held.judge("t", HERE))

    nursery.start_soon(ask)
    await eventually(lambda: "asked about t" in before.diary)
    held.replace(after, AuthRules())
    await eventually(lambda: len(after.diary) >= 3)
    assert "closed" not in before.diary
    before.until.set()
    await eventually(lambda: before.diary[-1] == "closed")
    # The one in office has the last word, also about those who asked before.
    assert answers == [AuthContext("bea", {})]
    assert before.diary.count("closed") == 1
    await held.close()
    assert (before.diary.count("closed"), after.diary.count("closed")) == (1, 1)


async def test_the_same_provider_under_other_rules_goes_on(quick: None, nursery: trio.Nursery) -> None:
    office = Office()
    held = Identification(office)
    held.replace(office, AuthRules(revalidate=5))
    nursery.start_soon(held.tend)
    await eventually(lambda: len(office.diary) >= 3)
    assert "closed" not in office.diary
    assert held.rules.revalidate == 5


@pytest.mark.parametrize("error", [ValueError("s3cret"), SystemExit("s3cret")])
async def test_chores_that_fail_are_one_line_and_go_on(
    quick: None, nursery: trio.Nursery, error: BaseException
) -> None:
    office = Office()

    def fail() -> None:
        raise error

    office.chore = fail
    with capture_logs() as lines:
        held = Identification(office)
        nursery.start_soon(held.tend)
        await eventually(lambda: len(office.diary) >= 4)
        await held.close()
    assert [line["event"] for line in lines] == ["auth.chore_failed"]
    assert "s3cret" not in repr(lines)


async def test_chores_that_hang_hold_up_nobody(
    quick: None, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identification, "TEND_PATIENCE_S", 0.02)
    hanging, over, after = Office(), Event(), Office()
    hanging.chore = lambda: over.wait(20) and None
    held = Identification(hanging)
    nursery.start_soon(held.tend)
    await eventually(lambda: bool(hanging.diary))
    held.replace(after, AuthRules())
    await eventually(lambda: len(after.diary) >= 2)
    with trio.fail_after(5):
        await held.close()
    over.set()
    # No second call was made beside the one that hung.
    assert hanging.diary == ["tended in kora-auth-chores"]
    assert after.diary[-1] == "closed"


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


async def test_a_login_has_as_long_as_a_hook_and_some_more(autojump_clock: MockClock) -> None:
    office = Office()
    office.until = trio.Event()
    with pytest.raises(AuthUnavailable):
        await Identification(office, AuthRules(timeout=30)).judge("t", HERE)
    assert trio.current_time() == 30 + identification.LEAST_PATIENCE_S


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([ALI, None], [ALI, None]),
        ([ANEW, ALI], [ANEW, ALI]),
        ([ALI], None),
        (None, None),
        ((ALI, ALI), None),
        ([ALI, {"userId": "ali"}], None),
        ([ALI, AuthContext("")], None),
        ([ALI, AuthContext("ali", {"todos": []})], None),  # type: ignore[dict-item]
        ([ALI, False], None),
    ],
)
async def test_what_is_said_about_sessions_is_looked_at(answer: Any, expected: list[Standing] | None) -> None:
    held = Identification(Office(answer))
    if expected is None:
        with pytest.raises(AuthUnavailable):
            await held.standings([ALI, ALI])
    else:
        assert await held.standings([ALI, ALI]) == expected


async def test_scopes_are_taken_over_as_they_are_now() -> None:
    scopes = {"todos": {"userId": "ali"}}
    context = await Identification(Office(AuthContext("ali", scopes))).judge("t", HERE)
    scopes["notes"] = {}
    assert context is not None
    assert context.scopes == {"todos": {"userId": "ali"}}


UNSCOPED = AuthContext("ali")


async def test_who_leaves_people_unrestricted_is_named_once() -> None:
    with capture_logs() as lines:
        held = Identification(Office(UNSCOPED))
        for _ in range(3):
            assert await held.judge("t", HERE) == UNSCOPED
        assert await held.judge("t", HERE)
        held.replace(Office(UNSCOPED), AuthRules())
        assert await held.judge("t", HERE)
    assert [(line["event"], line["provider"]) for line in lines] == [("auth.unrestricted", "Office")] * 2
    assert held.unscoped == 5


@pytest.mark.parametrize(
    "provider",
    [
        NoAuthProvider(),
        StaticTokenProvider([StaticToken("0" * 64, UNSCOPED)]),
        MixedAuthProvider(StaticTokenProvider([]), {}),
        TokenAuthProvider(lambda token: UNSCOPED, shared_data=True),
    ],
)
async def test_who_minds_it_by_itself_is_not_named(provider: Any) -> None:
    with capture_logs() as lines:
        await Identification(provider).judge("t", HERE)
    assert "auth.unrestricted" not in [line["event"] for line in lines]


async def test_shared_data_is_on_purpose() -> None:
    with capture_logs() as lines:
        assert await Identification(Office(UNSCOPED), AuthRules(shared_data=True)).judge("t", HERE) == UNSCOPED
    assert lines == []


async def test_whoever_has_no_scopes_is_refused_when_they_are_required() -> None:
    with capture_logs() as lines:
        held = Identification(Office(UNSCOPED), AuthRules(require_scopes=True))
        assert await held.judge("t", HERE) is None
        assert await held.judge("t", HERE) is None
        assert await Identification(Office(AuthContext("ali", {})), held.rules).judge("t", HERE) == AuthContext(
            "ali", {}
        )
        assert await Identification(Office([UNSCOPED, ALI]), held.rules).standings([ALI, ALI]) == [None, ALI]
    assert held.unscoped == 2
    assert [line["event"] for line in lines] == ["auth.unscoped_refused"] * 2
