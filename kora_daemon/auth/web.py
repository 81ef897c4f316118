"""HTTP requests of the auth side: one deadline, one size limit, no redirects, no proxies. They block."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from kora_daemon.auth.contract import Caller
from kora_daemon.errors import AuthUnavailable
from kora_daemon.version import VERSION

MAX_ANSWER_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 16
_OK: Final = 200
_REFUSED: Final = (401, 403)


class Answer(Struct, frozen=True):
    """What came back."""

    status: int
    body: bytes


class Endpoint:
    """A URL that is asked again and again, each time through a connection of its own.

    Messages name the host only: the rest of the URL may be a secret.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self._port = parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._headers = {"User-Agent": f"kora-daemon/{VERSION}", "Accept": "application/json", "Connection": "close"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        self._headers |= headers or {}

    def ask(self, method: str, body: bytes | None = None) -> Answer:
        """Send a request and read the whole answer. Raises AuthUnavailable."""
        deadline = time.monotonic() + self._timeout_s
        connection = self._connection()
        try:
            headers = self._headers if body is None else self._headers | {"Content-Type": "application/json"}
            connection.request(method, self._target, body, {k: v.encode("utf-8") for k, v in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, self._read(response, connection, deadline))
        except (OSError, http.client.HTTPException, ValueError) as error:
            # The words of some of these quote what was sent.
            words = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise AuthUnavailable(f"{self.host} can't be asked: {words}") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self.host, self._port, timeout=self._timeout_s, context=self._tls)
        return http.client.HTTPConnection(self.host, self._port, timeout=self._timeout_s)

    def _read(
        self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float
    ) -> bytes:
        read = bytearray()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AuthUnavailable(f"{self.host} has not answered within {self._timeout_s:g} s")
            if connection.sock is not None:
                connection.sock.settimeout(left)
            chunk = response.read1(_CHUNK_BYTES)
            if not chunk:
                return bytes(read)
            read += chunk
            if len(read) > MAX_ANSWER_BYTES:
                raise AuthUnavailable(f"{self.host} answers more than {MAX_ANSWER_BYTES} bytes")


def header_problem(headers: Mapping[str, str]) -> str | None:
    """Why these can't be headers; never quotes a value."""
    for name, value in headers.items():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            return f"found {name!r}, expected the name of a header"
        if any(character in value for character in "\r\n\0"):
            return f"the value of {name} has a line break"
    return None


def key_set_fetcher(url: str, timeout_s: float = 5.0) -> Callable[[], bytes]:
    """Gets a key set."""
    endpoint = Endpoint(url, timeout_s=timeout_s)

    def fetch() -> bytes:
        answer = endpoint.ask("GET")
        if answer.status != _OK:
            raise AuthUnavailable(f"{endpoint.host} answers {answer.status} to the request for its key set")
        return answer.body

    return fetch


def http_hook(url: str, headers: Mapping[str, str] | None, timeout_s: float) -> Callable[[str, Caller], Any]:
    """Source `http`: POST {token, nodeId, address}; 200 has the context, 401 and 403 refuse."""
    endpoint = Endpoint(url, headers, timeout_s)

    def ask(token: str, caller: Caller) -> Any:  # noqa: ANN401  checked by `read_answer`
        answer = endpoint.ask("POST", question(token, caller))
        if answer.status in _REFUSED:
            return None
        if answer.status != _OK:
            raise AuthUnavailable(f"{endpoint.host} answers {answer.status}")
        try:
            return msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise AuthUnavailable(f"{endpoint.host} answers something that is no JSON") from None

    return ask


def question(token: str, caller: Caller, number: int | None = None) -> bytes:
    """What hooks outside of the process are asked, as JSON in one line.

    Half a surrogate pair is written as an escape: there is no UTF-8 for it.
    """
    asked: dict[str, Any] = {} if number is None else {"id": number}
    asked |= {"token": token, "nodeId": caller.node_id, "address": caller.address}
    return json.dumps(asked, separators=(",", ":")).encode("ascii")
