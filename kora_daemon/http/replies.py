"""What the app's own callables return, made into answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kora_daemon.http.messages import Response
from kora_daemon.materialization.json_text import shown_json

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OURS = frozenset({"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
"""What says where an answer ends, and what comes after it."""


def response_of(returned: object) -> Response:
    """The answer for a body, (status, body) or (status, body, headers). Raises TypeError and ValueError.

    A body is bytes, a text, a dict or a list (JSON), or None for none.
    """
    status: object = 204 if returned is None else 200
    headers: tuple[tuple[str, str], ...] = ()
    body: object = returned
    if isinstance(returned, tuple):
        if not 2 <= len(returned) <= 3:
            raise TypeError(f"returned a tuple of {len(returned)}, expected (status, body) or (status, body, headers)")
        status, body, *more = returned
        headers = tuple(_headers(more[0])) if more and more[0] is not None else ()
    if type(status) is not int or not 200 <= status <= 599:
        raise ValueError(f"returned the status {status!r}, expected a whole number from 200 to 599")
    content, content_type = _content(body)
    named = dict(headers)
    if "content-type" in named:
        content_type = named["content-type"]
        headers = tuple(header for header in headers if header[0] != "content-type")
    if status in (204, 304):
        content, content_type = b"", ""
    return Response(status, content, content_type, headers)


def _content(body: object) -> tuple[bytes, str]:
    if body is None:
        return b"", ""
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    if isinstance(body, dict | list):
        return shown_json(body).encode(), "application/json"
    raise TypeError(f"returned a {type(body).__name__}, expected bytes, a text, a dict, a list or None")


def _headers(given: object) -> Iterator[tuple[str, str]]:
    if not isinstance(given, Mapping):
        raise TypeError(f"returned headers that are a {type(given).__name__}, expected a dict")
    for name, values in given.items():
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _OURS:
                raise ValueError(f"returned a header {name!r}, which can't be one of an answer")
            if not isinstance(value, str) or not _VALUE.fullmatch(value):
                raise ValueError(f"returned a header {name} that is no text of ASCII in one line")
            yield name.lower(), value.strip()
