"""Requests that a proxy in front may understand in another way, and answers that outlive the right to them."""

from __future__ import annotations

import ipaddress

import pytest
import trio

from kora_daemon.apply.trusted import Mutation
from kora_daemon.http.access import Access, Tokens
from kora_daemon.http.credentials import HEADER
from kora_daemon.http.listener import ListenerOptions
from tests.support.http import http_client
from tests.support.network import running_server

HERE = (ipaddress.ip_network("127.0.0.1/32"),)


@pytest.mark.parametrize("target", ["//x/health", "///health", "//x/__kora/status", "/x//health", "/%2fhealth"])
async def test_a_path_that_a_proxy_keeps_to_itself_has_no_other_name(target: str) -> None:
    async with running_server() as host, http_client(host.port) as client:
        assert (await client.ask(target)).status == 404


async def test_the_whole_url_of_a_request_is_its_path() -> None:
    async with running_server() as host, http_client(host.port) as client:
        assert (await client.ask("http://elsewhere/health")).status == 200


@pytest.mark.parametrize("length", ["5", "0"])
async def test_a_body_with_two_lengths_hides_no_second_request(length: str) -> None:
    head = f"POST / HTTP/1.1\r\nhost: x\r\n{HEADER}: a\r\ncontent-type: application/json\r\ncontent-length: {length}"
    hidden = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    async with running_server() as host, http_client(host.port) as client:
        await client.say(f"{head}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}".encode())
        answers = await client.rest()
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"content-length: ") == 1


async def test_whoever_comes_through_a_proxy_is_not_from_here() -> None:
    """Not even where the proxy is on this machine and says nothing of whom it forwards for."""
    trusting = ListenerOptions(port=0, trusted_proxies=HERE)
    async with running_server(listening=trusting) as host, http_client(host.port) as client:
        assert (await client.ask("/__kora/status")).status == 403
    async with running_server() as host, http_client(host.port) as client:
        assert (await client.ask("/__kora/status")).status == 200


@pytest.mark.parametrize("path", ["/__kora/events", "/__kora/tail"])
async def test_what_goes_on_ends_with_the_token(path: str) -> None:
    access = Access(Tokens("the old one"))
    async with running_server(access=access) as host, http_client(host.port) as client:
        answer = await client.follow(path, {"authorization": "Bearer the old one", "accept": "text/event-stream"})
        assert answer.status == 200
        access.tokens = Tokens("the new one")
        await host.server.apply(Mutation("insert", "secret", None, {}))
        heard = b""
        with trio.fail_after(20):
            while chunk := await client.some():
                heard += chunk
                host.server.journal.record("secret")
                await host.server.apply(Mutation("insert", "secret", None, {}))
    assert b"secret" not in heard
