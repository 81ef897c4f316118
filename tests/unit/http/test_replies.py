"""What callables of the app return, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.http.replies import response_of

JSON, TEXT, BYTES = "application/json", "text/plain; charset=utf-8", "application/octet-stream"


@pytest.mark.parametrize(
    ("returned", "status", "body", "kind", "headers"),
    [
        (None, 204, b"", "", ()),
        (b"\x00", 200, b"\x00", BYTES, ()),
        ("né", 200, b"n\xc3\xa9", TEXT, ()),
        ({"a": [1, None]}, 200, b'{"a": [1, null]}', JSON, ()),
        ([{"body": b"\x00"}], 200, b'[{"body": {"$koraBytes": "AA=="}}]', JSON, ()),
        ((201, {"id": 1}), 201, b'{"id": 1}', JSON, ()),
        ((404, None), 404, b"", "", ()),
        ((200, "<p>", {"Content-Type": "text/html"}), 200, b"<p>", "text/html", ()),
        ((302, None, {"Location": "/x"}), 302, b"", "", (("location", "/x"),)),
        ((200, "", {"set-cookie": ["a=1", "b=2"]}), 200, b"", TEXT, (("set-cookie", "a=1"), ("set-cookie", "b=2"))),
        ((200, "x", None), 200, b"x", TEXT, ()),
        ((200, "x", {"x-a": " b "}), 200, b"x", TEXT, (("x-a", "b"),)),
        ((204, "ignored"), 204, b"", "", ()),
        ((304, {"a": 1}), 304, b"", "", ()),
    ],
)
def test_an_answer_is_made_of_it(
    returned: Any, status: int, body: bytes, kind: str, headers: tuple[tuple[str, str], ...]
) -> None:
    made = response_of(returned)
    assert (made.status, made.body, made.content_type, made.headers) == (status, body, kind, headers)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (5, "returned a int"),
        (object(), "returned a object"),
        ((200,), "tuple of 1"),
        ((200, "x", {}, 1), "tuple of 4"),
        (("200", "x"), "status '200'"),
        ((True, "x"), "status True"),
        ((101, "x"), "status 101"),
        ((600, "x"), "status 600"),
        ((200, {"a": float("nan")}), "not JSON compliant"),
        ((200, {"a": {1, 2}}), "not JSON serializable"),
        ((200, "\ud800"), "surrogates not allowed"),
        ((200, "x", ["a"]), "headers that are a list"),
        ((200, "x", {"a b": "c"}), "a header 'a b'"),
        ((200, "x", {"a": "b\r\nset-cookie: c"}), "no text of ASCII"),
        ((200, "x", {"a": "é"}), "no text of ASCII"),
        ((200, "x", {"a": 5}), "no text of ASCII"),
        ((200, "x", {5: "a"}), "a header 5"),
        ((200, "x", {"Content-Length": "5"}), "'Content-Length'"),
        ((200, "x", {"transfer-encoding": "chunked"}), "'transfer-encoding'"),
    ],
)
def test_what_is_no_answer_is_told(returned: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        response_of(returned)
