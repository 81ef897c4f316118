"""Questions to a running daemon: over its control socket on this host, or over its URL with a token."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import typer

from kora_daemon.config import load_settings
from kora_daemon.errors import KoraError

ANSWER_TIMEOUT_S = 30.0
TOKEN_VARIABLE = "KORA_ADMIN_TOKEN"  # noqa: S105  a name
_TLS = ("https", "wss")
_PLAIN = ("http", "ws")
_NO_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help=f"Ask the daemon at this URL, with the token in {TOKEN_VARIABLE}; without it the one of --config here.",
    ),
]


class _SocketConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class RunningDaemon:
    """A daemon that can be asked. Every question has a connection of its own and raises KoraError when it fails."""

    def __init__(self, place: Path | str, token: str | None = None) -> None:
        self.place = place
        self._token = token
        if isinstance(place, str):
            _check(place)

    def get(self, path: str, **query: str | int | None) -> Any:  # noqa: ANN401  any JSON value
        """The answer to a question, read."""
        with self._answered("GET", path, query) as answer:
            return json.loads(answer.read())

    def post(self, path: str, **query: str | int | None) -> Any:  # noqa: ANN401  any JSON value
        """The answer to a request that changes something, read."""
        with self._answered("POST", path, query) as answer:
            return json.loads(answer.read())

    def lines(self, path: str, **query: str | int | None) -> Iterator[Any]:
        """The JSON values of an answer in lines, as they come, until the daemon ends it."""
        with self._answered("GET", path, query, endless=True) as answer:
            for line in answer:
                if line.strip():
                    yield json.loads(line)

    @contextmanager
    def _answered(
        self, method: str, path: str, query: dict[str, str | int | None], *, endless: bool = False
    ) -> Iterator[http.client.HTTPResponse]:
        wanted = {name: value for name, value in query.items() if value is not None}
        target = f"{path}?{urlencode(wanted)}" if wanted else path
        connection = self._connection()
        try:
            connection.request(method, target, headers=self._headers)
            answer = connection.getresponse()
            if answer.status >= 300:
                raise KoraError(f"the daemon says {answer.status}: {_text(answer.read(1_000))}")
            if endless and connection.sock is not None:
                connection.sock.settimeout(None)
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise KoraError(self._unreachable(error)) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if isinstance(self.place, Path):
            return _SocketConnection(self.place, ANSWER_TIMEOUT_S)
        parts = urlsplit(self.place)
        if parts.scheme in _TLS:
            return http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=ANSWER_TIMEOUT_S, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_TIMEOUT_S)

    @property
    def _headers(self) -> dict[str, bytes]:
        return {"authorization": b"Bearer " + os.fsencode(self._token)} if self._token else {}

    def _unreachable(self, error: Exception) -> str:
        if isinstance(self.place, str):
            return f"{self.place} can't be reached ({error}); is it the daemon's address?"
        if isinstance(error, PermissionError):
            return f"{self.place} can't be opened; only the daemon's own user may, or use --url with a token"
        return f"no daemon answers at {self.place}; is it running? Name another one by --config or --url"


def _check(url: str) -> None:
    if "@" in url:
        # Not repeated: what stands before it is most likely a password.
        raise KoraError(f"--url holds a user or a password; leave them out, the token is taken from {TOKEN_VARIABLE}")
    if urlsplit(url).scheme not in (*_TLS, *_PLAIN):
        raise KoraError(f"--url {url}: expected http://HOST:PORT or https://HOST:PORT")


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip("\r\n")


def _token_of_the_environment() -> str:
    """The token, none when it is empty. Raises KoraError, which does not repeat it, for what no header can carry."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if _NO_HEADER.search(token):
        raise KoraError(f"{TOKEN_VARIABLE} holds a line break or another control character; set it to the token alone")
    return token


def running_daemon(config: Path, url: str | None) -> RunningDaemon:
    """The daemon that a command's options name. Raises KoraError and ConfigError."""
    if url is not None:
        return RunningDaemon(url, _token_of_the_environment())
    settings = load_settings(config)
    path = settings.control_socket
    if path is None:
        raise KoraError(f"{config} has no control socket (admin.socket); use --url with the token in {TOKEN_VARIABLE}")
    return RunningDaemon(path)
