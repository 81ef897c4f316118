"""Every vector of the providers (auth.md section 1) and of the user tables (section 3), on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kora_daemon.auth.contract import AuthContext, AuthProvider, token_digest
from kora_daemon.auth.kora import KoraAuthProvider
from kora_daemon.auth.mixed import MixedAuthProvider
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.auth.revocations import RevocationList
from kora_daemon.auth.scoping import TableScoping
from kora_daemon.auth.templates import parse_table
from kora_daemon.auth.token import StaticToken, StaticTokenProvider, TokenAuthProvider
from kora_daemon.server.auth_calls import AuthCalls
from tests.support.auth import TABLES, UserTables

VECTORS = Path(__file__).parent / "data" / "vectors"
PROVIDERS = json.loads((VECTORS / "auth-providers.json").read_text("utf-8"))
USERS = json.loads((VECTORS / "auth-users.json").read_text("utf-8"))

Case = dict[str, Any]


def test_no_vector_is_left_out() -> None:
    assert len(PROVIDERS["cases"]) == 6
    assert sum(len(case["calls"]) for case in PROVIDERS["cases"]) == 24
    assert len(USERS["cases"]) == 30
    assert (len(USERS["auth_users"]), len(USERS["auth_devices"])) == (3, 4)


def as_json(context: AuthContext) -> dict[str, Any]:
    parts = {"userId": context.user_id, "scopes": context.scopes, "metadata": context.metadata}
    return {name: part for name, part in parts.items() if part is not None}


def by_table(config: Case) -> AuthProvider:
    return StaticTokenProvider(
        StaticToken(token_digest(token), AuthContext(row["userId"], row.get("scopes"), row.get("metadata")))
        for token, row in config["tokens"].items()
    )


def by_validator(config: Case) -> AuthProvider:
    return TokenAuthProvider(config["tokens"].get)


def provider(config: Case, static: Any) -> AuthProvider:
    if config["kind"] == "none":
        return NoAuthProvider()
    if config["kind"] == "static":
        found: AuthProvider = static(config)
        return found
    return MixedAuthProvider(
        static(config["primary"]),
        config["anonymous_scopes"],
        anonymous_prefix=config.get("anonymous_prefix", "anon"),
        accept_refused=config["on_invalid_token"] == "anonymous",
    )


@pytest.mark.parametrize("static", [by_table, by_validator])
@pytest.mark.parametrize("case", PROVIDERS["cases"], ids=[case["name"] for case in PROVIDERS["cases"]])
async def test_a_provider(case: Case, static: Any) -> None:
    asked = provider(case["config"], static)
    anonymous: set[str] = set()
    for call in case["calls"]:
        context = await asked.authenticate(call["token"])
        expected = call["expect"]
        if "rejected" in expected:
            assert context is None
            continue
        assert context is not None
        if prefix := expected.get("user_id_prefix"):
            assert context.user_id.startswith(prefix)
            assert context.user_id not in anonymous
            anonymous.add(context.user_id)
            assert as_json(context) == expected["context"] | {"userId": context.user_id}
        else:
            assert as_json(context) == expected["context"]


@pytest.fixture(params=list(TABLES))
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UserTables]:
    made = TABLES[request.param](tmp_path)
    made.add(USERS["auth_users"], USERS["auth_devices"])
    yield made
    made.connection.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", USERS["cases"], ids=[case["name"] for case in USERS["cases"]])
async def test_a_user_of_the_tables(case: Case, tables: UserTables, tmp_path: Path) -> None:
    revoked = tmp_path / "revoked.txt"
    revoked.write_text("\n".join(case.get("revoked_jti", []) + case.get("revoked_device_tokens", [])))
    asked = KoraAuthProvider(
        USERS["secrets"],
        tables.directory(),
        TableScoping(parse_table(case["scopes"])) if "scopes" in case else None,
        revoked=RevocationList(revoked),
        clock=lambda: case["now_ms"] / 1000,
    )
    asked.use(AuthCalls())
    before = tables.last_seen()
    context = await asked.authenticate(case["token"])
    assert (None if context is None else as_json(context)) == case["expect"]["context"]
    if context is not None:
        assert context.device_id == context.metadata["deviceId"]  # type: ignore[index]
        again = await asked.revalidate([replace(context, scopes={"other": {}})])
        assert again == [context]
    asked.close()
    touched = case["expect"]["touched"]
    assert tables.last_seen() == before | ({} if touched is None else {touched: case["now_ms"]})
