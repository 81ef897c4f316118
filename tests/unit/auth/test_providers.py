"""The providers that need nothing but the configuration file."""

from __future__ import annotations

from kora_daemon.auth.contract import AuthContext, token_digest
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.auth.token import StaticToken, StaticTokenProvider


async def test_without_auth_everybody_is_the_same_anonymous_user() -> None:
    provider = NoAuthProvider()
    assert await provider.authenticate("") == await provider.authenticate("whatever") == AuthContext("anonymous")


async def test_a_token_of_the_table_is_its_user() -> None:
    provider = StaticTokenProvider(
        [
            StaticToken(token_digest("one"), AuthContext("ali")),
            StaticToken(token_digest("two"), AuthContext("bea", metadata={"plan": "pro"})),
        ]
    )
    assert await provider.authenticate("one") == AuthContext("ali")
    assert await provider.authenticate("two") == AuthContext("bea", metadata={"plan": "pro"})


async def test_any_other_token_is_nobody() -> None:
    provider = StaticTokenProvider([StaticToken(token_digest("one"), AuthContext("ali"))])
    for token in ("", "One", "one ", "Bearer one", token_digest("one"), "\ud800", "ö"):
        assert await provider.authenticate(token) is None


def test_a_digest_is_the_sha256_of_the_text() -> None:
    assert token_digest("test") == "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
