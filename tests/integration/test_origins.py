"""Pages of other origins at the sync path: WebSockets, polls and what browsers ask before them."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio_websocket

from kora_daemon.http.listener import ListenerOptions
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from tests.integration.test_reload import HERE, running
from tests.support.http import http_client
from tests.support.network import Host, connected, running_server

APP, OTHER = "https://app.example.org", "https://elsewhere.example"
ALLOWING = ListenerOptions(port=0, allowed_origins=[APP])
QUICK = ServerOptions(polling=PollingOptions(hold_s=0))
TARGET = "/?clientId=a"


async def may_upgrade(url: str, origin: str | None) -> bool:
    """Whether a WebSocket opens for a page of this origin."""
    try:
        async with connected(url, extra_headers=[] if origin is None else [("origin", origin.encode())]) as client:
            return (await client.shake_hands("a"))["accepted"] is True
    except trio_websocket.ConnectionRejected as rejected:
        return rejected.status_code != 403


def own(host: Host) -> str:
    return f"http://127.0.0.1:{host.port}"


@pytest.mark.parametrize("allowed", [(), (APP,), ("*",)])
async def test_who_may_open_a_websocket(allowed: tuple[str, ...]) -> None:
    async with running_server(listening=ListenerOptions(port=0, allowed_origins=allowed)) as host:
        assert await may_upgrade(host.url, None)
        assert await may_upgrade(host.url, own(host))
        assert await may_upgrade(host.url, APP)
        assert await may_upgrade(host.url, OTHER) is (allowed != (APP,))


@pytest.mark.parametrize("allowed", [(), (APP,), ("*",)])
async def test_who_may_poll(allowed: tuple[str, ...]) -> None:
    listening = ListenerOptions(port=0, allowed_origins=allowed)
    async with running_server(options=QUICK, listening=listening) as host, http_client(host.port) as client:
        for origin, may in ((own(host), True), (APP, allowed != ()), (OTHER, allowed == ("*",))):
            headers = {"host": f"127.0.0.1:{host.port}", "origin": origin}
            answer = await client.ask(TARGET, headers=headers)
            assert answer.status == (204 if may else 403), origin
            assert ("access-control-allow-origin" in answer.headers) is (may and origin != own(host))
            posted = await client.ask(TARGET, "POST", b"", {**headers, "content-type": "application/json"})
            assert posted.status == (400 if may else 403)
            # Also what goes wrong can be read.
            assert posted.headers.get("access-control-allow-origin") == answer.headers.get(
                "access-control-allow-origin"
            )


async def test_a_browser_may_ask_before_it_sends() -> None:
    async with running_server(listening=ALLOWING) as host, http_client(host.port) as client:
        headers = {"origin": APP, "access-control-request-method": "POST"}
        answer = await client.ask(TARGET, "OPTIONS", headers=headers)
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["vary"] == "origin"
        refused = await client.ask(TARGET, "OPTIONS", headers={**headers, "origin": OTHER})
        assert refused.status == 403
        assert not any(name.startswith("access-control") for name in refused.headers)


async def test_other_paths_know_no_origins() -> None:
    async with running_server(listening=ListenerOptions(port=0, allowed_origins=["*"])) as host:
        async with http_client(host.port) as client:
            assert (await client.ask("/health", "OPTIONS", headers={"origin": APP})).status == 405
            answer = await client.ask("/health", headers={"origin": APP})
            assert not any(name.startswith("access-control") for name in answer.headers)


async def test_origins_change_at_a_reload(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, http_client(daemon.port) as client:
        headers = {"origin": OTHER}
        assert await may_upgrade(daemon.url, OTHER)
        assert (await client.ask(TARGET, "OPTIONS", headers=headers)).status == 403
        done = await daemon.reload(HERE.format(f'allowed_origins = ["{APP}"]\n'))
        assert done.applied == ("server.allowed_origins",)
        assert not await may_upgrade(daemon.url, OTHER)
        assert await may_upgrade(daemon.url, APP)
        await daemon.reload(HERE.format('allowed_origins = ["*"]\n'))
        assert (await client.ask(TARGET, "OPTIONS", headers=headers)).status == 204


async def test_polling_changes_at_a_reload(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, http_client(daemon.port) as client:
        await daemon.reload(HERE.format("") + "[limits]\npoll_hold = 0\nmax_polling_sessions = 1\n")
        assert (await client.ask(TARGET)).status == 204
        assert (await client.ask("/?clientId=b")).status == 503
