"""Who may ask for what is not public."""

from __future__ import annotations

import pytest

from kora_daemon.http.access import Access, Role, Tokens
from kora_daemon.http.messages import HttpError, Request

HERE = {"host": "localhost:4567"}


def asks(access: Access, role: Role, address: str = "127.0.0.1", local: bool = False, **headers: str) -> int:
    """The status that whoever asks gets."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        access.require(Request("GET", "/x", headers=HERE | named, address=address, is_local=local), role)
    except HttpError as error:
        return error.status
    return 200


@pytest.mark.parametrize("role", [Role.ADMIN, Role.METRICS, Role.BACKUP])
@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {"host": "[::1]:4567"}, 200),
        ("127.0.0.1", {"host": "127.0.0.1:4567"}, 200),
        ("10.0.0.7", {}, 403),
        ("unknown", {}, 403),
        ("127.0.0.1", {"x_forwarded_for": "10.0.0.7"}, 403),  # a proxy on this machine that nobody trusts
        ("127.0.0.1", {"forwarded": "for=10.0.0.7"}, 403),
        ("127.0.0.1", {"x_real_ip": "10.0.0.7"}, 403),
        ("127.0.0.1", {"host": "rebound.example:4567"}, 403),
        ("127.0.0.1", {"host": ""}, 403),
        ("127.0.0.1", {"host": "[::1"}, 403),
        ("127.0.0.1", {"authorization": "Bearer anything"}, 200),
    ],
)
def test_without_a_token_only_this_machine_may_ask(
    role: Role, address: str, headers: dict[str, str], status: int
) -> None:
    assert asks(Access(), role, address, **headers) == status


@pytest.mark.parametrize(
    ("address", "headers", "doubt"),
    [
        ("10.0.0.7", {}, "this came from another address"),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.7"}, "this came through a proxy"),
        ("127.0.0.1", {"host": "desk:4567"}, "the Host header names neither"),
    ],
)
def test_who_may_not_ask_is_told_why_and_what_to_do(address: str, headers: dict[str, str], doubt: str) -> None:
    for role, keys in {
        Role.ADMIN: "admin.admin_token",
        Role.METRICS: "admin.metrics_token or admin.admin_token",
    }.items():
        with pytest.raises(HttpError) as refused:
            Access().require(Request("GET", "/x", headers=HERE | headers, address=address), role)
        said = str(refused.value)
        assert said.startswith(f"Without {keys} only this machine may ask, and {doubt}")
        assert "at http://127.0.0.1:PORT, without a proxy" in said


@pytest.mark.parametrize("role", [Role.ADMIN, Role.METRICS, Role.BACKUP, Role.DATA])
@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer s3crét", 200),
        ("bearer s3crét", 200),
        ("Bearer  s3crét ", 200),
        ("", 401),
        ("Bearer", 401),
        ("Bearer s3cré", 401),
        ("Bearer s3créts", 401),
        ("Basic s3crét", 401),
        ("s3crét", 401),
    ],
)
def test_with_a_token_it_is_the_token_that_counts(role: Role, authorization: str, status: int) -> None:
    tokens = Tokens(**{role.value: "s3crét"})
    on_the_wire = authorization.encode().decode("latin-1")
    for address in ("127.0.0.1", "10.0.0.7"):
        assert asks(Access(tokens), role, address, authorization=on_the_wire) == status


def test_each_token_opens_what_it_is_for() -> None:
    access = Access(Tokens("admin", "metrics", "backup", "data"))
    opened = {
        token: [role.value for role in Role if asks(access, role, authorization=f"Bearer {token}") == 200]
        for token in ("admin", "metrics", "backup", "data")
    }
    assert opened == {token: [token] for token in opened}


def test_metrics_and_backup_go_by_the_admin_token_where_they_have_none() -> None:
    access = Access(Tokens("admin"))
    assert [asks(access, role, authorization="Bearer admin") for role in Role] == [200, 200, 200, 403]


def test_the_data_api_is_off_without_a_token_of_its_own() -> None:
    assert asks(Access(), Role.DATA) == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:4567"}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
    ],
)
def test_pages_of_other_sites_get_nothing(headers: dict[str, str], status: int) -> None:
    assert asks(Access(), Role.BACKUP, **headers) == status
    assert asks(Access(Tokens("t")), Role.BACKUP, authorization="Bearer t", **headers) == status


def test_the_control_socket_opens_everything() -> None:
    access = Access(Tokens("admin", "metrics", "backup", "data"))
    assert [asks(access, role, local=True, address="") for role in Role] == [200] * 4
