"""A device that polls through an nginx that buffers, and lets no WebSocket through."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio
import trio_websocket

from kora_daemon.http.listener import ListenerOptions
from tests.support.cli import ROOT
from tests.support.devices import insert, inserts
from tests.support.network import PATIENCE_S, connected, running_server, streaming
from tests.support.polling import PollingClient, polling

PAGE = (ROOT / "docs" / "http-polling.md").read_text()
CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; {location} }}
}}
"""


@contextmanager
def nginx(folder: Path, port: int, upstream: int) -> Iterator[None]:
    """nginx as the page has it, in front of a daemon on port `upstream`."""
    found = re.search(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    location = found[1].replace("127.0.0.1:4567", f"127.0.0.1:{upstream}")
    (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, port=port, location=location))
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", "stderr"])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


async def free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port: int = listener.socket.getsockname()[1]
        return port


async def until_it_answers(port: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.02)
            else:
                await stream.aclose()
                return


async def test_polls_pass_where_websockets_do_not(tmp_path: Path) -> None:
    port = await free_port()
    trusting = ListenerOptions(port=0, trusted_proxies=[ip_network("127.0.0.1")])
    async with running_server(path="/sync", listening=trusting) as host:
        with nginx(tmp_path, port, host.port):
            await until_it_answers(port)
            with pytest.raises(trio_websocket.HandshakeError):
                async with connected(f"ws://127.0.0.1:{port}/sync"):
                    pass
            async with streaming(host.url, "w") as w, polling(f"http://127.0.0.1:{port}/sync") as p:
                assert (await p.shake_hands("p"))["accepted"] is True
                await p.download()
                for number in range(1, 6):
                    await w.upload(insert("w", number))
                    assert (await w.hear())["type"] == "acknowledgment"
                    (batch,) = await p.download()
                    assert [one["id"] for one in batch["operations"]] == [f"w/{number}"]
                    message_id = await p.upload(insert("p", number))
                    assert (await p.hear())["acknowledgedMessageId"] == message_id
                    await w.download()
                await w.upload(*inserts("w", 6, 505))
                assert sum([len(batch["operations"]) for batch in await until_all(p, 500)]) == 500


async def until_all(p: PollingClient, operations: int) -> list[dict[str, list[object]]]:
    """Batches until so many operations have come."""
    batches: list[dict[str, list[object]]] = []
    while sum(len(batch["operations"]) for batch in batches) < operations:
        batches += await p.download()
    return batches
