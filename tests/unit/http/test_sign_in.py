"""The cookie of a browser that has shown the admin token."""

from __future__ import annotations

import pytest

from kora_daemon.http.access import Access, Role, Tokens
from kora_daemon.http.messages import HttpError, Request
from kora_daemon.http.sign_in import COOKIE, cookie_value, is_signed_in

NOW = 1_700_000_000.0
GOOD = f"{COOKIE}={cookie_value('s3cret', NOW + 60)}"


def test_it_is_good_until_its_end() -> None:
    assert is_signed_in("s3cret", "GET", GOOD, NOW)
    assert is_signed_in("s3cret", "HEAD", f"theme=dark; {GOOD}; other=1", NOW + 59)
    assert not is_signed_in("s3cret", "GET", GOOD, NOW + 60)


def test_it_is_good_for_looking_only() -> None:
    assert not any(is_signed_in("s3cret", method, GOOD, NOW) for method in ("POST", "PUT", "DELETE", "get", ""))


def test_it_does_not_hold_the_token_and_ends_with_it() -> None:
    assert "s3cret" not in GOOD
    assert not is_signed_in("other", "GET", GOOD, NOW)


@pytest.mark.parametrize(
    "cookies",
    [
        "",
        COOKIE,
        f"{COOKIE}=",
        f"{COOKIE}=.",
        f"{COOKIE}=99999999999.",
        f"{COOKIE}=99999999999.{'0' * 64}",
        GOOD.replace("=17", "=18"),
        GOOD[:-1],
        GOOD + "0",
        GOOD.replace(COOKIE, "other"),
        f"{COOKIE}=-1.{'0' * 64}",
        f"{COOKIE}={'9' * 5000}.x",
        f"{COOKIE}=²³.x",
        f"{COOKIE}=1.é",
    ],
)
def test_anything_else_is_no_cookie_of_ours(cookies: str) -> None:
    assert not is_signed_in("s3cret", "GET", cookies, NOW)


def test_it_opens_what_is_for_admins_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kora_daemon.http.access.wall_s", lambda: NOW)
    access = Access(Tokens("s3cret", "s3cret", "s3cret", "s3cret"))
    headers = {"host": "localhost", "cookie": GOOD}
    request = Request("GET", "/x", headers=headers, address="10.0.0.7")
    access.require(request, Role.ADMIN)
    for role in (Role.METRICS, Role.BACKUP, Role.DATA):
        with pytest.raises(HttpError, match="token"):
            access.require(request, role)
