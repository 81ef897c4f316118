"""What the pages about HTTP promise is done: their curl commands are asked of a daemon, their code runs in it."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.test_docs import Block, blocks
from tests.support.http import Answer, http_client
from tests.support.process import Daemon

TOKEN = "t0ken"
SECRET = "shared with the shop"
HERE = '\n[server]\nhost = "127.0.0.1"\nport = 0\n'


@contextmanager
def daemon_of(page: str, folder: Path) -> Iterator[Daemon]:
    """A daemon that runs with the files of a page, on a free port."""
    (folder / "schema.toml").write_text(blocks("schema.md", "toml")[0].text)
    for block in blocks(page):
        if block.file is not None:
            (folder / block.file).write_text(block.text)
    environment = {"KORA_DATA_TOKEN": TOKEN, "SHOP_WEBHOOK_SECRET": SECRET}
    with Daemon(folder, (folder / "kora.toml").read_text() + HERE, environment) as daemon:
        yield daemon


async def curl(command: str, port: int) -> Answer:
    """What curl would do; the examples use -H and -d."""
    program, *words = shlex.split(command)
    assert program == "curl"
    headers: dict[str, str] = {}
    target, body = "", b""
    while words:
        word = os.path.expandvars(words.pop(0))
        if word == "-H":
            name, _, value = os.path.expandvars(words.pop(0)).partition(": ")
            headers[name.lower()] = value
        elif word == "-d":
            body = words.pop(0).encode()
        else:
            assert word.startswith("http://localhost:4567/"), word
            target = word.removeprefix("http://localhost:4567")
    async with http_client(port) as client:
        return await client.ask(target, "POST" if body else "GET", body, headers)


async def test_the_data_page_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORA_DATA_TOKEN", TOKEN)
    asked = 0
    with daemon_of("data-api.md", tmp_path) as daemon:
        for block in blocks("data-api.md", "console"):
            for command, expected in _commands(block):
                printed = (await curl(command, daemon.port)).body.decode().strip()
                assert re.fullmatch(re.escape(expected).replace("…", ".*"), printed), (command, printed)
                asked += 1
    assert asked == 9


def _commands(block: Block) -> Iterator[tuple[str, str]]:
    for typed in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, printed = typed.strip().split("\n")
        yield command, printed


async def test_the_routes_of_their_page_answer(tmp_path: Path) -> None:
    order = json.dumps({"id": 17, "seller": "ali"}).encode()
    signature = hmac.new(SECRET.encode(), order, hashlib.sha256).hexdigest()
    with daemon_of("routes.md", tmp_path) as daemon:
        async with http_client(daemon.port) as client:
            for wrong in ("", "0" * 64, signature.upper(), "\u00e9"):
                head = f"POST /hooks/shop HTTP/1.1\r\nhost: x\r\ncontent-length: {len(order)}\r\n"
                await client.say(f"{head}x-shop-signature: {wrong}\r\n\r\n".encode("latin-1") + order)
                assert (await client.hear("POST")).status == 401
            signed = {"x-shop-signature": signature}
            for result in ("applied", "repeated"):
                answer = await client.ask("/hooks/shop", "POST", order, signed)
                assert (answer.status, answer.json) == (200, {"task": "order-17", "result": result})
            changed = order.replace(b"17", b"18")
            assert (await client.ask("/hooks/shop", "POST", changed, signed)).status == 401
            assert (await client.ask("/hooks/shop")).headers["allow"] == "POST"
            nonsense = hmac.new(SECRET.encode(), b"{}", hashlib.sha256).hexdigest()
            assert (await client.ask("/hooks/shop", "POST", b"{}", {"x-shop-signature": nonsense})).status == 500
            assert (await client.ask("/api/open-tasks")).json == {"open": 1}
        assert daemon.stop() == 0
    assert "KeyError" in daemon.logged()


async def test_the_static_page_can_be_followed(tmp_path: Path) -> None:
    (tmp_path / "dist" / "assets").mkdir(parents=True)
    (tmp_path / "dist" / "index.html").write_text("<title>One</title>")
    (tmp_path / "dist" / "assets" / "logo-DiwrgTda.js").write_text("1")
    (tmp_path / "dist" / "assets" / "sqlite3.wasm").write_text("1")
    (tmp_path / "dist" / "assets" / "app-B3fK9zQ1.js").write_text("1")
    for block in blocks("static.md", "sh"):
        subprocess.run(["bash", "-euc", block.text], cwd=tmp_path, timeout=60, check=True)
        (tmp_path / "dist" / "index.html").write_text("<title>Two</title>")
    assert (tmp_path / "current" / "index.html").read_text() == "<title>Two</title>"
    with daemon_of("static.md", tmp_path) as daemon:
        async with http_client(daemon.port) as client:
            assert (await client.ask("/")).body == b"<title>Two</title>"
            packed = await client.ask("/assets/app-B3fK9zQ1.js", headers={"accept-encoding": "gzip"})
            assert packed.headers["content-encoding"] == "gzip"
            assert "immutable" in packed.headers["cache-control"]
            assert "immutable" not in (await client.ask("/assets/logo-DiwrgTda.js")).headers["cache-control"]
    os.replace(tmp_path / "cached.toml", tmp_path / "kora.toml")
    with Daemon(tmp_path, (tmp_path / "kora.toml").read_text() + HERE) as daemon:
        async with http_client(daemon.port) as client:
            assert "immutable" in (await client.ask("/assets/logo-DiwrgTda.js")).headers["cache-control"]
            assert "immutable" not in (await client.ask("/assets/sqlite3.wasm")).headers["cache-control"]
