"""The dashboard as it is served: to whom, how a browser signs in, and that it loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from kora_daemon.http.access import Access, Tokens
from tests.support.http import Answer, HttpClient, http_client
from tests.support.network import running_server

TOKEN = "s3cret"
BEARER = {"authorization": f"Bearer {TOKEN}"}


async def page(client: HttpClient, **headers: str) -> Answer:
    return await client.ask("/__kora", headers=headers)


async def test_on_this_machine_and_without_a_token_it_is_open() -> None:
    async with running_server() as host, http_client(host.port) as client:
        answer = await page(client)
        assert answer.status == 200
        assert b'id="plots"' in answer.body


async def test_who_has_no_token_is_asked_for_it_and_sees_nothing() -> None:
    async with running_server(access=Access(Tokens(TOKEN))) as host, http_client(host.port) as client:
        answer = await page(client)
        assert answer.status == 401
        assert b'type="password"' in answer.body
        assert b'id="plots"' not in answer.body
        assert (await page(client, **BEARER)).status == 200


async def test_a_browser_trades_the_token_for_a_cookie_and_gives_it_back() -> None:
    async with running_server(access=Access(Tokens(TOKEN))) as host, http_client(host.port) as client:
        assert (await client.ask("/__kora/sign-in", "POST")).status == 401
        assert (
            "set-cookie"
            not in (await client.ask("/__kora/sign-in", "POST", headers={"authorization": "Bearer x"})).headers
        )
        entered = await client.ask("/__kora/sign-in", "POST", headers=BEARER)
        assert entered.status == 204
        cookie, *attributes = entered.headers["set-cookie"].split("; ")
        assert attributes == ["Path=/__kora", "Max-Age=43200", "HttpOnly", "SameSite=Strict"]
        assert (await page(client, cookie=cookie)).status == 200
        assert (await client.ask("/__kora/status", headers={"cookie": cookie})).status == 200
        assert (await client.ask("/__kora/kick?user=a", "POST", headers={"cookie": cookie})).status == 401
        left = await client.ask("/__kora/sign-out", "POST", headers={"cookie": cookie})
        assert left.headers["set-cookie"].startswith("kora_dashboard=; Path=/__kora; Max-Age=0;")


@pytest.mark.parametrize("headers", [{}, BEARER])
async def test_the_page_is_whole_and_its_policy_lets_nothing_else_in(headers: dict[str, str]) -> None:
    async with running_server(access=Access(Tokens(TOKEN))) as host, http_client(host.port) as client:
        answer = await page(client, **headers)
    text = answer.body.decode()
    assert not re.search(r"(?:src|href)=\"(?!#)|https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text)
    assert "innerHTML" not in text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    for name in ("style", "script"):
        (block,) = re.findall(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert answer.headers["cache-control"] == "no-store"
