"""Every path, every method, every token, from here and from elsewhere: what is answered, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product

import pytest
import trio

from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.http.access import Access, Tokens
from kora_daemon.http.messages import HttpError, Request
from kora_daemon.http.routes import Routes
from kora_daemon.http.surface import surface
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.store.memory import MemoryStore

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get")
PATHS: dict[str, tuple[str, tuple[str, ...]]] = {
    "/health": ("", ("GET",)),
    "/ready": ("", ("GET",)),
    "/__kora/status": ("admin", ("GET",)),
    "/__kora/sessions": ("admin", ("GET", "POST")),
    "/__kora/sessions/1/kick": ("admin", ("POST",)),
    "/__kora/kick": ("admin", ("POST",)),
    "/__kora/events": ("admin", ("GET",)),
    "/__kora/tail": ("admin", ("GET",)),
    "/__kora/explain": ("admin", ("GET",)),
    "/__kora/sign-in": ("admin", ("POST",)),
    "/__kora/metrics": ("metrics", ("GET",)),
    "/__kora/backup/export": ("backup", ("POST",)),
    "/__kora/backup/import": ("backup", ("POST",)),
    "/__kora/data": ("data", ("GET",)),
    "/__kora/data/apply": ("data", ("POST",)),
    "/__kora/openapi.json": ("data", ("GET",)),
}
"""Who may ask for a path, and how."""
TOKENS = {
    "none": Tokens(),
    "admin": Tokens("admin"),
    "all": Tokens("admin", "metrics", "backup", "data"),
}


@pytest.fixture
async def server() -> AsyncIterator[SyncServer]:
    running = SyncServer(MemoryStore(), NoAuthProvider())
    async with trio.open_nursery() as nursery:
        await running.start(nursery)
        yield running
        await running.stop()


async def asked(routes: Routes, request: Request) -> int:
    try:
        answer = await routes.answer(request)
        if not isinstance(answer.body, bytes):
            await answer.body.aclose()  # type: ignore[attr-defined]
        return answer.status
    except HttpError as error:
        return error.status


def expected(role: str, methods: tuple[str, ...], method: str, who: tuple[str, str, str]) -> int | None:
    """The status of a refusal, None when the path itself has the word."""
    tokens, given, address = who
    if (method if method != "HEAD" else "GET") not in methods:
        return 405
    if not role or address == "socket":
        return None
    needed = {"none": None, "admin": None if role == "data" else "admin", "all": role}[tokens]
    if needed is None:
        return None if address == "127.0.0.1" and role != "data" else 403
    return None if given == needed else 401


@pytest.mark.parametrize("path", PATHS)
async def test_who_may_ask_for_what(path: str, server: SyncServer) -> None:
    role, methods = PATHS[path]
    answered = 0
    for tokens, them in TOKENS.items():
        routes = surface(server, "/", Access(them))
        for method, given, address in product(
            METHODS, ("", "admin", "metrics", "backup", "data", "wrong"), ("127.0.0.1", "203.0.113.9", "socket")
        ):
            headers = {"host": "localhost", **({"authorization": f"Bearer {given}"} if given else {})}
            request = Request(method, path, headers=headers, address=address, is_local=address == "socket")
            status = await asked(routes, request)
            refusal = expected(role, methods, method, (tokens, given, address))
            case = f"{method} {path} by {given or 'nobody'} from {address}, tokens: {tokens}"
            if refusal is not None:
                assert status == refusal, case
            else:
                answered += 1
                assert status in (200, 204, 400, 404, 409, 415, 422), case
    assert answered


@pytest.mark.parametrize("path", PATHS)
async def test_pages_of_other_sites_get_nothing_that_is_not_public(path: str, server: SyncServer) -> None:
    role, methods = PATHS[path]
    routes = surface(server, "/", Access(TOKENS["all"]))
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        named = {"host": "localhost", "authorization": f"Bearer {role}", **headers}
        status = await asked(routes, Request(methods[0], path, headers=named, address="127.0.0.1"))
        assert status == (403 if role else 200)


async def test_no_path_of_the_surface_is_left_out(server: SyncServer) -> None:
    routes = surface(server, "/")
    elsewhere = {"/", "/__kora", "/__kora/sign-out"}
    paths = set(routes._exact) - elsewhere
    assert paths <= {path.removesuffix("/1/kick") for path in PATHS}


async def test_no_answer_holds_a_token(server: SyncServer) -> None:
    secret = "s3cret-token-that-nobody-sees"
    routes = surface(server, "/", Access(Tokens(secret, secret, secret, secret)))
    for path, (_, methods) in PATHS.items():
        headers = {"host": "localhost", "authorization": f"Bearer {secret}"}
        request = Request("GET", path, {"token": [secret], "node": ["a"], "op": ["b"]}, headers, address="127.0.0.1")
        if "GET" in methods:
            body = (await routes.answer(request)).body
            if not isinstance(body, bytes):
                body = await anext(body) if path != "/__kora/tail" else b""
            assert secret not in body.decode()
