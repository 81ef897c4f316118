"""A built single-page app in a real browser: served by the daemon and synced through it, on one path."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Chromium, Page, chromium
from tests.support.http import http_client
from tests.support.process import Daemon

APP = Path(__file__).parent / "data" / "app"
CONFIG = """
schema = "schema.toml"
[server]
host = "127.0.0.1"
port = 0
[static]
directory = "dist"
[admin]
data_token = "t0ken"
"""
SCHEMA = """
version = 1
[collections.todos.fields]
title = "string"
"""
WASM = b"\0asm\x01\0\0\0"
SHARED = """
new Promise((resolve, reject) => {
  const shared = new SharedArrayBuffer(4)
  const worker = new Worker('/assets/storage-C7hL2wN5.js')
  worker.onerror = (event) => reject(new Error(event.message))
  worker.onmessage = () => resolve(new Int32Array(shared)[0])
  worker.postMessage(shared)
})
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """With the app, and something to compile."""
    shutil.copytree(APP, tmp_path / "dist")
    (tmp_path / "dist" / "module.wasm").write_bytes(WASM)
    (tmp_path / "schema.toml").write_text(SCHEMA)
    with Daemon(tmp_path, CONFIG) as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Chromium]:
    async with chromium() as running:
        yield running


def url(daemon: Daemon, path: str = "/") -> str:
    return f"http://127.0.0.1:{daemon.port}{path}"


async def opened(browser: Chromium, daemon: Daemon, path: str = "/") -> Page:
    """A tab in which the app has connected."""
    page = await browser.page()
    await page.open(url(daemon, path))
    await page.until("document.querySelector('[role=status]').textContent === 'connected'")
    return page


async def add(page: Page, title: str) -> None:
    await page.type("input[name=title]", title)
    await page.press("Enter")


def has(title: str) -> str:
    return f"[...document.querySelectorAll('li')].some((one) => one.textContent === {title!r})"


async def test_an_app_is_served_and_syncs_live(browser: Chromium, daemon: Daemon) -> None:
    one = await opened(browser, daemon)
    other = await opened(browser, daemon, "/lists/42")
    await add(one, "Paint")
    await one.until("document.querySelector('[role=status]').textContent === 'stored 1'")
    await other.until(has("Paint"))
    await add(other, "Roof")
    await one.until(has("Roof"))
    async with http_client(daemon.port) as client:
        stored = await client.ask("/__kora/data/todos", headers={"authorization": "Bearer t0ken"})
    assert {record["title"] for record in stored.json["records"]} == {"Paint", "Roof"}
    late = await opened(browser, daemon)
    await late.until(f"{has('Paint')} && {has('Roof')}")
    for page in (one, other, late):
        # The browser asks for an icon by itself, and this app has none.
        assert [error for error in page.errors if "favicon" not in error] == []


async def test_a_page_may_do_what_a_database_in_a_browser_needs_and_no_more(browser: Chromium, daemon: Daemon) -> None:
    page = await opened(browser, daemon)
    assert await page.evaluate("crossOriginIsolated") is True
    assert await page.evaluate(SHARED) == len("kept")
    assert await page.evaluate("WebAssembly.compileStreaming(fetch('/module.wasm')).then(String)") == (
        "[object WebAssembly.Module]"
    )
    for path, status in (("/assets/gone-B3fK9zQ2.js", 404), ("/lists/42", 404), ("/__kora/data/todos", 401)):
        assert await page.evaluate(f"fetch('{path}').then((answer) => answer.status)") == status


async def test_what_has_a_hash_is_loaded_once_and_a_new_app_is_seen_at_once(browser: Chromium, daemon: Daemon) -> None:
    page = await opened(browser, daemon)
    script = "performance.getEntriesByType('resource').find((one) => one.name.endsWith('app-B3fK9zQ1.js'))"
    assert await page.evaluate(f"{script}.transferSize") > 0
    await page.reload()
    await page.until(f"Boolean({script})")
    assert await page.evaluate(f"{script}.transferSize") == 0
    index = daemon.folder / "dist" / "index.html"
    index.write_text(index.read_text().replace("<h1>Todos</h1>", "<h1>Tasks</h1>"))
    await page.reload()
    assert await page.evaluate("document.querySelector('h1').textContent") == "Tasks"
