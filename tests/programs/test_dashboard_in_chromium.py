"""The dashboard in a real browser: signing in, numbers that move, refusals that show up, by keyboard, on a phone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kora_daemon.http.access import Access, Tokens
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server.options import ServerOptions
from tests.support.chromium import Page, chromium
from tests.support.devices import insert
from tests.support.network import Host, running_server, streaming

TOKEN = "s3cret"
SCREEN_READER_FINDS = [
    ("heading", "Kora Daemon"),
    ("status", ""),
    ("button", "Pause"),
    ("button", "Sign out"),
    ("heading", "Clients"),
    ("heading", "Operations per second"),
    ("heading", "Write to acknowledgment"),
    ("heading", "Write to delivery"),
    ("heading", "Slowest sessions"),
    ("heading", "Recent events"),
]


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    options = ServerOptions(uploads=UploadLimits(1_000, 1_000, 0))
    async with running_server(options=options, access=Access(Tokens(TOKEN))) as running:
        yield running


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with chromium() as browser:
        yield await browser.page()


async def sign_in(page: Page, host: Host) -> None:
    """By keyboard alone: the field has the focus."""
    await page.open(f"http://127.0.0.1:{host.port}/__kora")
    await page.until("document.activeElement.id === 'token'")
    await page.send("Input.insertText", text=TOKEN)
    await page.press("Enter")
    await page.until("document.querySelector('#state')?.textContent === 'all is well'")


async def test_signing_in_and_out(page: Page, host: Host) -> None:
    await page.open(f"http://127.0.0.1:{host.port}/__kora")
    await page.type("#token", "wrong")
    await page.press("Enter")
    await page.until("document.querySelector('#problem').textContent === 'That is not the admin token.'")
    await sign_in(page, host)
    await page.reload()
    await page.until("document.querySelector('#state')?.textContent === 'all is well'")
    assert TOKEN not in await page.evaluate("document.cookie + JSON.stringify(localStorage) + document.body.innerHTML")
    await page.click("#sign-out")
    await page.until("document.querySelector('#token') !== null")


async def test_numbers_move_and_a_refused_operation_shows_up(page: Page, host: Host) -> None:
    await sign_in(page, host)
    assert await page.evaluate("document.querySelector('#clients').textContent") == "0"
    async with streaming(host.url, "desk") as desk, streaming(host.url, "phone"):
        await page.until("document.querySelector('#clients').textContent === '2'")
        for number in range(1, 21):
            await desk.upload(insert("desk", number))
            await desk.hear()
        await page.until("document.querySelector('#log').textContent === '20'")
        await page.until("document.querySelector('#deliveries').textContent !== '0.0'")
        await page.until("document.querySelector('.plot polyline').getAttribute('points').length > 10")
        await desk.upload(insert("desk", 21, title="x" * 2_000))
        await page.until("document.querySelector('#codes').textContent.includes('OPERATION_TOO_LARGE')")
        await page.until("document.querySelector('#events').textContent.includes('code=OPERATION_TOO_LARGE')")
        await page.until("document.querySelector('#refused').textContent === '1'")
    await page.until("document.querySelector('#events').textContent.includes('session.closed')")
    await page.until("document.querySelector('#clients').textContent === '0'")
    assert [one for one in page.errors if "401" not in one] == []


async def test_a_device_can_not_write_into_the_page(page: Page, host: Host) -> None:
    name = "<img src=x onerror=alert(1)>"
    async with streaming(host.url, name):
        await sign_in(page, host)
        await page.until("document.querySelector('#events').textContent.includes('onerror')")
        assert await page.evaluate("document.querySelectorAll('img').length") == 0


async def test_it_holds_still_when_paused(page: Page, host: Host) -> None:
    await sign_in(page, host)
    await page.click("#pause")
    assert await page.evaluate("document.querySelector('#pause').getAttribute('aria-pressed')") == "true"
    async with streaming(host.url, "desk"):
        # Two statuses have come when the points that are kept for the plots say so.
        await page.until("history.clients.filter((clients) => clients === 1).length >= 1")
        assert await page.evaluate("document.querySelector('#clients').textContent") == "0"
        await page.click("#pause")
        await page.until("document.querySelector('#clients').textContent === '1'")


async def test_screen_readers_and_keyboards_get_to_everything(page: Page, host: Host) -> None:
    await sign_in(page, host)
    found = await page.accessibility()
    assert [one for one in SCREEN_READER_FINDS if one not in found] == []
    images = [name for role, name in found if role == "image"]
    assert len(images) == 4
    assert all("at most" in name for name in images)
    focused = []
    for _ in range(8):
        await page.press("Tab")
        focused.append(await page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert focused[:3] == ["skip", "pause", "sign-out"]
    assert "events" in focused


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("phone", [False, True])
async def test_it_can_be_read_in_dark_and_light_and_on_a_phone(
    page: Page, host: Host, dark: bool, phone: bool, tmp_path: Path
) -> None:
    await page.emulate(dark=dark, phone=phone)
    await sign_in(page, host)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    text, back = await page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        ".map((color) => color.match(/\\d+/g).map(Number).reduce((sum, part) => sum + part, 0))"
    )
    assert (text > back) is dark
    assert abs(text - back) > 500
    assert (await page.screenshot(tmp_path / "dashboard.png", whole=True)).stat().st_size > 10_000
