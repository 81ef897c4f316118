"""What is answered under which path."""

from __future__ import annotations

import pytest

from kora_daemon.http.access import Access, Role
from kora_daemon.http.messages import HttpError, Request, Response, text_response
from kora_daemon.http.routes import Route, Routes


def answers(text: str, path: str, *methods: str, role: Role | None = None, below: bool = False) -> Route:
    async def answer(_request: Request) -> Response:
        return text_response(200, text)

    return Route(path, methods, answer, role, below)


ROUTES = Routes(
    Access(),
    [
        answers("sync", "/sync", "GET"),
        answers("poll", "/sync", "POST"),
        answers("status", "/__kora/status", "GET", role=Role.ADMIN),
        answers("data", "/__kora/data", "GET", below=True),
        answers("apply", "/__kora/data/apply", "POST"),
        answers("api", "/api", "GET", "POST", below=True),
        answers("app", "/", "GET", below=True),
    ],
    "/sync",
)


async def asked(method: str, path: str) -> str | int:
    try:
        response = await ROUTES.answer(Request(method, path))
    except HttpError as error:
        return error.status
    assert isinstance(response.body, bytes)
    return response.body.decode().strip()


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/sync", "sync"),
        ("POST", "/sync", "poll"),
        ("HEAD", "/sync", "sync"),
        ("DELETE", "/sync", 405),
        ("GET", "/__kora/data", "data"),
        ("GET", "/__kora/data/todos/1", "data"),
        ("POST", "/__kora/data/apply", "apply"),
        ("GET", "/__kora/data/apply", 405),
        ("POST", "/__kora/data/todos", 405),
        ("GET", "/__kora/database", "app"),
        ("GET", "/api", "api"),
        ("GET", "/api/a/b", "api"),
        ("GET", "/apis", "app"),
        ("GET", "/", "app"),
        ("GET", "/index.html", "app"),
        ("GET", "/__kora/status", 403),
        ("GET", "*", 404),
    ],
)
async def test_the_path_itself_else_the_longest_above_it(method: str, path: str, answer: str | int) -> None:
    assert await asked(method, path) == answer


async def test_what_is_possible_is_said() -> None:
    with pytest.raises(HttpError) as refused:
        await ROUTES.answer(Request("PUT", "/sync"))
    assert refused.value.headers == {"allow": "GET, POST"}
