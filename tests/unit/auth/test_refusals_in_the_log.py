"""What the log says of a refused token: by its digest it can be told from others, and by nothing else."""

from __future__ import annotations

import hashlib

import pytest
import structlog

from kora_daemon.auth.contract import MAX_TOKEN_LENGTH, AuthProvider
from kora_daemon.auth.jwt import JwtRules
from kora_daemon.auth.jwt_provider import JwtProvider
from kora_daemon.auth.key_sets import FixedKeys
from kora_daemon.auth.scoping import Unrestricted
from kora_daemon.auth.token import StaticTokenProvider, TokenAuthProvider
from kora_daemon.log import mask_secrets


async def test_a_refused_token_is_known_by_its_digest() -> None:
    with structlog.testing.capture_logs() as logged:
        assert await StaticTokenProvider([]).authenticate("s3cret") is None
    (line,) = [dict(mask_secrets(None, "", one)) for one in logged]
    assert line["event"] == "auth.token_refused"
    assert line["digest"] == hashlib.sha256(b"s3cret").hexdigest()[:12]
    assert "s3cret" not in repr(line)


@pytest.mark.parametrize(
    "provider",
    [
        StaticTokenProvider([]),
        TokenAuthProvider(lambda _token: {"userId": "ali"}),
        JwtProvider(JwtRules(("ES256",)), FixedKeys([]), Unrestricted()),
    ],
    ids=["static", "hook", "jwt"],
)
async def test_a_token_that_is_too_long_is_said_to_be(provider: AuthProvider) -> None:
    with structlog.testing.capture_logs() as logged:
        assert await provider.authenticate("x" * (MAX_TOKEN_LENGTH + 1)) is None
    assert [(line["event"], line["reason"]) for line in logged] == [("auth.token_refused", "too long")]
