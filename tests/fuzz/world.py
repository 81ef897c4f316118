"""A whole server beside whoever fuzzes: connections over streams in memory, in an event loop of its own."""

from __future__ import annotations

import ipaddress
import tempfile
import threading
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import structlog
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.http.access import Access, Tokens
from kora_daemon.http.connection import Caller, HttpConnection
from kora_daemon.http.listener import Listener, ListenerOptions
from kora_daemon.http.static_files import AppFiles
from kora_daemon.http.surface import Extras, surface
from kora_daemon.schema_file import load_schema
from kora_daemon.server import intake
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.memory import MemoryStore
from tests.fuzz.seeds import DATA
from tests.fuzz.target import Disagreement

TOKEN = "t0ken"
ORIGIN = "https://app.example"
PATH = "/kora-sync"
_PATIENCE_S = 20.0
_UNTIL_HANGUP_S = 0.005
"""So long the peer waits for more of an answer that goes on."""
_LONG_ENOUGH = 65_536


class Script(trio.abc.Stream):
    """A peer that says what it has to say, reads whatever comes, and hangs up."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._speaker = trio.lowlevel.current_task()
        self.heard = bytearray()
        self.patience = trio.CancelScope(deadline=trio.current_time() + _PATIENCE_S)
        self.goes_on = False
        """It hears an answer that may have no end."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next piece, however small the server wants it."""
        await trio.lowlevel.checkpoint()
        piece = bytes(self._data[: max_bytes or _LONG_ENOUGH])
        self._data = self._data[len(piece) :]
        if not piece and trio.lowlevel.current_task() is not self._speaker:
            # Asked while an answer is under way: whoever asked is told of the hang-up, unless the answer ends before.
            await trio.sleep(_UNTIL_HANGUP_S)
        return piece

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """What the server says."""
        await trio.lowlevel.checkpoint()
        if b"transfer-encoding: chunked" in bytes(data[:1_000]).lower():
            self.goes_on = True
            self.patience.deadline = trio.current_time() + 2 * _UNTIL_HANGUP_S
        if len(self.heard) < _LONG_ENOUGH:
            self.heard += data

    async def wait_send_all_might_not_block(self) -> None:
        """It never does."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Nothing to be closed."""
        await trio.lowlevel.checkpoint()


class World:
    """The server. `connect` lets a peer say something, and returns what it was answered."""

    def __init__(self) -> None:
        self._crashes: list[str] = []
        self._token: trio.lowlevel.TrioToken | None = None
        self._ready = threading.Event()
        self._folder = tempfile.TemporaryDirectory(prefix="kora-fuzz-", ignore_cleanup_errors=True)
        structlog.configure(processors=[self._note])
        # Uploads wait so long for the handshake that never came, and their connections with them.
        intake.ORDER_PATIENCE_S = 2 * _UNTIL_HANGUP_S
        threading.Thread(target=trio.run, args=(self._run,), daemon=True).start()
        if not self._ready.wait(_PATIENCE_S):
            raise RuntimeError("the server did not start")

    def _note(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> NoReturn:
        """Crashes are stopped at a barrier: nobody but the log would tell."""
        if str(event["event"]).endswith(("crashed", "http.failed", "batch_failed")):
            self._crashes.append(f"{event}\n{traceback.format_exc()}")
        raise structlog.DropEvent

    async def _run(self) -> None:
        app = Path(self._folder.name) / "app"
        (app / "assets").mkdir(parents=True)
        for name in ("index.html", "assets/index-BrTc72k9.js", "caf\xe9.txt"):
            (app / name).write_bytes(b"content " * 100)
        options = ServerOptions(
            max_unauthenticated=0,
            max_unauthenticated_per_address=0,
            apply=ApplyRules(load_schema(DATA / "wire" / "schema.json")),
            handshake_timeout=0.2,
            refusal_delay=0.0,
            polling=PollingOptions(hold_s=_UNTIL_HANGUP_S, idle_s=0.5),
        )
        blobs = DirectoryBlobs(Path(self._folder.name) / "blobs")
        self._server = SyncServer(MemoryStore(), NoAuthProvider(), options, blobs)
        self._routes = surface(self._server, PATH, Access(Tokens(TOKEN, data=TOKEN)), Extras(app=AppFiles(app)))
        proxies = [ipaddress.ip_network("127.0.0.0/8")]
        self._listener = Listener(
            self._server, self._routes, ListenerOptions(trusted_proxies=proxies, allowed_origins=[ORIGIN])
        )
        async with trio.open_nursery() as nursery:
            await self._server.start(nursery)
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()

    def connect(self, data: bytes) -> bytes:
        """What comes of these bytes. Raises Disagreement for a crash, or when it does not come to an end."""
        self._crashes.clear()
        heard = trio.from_thread.run(self._serve, data, trio_token=self._token)
        if self._crashes:
            raise Disagreement(f"a crash: {self._crashes[0][-3_000:]}")
        return heard

    async def _serve(self, data: bytes) -> bytes:
        script = Script(data)
        listener = self._listener
        caller = Caller(
            lambda headers: listener._address("127.0.0.1", headers),
            is_secure_of=lambda headers: listener._is_secure("127.0.0.1", headers),
        )
        with script.patience:
            try:
                upgrade = await HttpConnection(
                    script, caller, self._routes.answer, self._routes.accepts_upgrade
                ).serve()
                if upgrade is not None:
                    await self._server.handle_connection(*listener._upgrade(script, upgrade))
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        if script.patience.cancelled_caught and not script.goes_on:
            raise Disagreement("a connection that does not end when its peer has hung up")
        return bytes(script.heard)


@cache
def world() -> World:
    """The one of this process."""
    with suppress(RuntimeError):
        return World()
    raise Disagreement("no server")
