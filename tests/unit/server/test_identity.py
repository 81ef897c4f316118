"""What a session is told when it is judged again."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.auth.contract import ANEW, AuthContext, Standing
from kora_daemon.protocol import events as on
from kora_daemon.server.identity import TOLERATED_FOR_S, Identity

ALI = AuthContext("ali", {"todos": {"userId": "ali", "done": True}}, {"plan": "free"}, expires_at=100.0)


@pytest.mark.parametrize(
    ("standing", "told"),
    [
        (None, on.Revoked),
        (ANEW, on.Renewal),
        (AuthContext("bea", ALI.scopes), on.Renewal),
        (AuthContext("ali", {"todos": {"userId": "ali", "done": 1}}), on.Renewal),
        (AuthContext("ali", {"todos": {"userId": "ali"}}), on.Renewal),
        (AuthContext("ali", {}), on.Renewal),
        (AuthContext("ali"), on.Renewal),
    ],
)
def test_who_is_somebody_else_now_has_to_go(standing: Standing, told: type[Any]) -> None:
    identity = Identity(ALI, 0, 50)
    assert type(identity.change(standing, 50)) is told
    assert identity.context is ALI


def test_who_stays_is_known_as_they_are_now() -> None:
    identity = Identity(ALI, 0, 50)
    promoted = AuthContext("ali", {"todos": {"done": True, "userId": "ali"}}, {"plan": "pro"}, expires_at=100.0)
    assert identity.change(promoted, 50) is None
    assert identity.context is promoted


def test_a_session_ends_with_its_token() -> None:
    assert Identity(ALI, 0, 50).ends_at == 100
    assert Identity(AuthContext("ali"), 0, 50).ends_at is None


def test_a_token_that_is_good_for_longer_makes_the_session_longer() -> None:
    identity = Identity(ALI, 0, 50)
    identity.change(AuthContext("ali", ALI.scopes, expires_at=200.0), 60)
    assert identity.ends_at == 200


def test_a_token_that_was_tolerated_is_so_for_a_while_and_no_longer() -> None:
    identity = Identity(ALI, 0, 103)
    identity.change(ALI, 130)
    assert identity.ends_at == 103 + TOLERATED_FOR_S
