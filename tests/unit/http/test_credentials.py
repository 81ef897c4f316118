"""Which session a request is for."""

from __future__ import annotations

import itertools

import pytest

from kora_daemon.http.credentials import read_credentials, require_same_token
from kora_daemon.http.messages import HttpError, Request


def request(
    header: str | None = None,
    parameter: str | None = None,
    cookie: str | None = None,
    bearer: str | None = None,
    address: str = "10.0.0.7",
    token: str | None = None,
    is_secure: bool = False,
) -> Request:
    headers = {"x-kora-session": header, "cookie": cookie, "authorization": bearer}
    query = {"clientId": parameter, "token": token}
    return Request(
        "GET",
        "/sync",
        {name: [value] for name, value in query.items() if value is not None},
        {name: value for name, value in headers.items() if value is not None},
        address=address,
        is_secure=is_secure,
    )


def key(**members: object) -> bytes:
    return read_credentials(request(**members)).key  # type: ignore[arg-type]


def test_header_before_parameter_before_cookie() -> None:
    assert key(header="a", parameter="b", cookie="kora_session=c") == key(parameter="a")
    assert key(parameter="b", cookie="kora_session=c") == key(header="b")
    assert key(cookie="other=x; kora_session=c; kora_sessions=y") == key(header="c")


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"header": ""},
        {"parameter": ""},
        {"cookie": "kora_session="},
        {"cookie": "other=a"},
        {"header": "a b"},
        {"parameter": "a\n"},
        {"parameter": "ä"},
        {"parameter": "a" * 129},
        {"header": "a b", "parameter": "good"},
    ],
)
def test_who_does_not_say_it_is_told_how_and_given_a_cookie(said: dict[str, str]) -> None:
    with pytest.raises(HttpError) as refused:
        read_credentials(request(**said))  # type: ignore[arg-type]
    assert refused.value.status == 400
    assert "x-kora-session" in str(refused.value)
    cookie, *attributes = refused.value.headers["set-cookie"].split("; ")
    assert attributes == ["Path=/sync", "HttpOnly", "SameSite=Strict"]
    assert key(cookie=cookie) != key(cookie="kora_session=other")


def test_cookies_are_never_the_same_and_secure_under_tls() -> None:
    given = []
    for _ in range(2):
        with pytest.raises(HttpError) as refused:
            read_credentials(request(is_secure=True))
        given.append(refused.value.headers["set-cookie"])
    assert given[0] != given[1]
    assert all(one.endswith("; Secure") and len(one.split(";")[0]) > 40 for one in given)


def test_every_difference_makes_another_session() -> None:
    worlds = [
        {"header": "a", "bearer": bearer, "token": token, "address": address}
        for bearer, token, address in itertools.product(
            (None, "Bearer t", "Bearer u", "Bearer "), (None, "t", "u"), ("10.0.0.7", "10.0.0.8")
        )
    ]
    keys = {key(**world): world for world in worlds}
    # Where there is a token, the address does not matter.
    assert len(keys) == 4 * 3 + 1
    assert key(header="a") != key(header="b")


def test_a_device_with_a_token_may_change_its_address() -> None:
    assert key(header="a", bearer="Bearer t") == key(header="a", bearer="bearer t", address="10.9.9.9")


def test_an_address_stands_for_its_network() -> None:
    assert key(header="a", address="2001:db8::1") == key(header="a", address="2001:db8::2")
    assert key(header="a", address="2001:db8::1") != key(header="a", address="2001:db8:0:1::1")


def test_another_scheme_is_no_token() -> None:
    found = read_credentials(request(header="a", bearer="Basic dTpw"))
    assert found.token is None
    assert found.key == key(header="a")


@pytest.mark.parametrize(
    ("bearer", "token", "auth_token", "may"),
    [
        ("Bearer t", None, "t", True),
        ("Bearer t", None, None, True),
        (None, None, None, True),
        (None, "t", "t", True),
        ("Bearer t", "u", "t", True),
        ("Bearer t", None, "u", False),
        ("Bearer t", "u", "u", False),
        (None, None, "t", False),
        ("Basic dA==", None, "t", False),
        ("Bearer t", None, ["t"], False),
        ("Bearer t", None, 7, False),
        (None, None, "", True),
    ],
)
def test_the_handshake_carries_the_token_of_its_request(
    bearer: str | None, token: str | None, auth_token: object, may: bool
) -> None:
    credentials = read_credentials(request(header="a", bearer=bearer, token=token))
    if may:
        require_same_token(credentials, auth_token)
    else:
        with pytest.raises(HttpError) as refused:
            require_same_token(credentials, auth_token)
        assert refused.value.status == 401
