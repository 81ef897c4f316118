"""HTTP as it comes from a socket: heads, bodies, several requests in a row, upgrades."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from random import Random

from tests.fuzz import seeds
from tests.fuzz.frames import client_frame, mutated_frames
from tests.fuzz.mutation import MAX_BYTES, mutated_bytes, mutated_json
from tests.fuzz.target import Disagreement, Target
from tests.fuzz.world import ORIGIN, PATH, TOKEN, world

_END = b"\r\n\r\n"
_SYNC = PATH.encode()
_ADMIN = b"Authorization: Bearer " + TOKEN.encode()
_ANY_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_BROKEN = {b"500"}


def run(data: bytes) -> None:
    """Bytes on a connection: whatever they are, nothing breaks here, and every answer is HTTP."""
    heard = world().connect(data)
    if not heard:
        return
    status = _ANY_STATUS.match(heard)
    if status is None:
        raise Disagreement(f"no answer of HTTP: {heard[:80]!r}")
    if status[1] in _BROKEN:
        raise Disagreement(f"an answer of {heard[:300]!r}")


def _request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    length = [b"Content-Length: %d" % len(body)] if body else []
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: localhost:4567", *headers, *length]) + _END + body


_HELLO = json.dumps(
    {"type": "handshake", "messageId": "h", "nodeId": "n", "versionVector": {}, "schemaVersion": 1}
    | {"lastDeliverySequence": 0}
)


def _pushes() -> list[str]:
    """Files that a device offers, one of them the list of its parts, and asks for."""
    said = []
    for content in (b"bytes", json.dumps({"chunkHashes": ["0" * 64]}).encode(), b'{"chunkHashes":["\xff"]}'):
        hexadecimal = hashlib.sha256(content).hexdigest()
        push = {"type": "blob-chunk-push", "messageId": "p", "hash": hexadecimal}
        said.append(json.dumps(push | {"bytes": base64.b64encode(content).decode()}))
        said.append(json.dumps({"type": "blob-chunk-request", "messageId": "r", "requestId": "r", "hash": hexadecimal}))
    return said


def _frame(text: str) -> bytes:
    return client_frame(0x81, text.encode())


@cache
def seeds_of_requests() -> list[bytes]:
    """A request of each kind."""
    device = b"X-Kora-Session: page-1"
    kind = b"Content-Type: application/json"
    change = {"type": "insert", "collection": "todos", "recordId": "r1", "data": {"title": "x", "count": 1}}
    conditional = {
        "target": {"collection": "todos", "recordId": "r1"},
        "condition": {"count": {"$gte": 0}},
        "update": {"title": "y"},
        "atomic": {"count": {"type": "increment", "value": 1}},
        "also": [change],
        "refusal": {"code": "NO", "message": "no"},
        "idempotency": {"collection": "todos", "recordId": "r2"},
    }
    browser = [b"Origin: " + ORIGIN.encode(), b"Sec-Fetch-Site: cross-site", b"Cookie: kora_session=abc; a=b"]
    upgrade = _request(
        b"GET " + _SYNC + b"?token=t",
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        browser[0],
    )
    made = [
        _request(b"GET /health") + _request(b"HEAD /health"),
        _request(b"GET /__kora/metrics?x=1&x=2", _ADMIN, b"Accept: application/openmetrics-text"),
        _request(b"GET /__kora/status", _ADMIN, b"X-Forwarded-For: 10.0.0.1, 127.0.0.1", b"X-Forwarded-Proto: https"),
        _request(b"GET /__kora/events?limit=5&since=1", _ADMIN),
        _request(b"GET /__kora/tail?collection=todos&limit=2&follow=false", _ADMIN),
        _request(b"GET /__kora/explain?node=a&operation=b", _ADMIN),
        _request(b"GET /__kora/sessions", _ADMIN, b"Cookie: kora_dashboard=1.2"),
        _request(b"POST /__kora/sessions/1?refuse=true", _ADMIN),
        _request(b"POST /__kora/kick?user=u&node=n&refuse=true", _ADMIN),
        _request(b"GET /__kora/data/todos?where=%7B%22title%22%3A%22x%22%7D&order_by=title&desc=true&limit=3", _ADMIN),
        _request(b"GET /__kora/data/todos?where.count:=1&where.title=x&offset=0&count=true", _ADMIN),
        _request(b"GET /__kora/data/todos/r1", _ADMIN, b'X-Kora-Scope: {"todos":{"title":"x"}}'),
        _request(b"POST /__kora/data/apply", _ADMIN, kind, body=json.dumps(change).encode()),
        _request(b"POST /__kora/data/apply", _ADMIN, kind, body=json.dumps(conditional).encode()),
        _request(b"POST /__kora/backup/import?mode=merge", _ADMIN, body=b"\0" * 40),
        _request(b"OPTIONS " + _SYNC, *browser, b"Access-Control-Request-Method: POST"),
        _request(b"GET " + _SYNC + b"?clientId=a", b'If-None-Match: "x"', *browser),
        _request(b"GET /", b"Accept: text/html", b"Accept-Encoding: br;q=0.5, gzip, *;q=0"),
        _request(b"GET /assets/index-BrTc72k9.js?v=1", b"Range: bytes=5-9", b'If-Range: "a"'),
        _request(b"GET /caf%C3%A9.txt", b"Range: bytes=-5", b"If-Modified-Since: Thu, 26 Nov 2026 08:00:00 GMT"),
        _request(b"POST " + _SYNC, device, kind, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        _request(b"POST " + _SYNC, device, kind, b"Expect: 100-continue", b"Connection: close", body=b"{}"),
        upgrade + client_frame(0x81, seeds.messages()[0]),
    ]
    conversations = [one for clients in seeds.recorded().values() for one in clients][::4]
    made += [upgrade + b"".join(_frame(text) for text in said if len(text) < 9_000) for said in conversations]
    made.append(upgrade + _frame(_HELLO) + b"".join(map(_frame, _pushes())))
    texts = [_request(b"POST " + _SYNC, device, kind, body=one) for one in seeds.messages()[:8]]
    packed = b"Content-Type: application/x-protobuf"
    binary = [_request(b"POST " + _SYNC, device, packed, body=one) for one in seeds.binary_messages()[:4]]
    return [*made, *texts, *binary]


_WORDS = [
    b"%00",
    b"%2e%2e/",
    b"%ff",
    b"//",
    b"\\",
    b"?",
    b"&a=&a=",
    b"#",
    b"\xe9",
    b"bytes=0-",
    b"bytes=-9999999999999999999",
    b"bytes=9-1",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"X-Kora-Scope: {}\r\n",
    b"Origin: null\r\n",
    b"Host: [\r\n",
    b"HTTP/1.0",
    b"http://x:y@[::1/",
    b"Thu, 99 Nov 99999999 08:00:00 -9999",
    b"Wed, 01 Jan 0001 00:00:00 +2359",
    b"1e400",
    b"99999999999999999999",
    b"true",
    b'"\\ud800"',
    b"%5B" * 2_000,
    b"\0",
    b"\r\n ",
]


def mutated(data: bytes, random: Random) -> bytes:
    """Heads changed in their lines, bodies in what they mean; lengths right again more often than not."""
    head, end, body = data.partition(_END)
    if not end or random.random() < 0.15:
        return mutated_bytes(data, random, _WORDS)
    if body and b"Sec-WebSocket-Key" in head:
        # The options that frames begin with elsewhere.
        return (head + end + mutated_frames(b"\0" + body, random)[1:])[:MAX_BYTES]
    if body and random.random() < 0.6:
        body = mutated_json(body, random)
    else:
        head = _mutated_head(head, random)
    if random.random() < 0.8:
        head = re.sub(rb"(?i)(content-length: )\d+", b"\\g<1>%d" % len(body), head)
    whole = head + end + body
    if random.random() < 0.1:
        whole += random.choice(seeds_of_requests())
    return whole[:MAX_BYTES]


def _mutated_head(head: bytes, random: Random) -> bytes:
    lines = head.split(b"\r\n")
    at = random.randrange(len(lines))
    match random.randrange(8):
        case 0:
            lines[at:at] = [random.choice(lines[1:] or lines)]
        case 1 if at:
            del lines[at]
        case 2:
            other = random.choice(seeds_of_requests()).partition(_END)[0].split(b"\r\n")
            lines.append(random.choice(other[1:]))
        case 3:
            lines[0] = random.choice(seeds_of_requests()).split(b"\r\n")[0]
        case 4:
            lines[0] = (
                random.choice([b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"]) + lines[0][lines[0].find(b" ") :]
            )
        case _:
            lines[at] = mutated_bytes(lines[at], random, _WORDS)
    return b"\r\n".join(lines)


TARGETS = [Target("http", run, seeds_of_requests, mutated, share=6)]
