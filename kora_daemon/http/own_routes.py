"""`[[routes]]`: requests that are answered by callables of the app's own."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
import trio
from msgspec import Struct

from kora_daemon.http.messages import DEFAULT_BODY_BYTES, HttpError, Request, Response
from kora_daemon.http.replies import response_of
from kora_daemon.http.routes import Route
from kora_daemon.server.data_plane import BlockingDataPlane
from kora_daemon.server.machine import NoThread
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.threads import ThreadPool

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ROOM_S = 1.0
"""How long a request waits for one of the calls that may run at a time; then it is 503."""
BODIES_PER_CALL = 4
"""How many requests with a body may be taken in for each call that may run: what they hold of memory has a limit."""
COME_AGAIN_S = 1

log = structlog.get_logger("kora.routes")


class RouteRequest(Struct, frozen=True):
    """What a callable gets. `path` is as it came, percent-encoded, with the prefix; header names are lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    address: str = "unknown"
    """Who asks: the peer, or whom a trusted proxy names."""


Handler = Callable[[RouteRequest, Any], Any]
"""Gets the data plane besides: a `DataPlane` when it is async, else a `BlockingDataPlane`."""


class OwnRoute(Struct, frozen=True):
    """A path, it and all below it, and what answers there; a call has `timeout_s` seconds."""

    path: str
    handle: Handler
    timeout_s: float = 30.0
    concurrency: int = 8
    max_body_bytes: int = DEFAULT_BODY_BYTES


class OwnRoutes:
    """Runs the calls. One that has begun goes on whether its caller waits or not, until its time is up."""

    def __init__(self, server: SyncServer, routes: Sequence[OwnRoute]) -> None:
        self._endpoints = [_Endpoint(one, server, self._start) for one in routes]
        self._calls: trio.Nursery | None = None
        self._finishing, self._finished = trio.Event(), trio.Event()

    def routes(self) -> list[Route]:
        """What is answered where."""
        return [Route(one.path, METHODS, one.answer, below=True) for one in self._endpoints]

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run calls until `finish`, then those that have begun to their end."""
        async with trio.open_nursery() as calls:
            self._calls = calls
            task_status.started()
            await self._finishing.wait()
            self._calls = None
        self._finished.set()

    async def finish(self, grace_s: float) -> None:
        """Begin no call any more; returns when those that have begun have ended, or have had so many seconds."""
        self._finishing.set()
        with trio.move_on_after(grace_s):
            await self._finished.wait()

    def _start(self, call: Callable[[], Awaitable[None]]) -> None:
        if self._calls is None:
            raise HttpError(503, "The server is shutting down")
        self._calls.start_soon(call)


class _Outcome:
    """Of one call; None as long as there is none, and when it was given up."""

    def __init__(self) -> None:
        self.known = trio.Event()
        self.response: Response | HttpError | None = None


class _Endpoint:
    """One callable and its limits."""

    def __init__(
        self, own: OwnRoute, server: SyncServer, start: Callable[[Callable[[], Awaitable[None]]], None]
    ) -> None:
        self.path = own.path.rstrip("/") or "/"
        self._own = own
        self._server = server
        self._start = start
        self._is_async = _is_async(own.handle)
        self._threads = ThreadPool("kora-route", own.concurrency)
        self._bodies = 0

    async def answer(self, request: Request) -> Response:
        """Call it. Raises HttpError when there is no room, or no time left, or the call fails."""
        with self._place_for_body(request):
            asked = RouteRequest(
                request.method,
                request.path,
                request.query,
                request.headers,
                await self._body(request),
                request.address,
            )
            outcome = _Outcome()
            self._start(lambda: self._serve(asked, outcome))
            await outcome.known.wait()
        if isinstance(outcome.response, Response):
            return outcome.response
        raise outcome.response or HttpError(503, "The server is shutting down")

    @contextmanager
    def _place_for_body(self, request: Request) -> Iterator[None]:
        if "content-length" not in request.headers and "transfer-encoding" not in request.headers:
            yield
            return
        if self._bodies >= BODIES_PER_CALL * self._own.concurrency:
            raise _busy()
        self._bodies += 1
        try:
            yield
        finally:
            self._bodies -= 1

    async def _body(self, request: Request) -> bytes:
        with trio.move_on_after(self._own.timeout_s):
            return await request.body.read(self._own.max_body_bytes)
        raise HttpError(408, f"The body did not come within {self._own.timeout_s:g} s")

    async def _serve(self, asked: RouteRequest, outcome: _Outcome) -> None:
        try:
            outcome.response = response_of(await self._called(asked))
        except HttpError as error:
            outcome.response = error
        except NoThread:
            outcome.response = _busy()
        except BaseException as error:
            if not _is_of_the_app(error):
                raise
            log.exception("routes.failed", path=self.path, method=asked.method)
            outcome.response = HttpError(500, "Something went wrong here; the log of the server says what")
        finally:
            outcome.known.set()

    async def _called(self, asked: RouteRequest) -> object:
        async with self._threads.place(ROOM_S) as place:
            if place is None:
                raise _busy()
            with trio.move_on_after(self._own.timeout_s):
                if self._is_async:
                    return await self._own.handle(asked, self._server.data)
                data = BlockingDataPlane(self._server.data)
                return await place.run_abandonable(lambda: _without_exit(self._own.handle, asked, data))
            raise self._too_slow()

    def _too_slow(self) -> HttpError:
        log.error("routes.hangs", path=self.path, seconds=self._own.timeout_s)
        return HttpError(504, "This takes too long")


def _is_async(handle: Handler) -> bool:
    return inspect.iscoroutinefunction(handle) or inspect.iscoroutinefunction(type(handle).__call__)


def _without_exit(handle: Handler, asked: RouteRequest, data: BlockingDataPlane) -> object:
    try:
        return handle(asked, data)
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError("it wants the process to exit") from error


def _is_of_the_app(error: BaseException) -> bool:
    """Whether an exception is anything but our taking leave of the call."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is not None
    return not isinstance(error, trio.Cancelled)


def _busy() -> HttpError:
    return HttpError(503, "Too many requests at a time", **{"retry-after": str(COME_AGAIN_S)})
