"""A headless Chromium (`apt install chromium`), driven over its DevTools protocol.

    async with chromium() as browser:
        page = await browser.page()
        await page.open(url)
        await page.type("input[name=title]", "Paint")
        await page.press("Enter")
        await page.until("document.querySelectorAll('li').length === 1")

Whatever is not here, `Page.send` does: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import trio
import trio_websocket

PROGRAM = "chromium"
START_S = 30.0
PATIENCE_S = 10.0
"""How long a page may take for something that has to happen."""
_FLAGS = (
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_KEYS = {"Enter": "\r", "Tab": "\t", "Space": " ", "Escape": "", "Backspace": ""}
_KEY_CODES = {"Enter": 13, "Tab": 9, "Space": 32, "Escape": 27, "Backspace": 8, "ArrowUp": 38, "ArrowDown": 40}
_KEY_CODES |= {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "PageUp": 33, "PageDown": 34}


class PageError(AssertionError):
    """JavaScript that raised, or a command that the browser refused."""


class Navigated(PageError):
    """The page went while it was asked something."""


class _Devtools:
    """Commands and their answers on one WebSocket; what the browser tells by itself goes to the page it is about."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection) -> None:
        self._websocket = websocket
        self._count = 0
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self.pages: dict[str, Page] = {}

    async def listen(self) -> None:
        with suppress(trio_websocket.ConnectionClosed):
            while True:
                message: dict[str, Any] = json.loads(await self._websocket.get_message())
                if "id" in message:
                    self._waiting.pop(message["id"]).send_nowait(message)
                elif (page := self.pages.get(message.get("sessionId", ""))) is not None:
                    page.heard(message["method"], message["params"])

    async def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """A command and what it returns. Raises PageError when the browser refuses."""
        self._count += 1
        number = self._count
        command = {"id": number, "method": method, "params": params}
        answer, answered = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[number] = answer
        await self._websocket.send_message(json.dumps(command | ({"sessionId": session} if session else {})))
        with trio.fail_after(START_S):
            message = await answered.receive()
        if "error" in message:
            text = message["error"]["message"]
            raise (Navigated if "navigated" in text else PageError)(f"{method}: {text}")
        result: dict[str, Any] = message["result"]
        return result


class Page:
    """A tab of its own. `errors` has what went wrong in it: exceptions, failed loads, console.error."""

    def __init__(self, devtools: _Devtools, target: str, session: str) -> None:
        self._devtools = devtools
        self._target = target
        self._session = session
        self._loaded = trio.Event()
        self.errors: list[str] = []

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Something happened in the page."""
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            self.errors.append(_exception_text(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Any command of the DevTools protocol, in this page."""
        return await self._devtools.send(method, self._session, **params)

    async def open(self, url: str) -> None:
        """Go there; returns when the page has loaded. Raises PageError when nothing can be loaded."""
        self._loaded = trio.Event()
        gone = await self.send("Page.navigate", url=url)
        if gone.get("errorText"):
            raise PageError(f"{url}: {gone['errorText']}")
        if "loaderId" not in gone:
            return  # another place of the same page
        with trio.fail_after(START_S):
            await self._loaded.wait()

    async def reload(self) -> None:
        """As with F5."""
        self._loaded = trio.Event()
        await self.send("Page.reload")
        with trio.fail_after(START_S):
            await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; one that is a promise is waited for. Raises PageError."""
        done = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in done:
            raise PageError(f"{expression}: {_exception_text(done['exceptionDetails'])}")
        return done["result"].get("value")

    async def until(self, expression: str, patience_s: float = PATIENCE_S) -> Any:
        """The first value of an expression that is true to JavaScript. Raises PageError when there is none."""
        with trio.move_on_after(patience_s):
            while True:
                with suppress(Navigated):  # the page that was asked has made room for another one
                    if value := await self.evaluate(expression):
                        return value
                await trio.sleep(0.02)
        raise PageError(f"never true: {expression}; errors: {self.errors}; page: {await self.text()}")

    async def text(self) -> str:
        """What can be read on the page."""
        return str(await self.evaluate("document.body ? document.body.innerText : ''"))

    async def click(self, selector: str) -> None:
        """Click into the middle of an element, as soon as it is there, with the mouse: whatever is above it gets it."""
        x, y = await self.until(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); if (!one) return null;"
            "one.scrollIntoView({block: 'center', behavior: 'instant'}); const box = one.getBoundingClientRect();"
            "return box.width && box.height ? [box.x + box.width / 2, box.y + box.height / 2] : null })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = "none" if kind == "mouseMoved" else "left"
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1)

    async def type(self, selector: str, text: str) -> None:
        """Click an element and type; what is in it stays."""
        await self.click(selector)
        await self.send("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """Press a key: a character, or Enter, Tab, Space, Escape, Backspace, ArrowDown and the like."""
        text = _KEYS.get(key, key if len(key) == 1 else "")
        named = {"key": " " if key == "Space" else key, "code": key if len(key) > 1 else f"Key{key.upper()}"}
        number = _KEY_CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
        down = {**named, "windowsVirtualKeyCode": number, **({"text": text} if text else {})}
        await self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **down)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **named, windowsVirtualKeyCode=number)

    async def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """A PNG of what is to be seen, or of the whole page."""
        taken = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))
        return path

    async def emulate(
        self, *, dark: bool = False, phone: bool = False, reduced_motion: bool = False, width: int = 1280
    ) -> None:
        """A device: its colour scheme, its screen (a phone's has 390 × 844 points and is touched)."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"},
        ]
        await self.send("Emulation.setEmulatedMedia", features=features)
        screen: dict[str, Any] = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        if phone:
            screen = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        await self.send("Emulation.setDeviceMetricsOverride", **screen)
        await self.send("Emulation.setTouchEmulationEnabled", enabled=phone)

    async def accessibility(self) -> list[tuple[str, str]]:
        """What a screen reader finds: (role, name) of everything that is not ignored, from top to bottom."""
        tree = await self.send("Accessibility.getFullAXTree")
        return [
            (str(one["role"]["value"]), str(one.get("name", {}).get("value", "")))
            for one in tree["nodes"]
            if not one["ignored"] and one["role"]["value"] not in ("generic", "none", "InlineTextBox")
        ]

    async def close(self) -> None:
        """Close the tab."""
        await self._devtools.send("Target.closeTarget", targetId=self._target)


class Chromium:
    """A running browser."""

    def __init__(self, devtools: _Devtools) -> None:
        self._devtools = devtools

    async def page(self) -> Page:
        """A new tab that shares nothing with the others: no cookies, no storage."""
        context = await self._devtools.send("Target.createBrowserContext")
        target = await self._devtools.send("Target.createTarget", url="about:blank", **context)
        attached = await self._devtools.send("Target.attachToTarget", **target, flatten=True)
        page = Page(self._devtools, target["targetId"], attached["sessionId"])
        self._devtools.pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Log"):
            await page.send(f"{domain}.enable")
        return page


@asynccontextmanager
async def chromium() -> AsyncIterator[Chromium]:
    """A browser with a profile of its own, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        with _started(Path(profile)) as process:
            url = await _devtools_url(Path(profile), process)
            async with trio_websocket.open_websocket_url(url, max_message_size=1 << 28) as websocket:
                devtools = _Devtools(websocket)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(devtools.listen)
                    yield Chromium(devtools)
                    nursery.cancel_scope.cancel()


@contextmanager
def _started(profile: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.which(PROGRAM)
    assert program is not None, f"there is no {PROGRAM}: apt install {PROGRAM}"
    with (profile / "stderr").open("wb") as log:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with all of its own children
        process.wait()


async def _devtools_url(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the browser listens: it writes that into its profile."""
    file = profile / "DevToolsActivePort"
    deadline = trio.current_time() + START_S
    while trio.current_time() < deadline and process.poll() is None:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await trio.sleep(0.02)
    raise PageError(f"{PROGRAM} did not start: {(profile / 'stderr').read_text(errors='replace')[-2000:]}")


def _exception_text(details: dict[str, Any]) -> str:
    exception = details.get("exception", {})
    return str(exception.get("description") or exception.get("value") or details.get("text"))
