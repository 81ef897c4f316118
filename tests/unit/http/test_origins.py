"""Which web pages may connect."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from kora_daemon.http.messages import HttpError, Request
from kora_daemon.http.origins import Origins

OWN = "https://sync.example.org"
APP, OTHER = "https://app.example.org", "https://elsewhere.example"


def request(origin: str | None, **headers: str) -> Request:
    named = {"host": "sync.example.org", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Request("GET", "/", headers=named if origin is None else {**named, "origin": origin})


@pytest.mark.parametrize(
    ("allowed", "origin", "lets_poll", "lets_upgrade"),
    [
        ([], None, True, True),
        ([], OWN, True, True),
        ([], OTHER, False, True),
        ([APP], None, True, True),
        ([APP], OWN, True, True),
        ([APP], APP, True, True),
        ([APP], OTHER, False, False),
        ([APP], "https://app.example.org:8443", False, False),
        ([APP], "http://app.example.org", False, False),
        ([APP], "https://app.example.org.elsewhere.example", False, False),
        ([APP], "null", False, False),
        ([APP], "", False, False),
        (["*"], OTHER, True, True),
        (["*"], "null", True, True),
    ],
)
def test_who_may_connect(allowed: list[str], origin: str | None, lets_poll: bool, lets_upgrade: bool) -> None:
    origins, asked = Origins(allowed), request(origin)
    assert origins.let_upgrade(asked) is lets_upgrade
    if lets_poll:
        origins.answer(asked)
    else:
        with pytest.raises(HttpError) as refused, capture_logs() as logs:
            origins.answer(asked)
        assert refused.value.status == 403
        assert [line["event"] for line in logs] == ["http.origin_refused"]


def test_the_browser_s_word_counts_behind_a_proxy_that_changes_the_host() -> None:
    behind = Request("GET", "/", headers={"host": "127.0.0.1:4567", "origin": OWN, "sec-fetch-site": "same-origin"})
    elsewhere = Request("GET", "/", headers={"host": "127.0.0.1:4567", "origin": OWN, "sec-fetch-site": "cross-site"})
    for origins in (Origins(), Origins([APP])):
        origins.answer(behind)
        assert origins.let_upgrade(behind)
        with pytest.raises(HttpError):
            origins.answer(elsewhere)


def test_a_named_origin_may_read_and_send_credentials() -> None:
    headers = dict(Origins([APP]).answer(request(APP)))
    assert headers == {
        "vary": "origin",
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "etag",
    }


def test_any_origin_may_read_without_credentials() -> None:
    headers = dict(Origins(["*"]).answer(request(OTHER)))
    assert headers == {"access-control-allow-origin": "*", "access-control-expose-headers": "etag"}
    assert dict(Origins(["*", APP]).answer(request(APP)))["access-control-allow-credentials"] == "true"


def test_what_is_no_browser_is_told_nothing_of_origins() -> None:
    assert Origins().answer(request(None)) == ()
    assert Origins([APP]).answer(request(None)) == (("vary", "origin"),)


def test_a_preflight_names_what_devices_send() -> None:
    answer = Origins([APP]).preflight()
    headers = dict(answer.headers)
    assert (answer.status, answer.body) == (204, b"")
    assert headers["access-control-allow-methods"] == "GET, POST"
    assert headers["access-control-allow-headers"] == "authorization, content-type, if-none-match, x-kora-session"
    assert int(headers["access-control-max-age"]) > 0
