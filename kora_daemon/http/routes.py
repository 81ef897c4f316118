"""What is answered under which path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from kora_daemon.http.access import Access, Role
from kora_daemon.http.messages import HttpError, Request, Response
from kora_daemon.http.origins import Origins


class Route(Struct, frozen=True):
    """A path, or everything below it, and what answers there. Without a `role` everybody may ask.

    Who may GET may HEAD.
    """

    path: str
    methods: tuple[str, ...]
    answer: Callable[[Request], Awaitable[Response]]
    role: Role | None = None
    below: bool = False
    """Also all paths that begin with it and a slash."""
    refusal: Callable[[HttpError], Response] | None = None
    """What whoever asks is told of an error, None for the sentence alone."""


class Routes:
    """Finds the route of a request: the path itself, else the longest one above it."""

    def __init__(self, access: Access, routes: Iterable[Route], sync_path: str, origins: Origins | None = None) -> None:
        self._access = access
        self._sync_path = sync_path
        self.origins = origins or Origins()
        self._exact: dict[str, list[Route]] = {}
        self._above: dict[str, list[Route]] = {}
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """Answer there, too; of two routes for the same the first one counts."""
        self._exact.setdefault(route.path, []).append(route)
        if route.below:
            self._above.setdefault(route.path.rstrip("/"), []).append(route)

    def accepts_upgrade(self, request: Request) -> bool:
        """Whether a WebSocket may be opened here, from this page; what may not is answered like a plain request."""
        return (
            request.path == self._sync_path
            and request.method == "GET"
            and request.headers.get("sec-websocket-version") == "13"
            and "sec-websocket-key" in request.headers
            and self.origins.let_upgrade(request)
        )

    async def answer(self, request: Request) -> Response:
        """The answer to a plain request. Raises HttpError for one that is none of ours, or not for whoever asks."""
        found = self._find(request.path)
        if not found:
            raise HttpError(
                404, f"Nothing here. Devices connect to {self._sync_path}, /health tells how this server is"
            )
        try:
            return await self._answer(request, found)
        except HttpError as error:
            if found[0].refusal is None:
                raise
            return found[0].refusal(error)

    async def _answer(self, request: Request, found: list[Route]) -> Response:
        wanted = "GET" if request.method == "HEAD" else request.method
        for route in found:
            if wanted in route.methods:
                if route.role is None:
                    return await route.answer(request)
                self._access.require(request, route.role)
                response = await route.answer(request)
                if isinstance(response.body, bytes):
                    return response
                may_still = partial(self._access.require, request, route.role)
                return replace(response, body=_WhileAllowed(response.body, may_still))
        possible = sorted({method for route in found for method in route.methods} - {"OPTIONS"})
        if "GET" in possible and found[0].path != self._sync_path:
            possible.insert(1, "HEAD")
        raise HttpError(405, f"{request.method} is not possible here", allow=", ".join(possible))

    def _find(self, path: str) -> list[Route]:
        if path in self._exact:
            return self._exact[path]
        while path.startswith("/"):
            path = path.rpartition("/")[0]
            if path in self._above:
                return self._above[path]
        return []


class _WhileAllowed:
    """The pieces of an answer, as long as whoever asked may ask: a token may be replaced, a cookie end meanwhile."""

    def __init__(self, pieces: AsyncIterator[bytes], require: Callable[[], None]) -> None:
        self._pieces: Any = pieces
        self._require = require

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece: bytes = await self._pieces.__anext__()
        try:
            self._require()
        except HttpError as error:
            raise trio.BrokenResourceError("whoever asked may not any more") from error
        return piece

    async def aclose(self) -> None:
        """End it."""
        await self._pieces.aclose()
