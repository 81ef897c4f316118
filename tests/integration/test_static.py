"""A built app, served beside sync."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trio

from kora_daemon.http import static_content
from kora_daemon.http.own_routes import OwnRoute
from kora_daemon.http.static_content import LEFT_OVER_S, PIECE_BYTES, WHOLE_BYTES
from kora_daemon.http.static_files import ASK_AGAIN, NEVER_CHANGES, AppFiles, AppOptions
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from tests.support.http import HttpClient, http_client
from tests.support.network import PATIENCE_S, connected, eventually, running_server

PAGE = {"accept": "text/html,*/*;q=0.8", "sec-fetch-mode": "navigate"}
LARGE = bytes(range(256)) * (3 * PIECE_BYTES // 256) + b"end"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A built app. Beside its folder lies what nobody should get."""
    made = tmp_path / "dist"
    files = {
        "index.html": b"<title>The app</title>",
        "assets/index-BrTc72k9.js": b"console.log('app')",
        "assets/logo.svg": b"<svg/>",
        "sqlite3.wasm": LARGE,
        "sw.js": b"// service worker",
        "docs/index.html": b"docs",
        "empty/none.txt": b"",
        ".env": b"SECRET",
        ".git/config": b"SECRET",
        ".well-known/security.txt": b"Contact: x",
        "__kora/status": b"not this one",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}.txt": b"coffee",
    }
    for name, content in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    (tmp_path / "secret.txt").write_bytes(b"SECRET")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "index.html").write_bytes(b"SECRET")
    return made


@asynccontextmanager
async def served(dist: Path, path: str = "/kora-sync", **more: Any) -> AsyncIterator[HttpClient]:
    """A client of a server that serves this app; `more` are its options, and of the server."""
    options = AppOptions(**{name: more.pop(name) for name in ("isolation", "spa", "immutable") if name in more})
    async with running_server(path=path, app=AppFiles(dist, options), **more) as host, http_client(host.port) as client:
        yield client


@pytest.fixture
async def client(dist: Path) -> AsyncIterator[HttpClient]:
    async with served(dist) as made:
        yield made


# -- files


@pytest.mark.parametrize(
    ("path", "kind", "cached"),
    [
        ("/", "text/html; charset=utf-8", ASK_AGAIN),
        ("/index.html", "text/html; charset=utf-8", ASK_AGAIN),
        ("/assets/index-BrTc72k9.js", "text/javascript; charset=utf-8", NEVER_CHANGES),
        ("/assets/logo.svg", "image/svg+xml", ASK_AGAIN),
        ("/sqlite3.wasm", "application/wasm", ASK_AGAIN),
        ("/docs/", "text/html; charset=utf-8", ASK_AGAIN),
        ("/.well-known/security.txt", "text/plain; charset=utf-8", ASK_AGAIN),
        ("/empty/none.txt", "text/plain; charset=utf-8", ASK_AGAIN),
        ("/caf%C3%A9.txt", "text/plain; charset=utf-8", ASK_AGAIN),
    ],
)
async def test_a_file_comes_with_what_a_browser_needs_to_know(
    client: HttpClient, dist: Path, path: str, kind: str, cached: str
) -> None:
    answer = await client.ask(path)
    name = {"/caf%C3%A9.txt": "café.txt"}.get(path, path.lstrip("/"))
    content = (dist / name / "index.html" if path.endswith("/") else dist / name).read_bytes()
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["content-type"] == kind
    assert answer.headers["cache-control"] == cached
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    head = await client.ask(path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == answer.headers


async def test_isolation_can_be_switched_off(dist: Path) -> None:
    async with served(dist, isolation=False) as client:
        assert not [name for name in (await client.ask("/")).headers if name.startswith("cross-origin")]


async def test_paths_can_be_said_never_to_change(dist: Path) -> None:
    async with served(dist, immutable=["assets/*"]) as client:
        for path, cached in (("/assets/logo.svg", NEVER_CHANGES), ("/sw.js", ASK_AGAIN), ("/", ASK_AGAIN)):
            assert (await client.ask(path)).headers["cache-control"] == cached


async def test_a_folder_without_its_slash_is_sent_to_where_it_has_one(client: HttpClient) -> None:
    answer = await client.ask("/docs?x=1&y=%20")
    assert (answer.status, answer.headers["location"]) == (308, "/docs/?x=1&y=%20")
    assert (await client.ask("/empty")).status == 404
    assert (await client.ask("//localhost/docs")).status == 404


@pytest.mark.parametrize(
    "path", ["/nothing", "/assets", "/assets/", "/empty/", "/app.js/", "/index.html/x", "/INDEX.HTML"]
)
async def test_what_is_not_there_is_404(client: HttpClient, path: str) -> None:
    assert (await client.ask(path)).status == 404


async def test_other_methods_are_405(client: HttpClient) -> None:
    answer = await client.ask("/", "POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


# -- for pages that are no files


@pytest.mark.parametrize("path", ["/users/1", "/users/jane.doe", "/assets", "/empty/", "/a/b/c/"])
async def test_who_opens_a_page_that_is_no_file_gets_the_app(client: HttpClient, path: str) -> None:
    answer = await client.ask(path, headers=PAGE)
    assert (answer.status, answer.body) == (200, b"<title>The app</title>")
    assert answer.headers["cache-control"] == ASK_AGAIN


@pytest.mark.parametrize("path", ["/__kora/nothing", "/.env", "/a/../b", "/a//b", "/%00"])
async def test_there_are_paths_that_are_never_pages(client: HttpClient, path: str) -> None:
    assert (await client.ask(path, headers=PAGE)).status == 404


async def test_what_a_page_is_made_of_is_no_page(client: HttpClient) -> None:
    for headers in ({"accept": "*/*"}, {"accept": "*/*", "sec-fetch-mode": "no-cors"}):
        assert (await client.ask("/assets/old-BrTc72k9.js", headers=headers)).status == 404


async def test_an_app_of_many_pages_can_do_without(dist: Path) -> None:
    async with served(dist, spa=False) as client:
        assert (await client.ask("/users/1", headers=PAGE)).status == 404
        assert (await client.ask("/docs/", headers=PAGE)).body == b"docs"


async def test_the_daemons_own_paths_stay_its_own(client: HttpClient, dist: Path) -> None:
    (dist / "health").write_text("mine")
    assert (await client.ask("/health", headers=PAGE)).json["status"] == "ok"
    status = await client.ask("/__kora/status", headers=PAGE)
    assert (status.headers["content-type"], b"not this one" in status.body) == ("application/json", False)


# -- asked again


async def test_what_is_known_is_not_sent_again(client: HttpClient) -> None:
    for path in ("/", "/sqlite3.wasm"):
        first = await client.ask(path)
        for tags in (first.headers["etag"], f'"x", W/{first.headers["etag"]}', "*"):
            again = await client.ask(path, headers={"if-none-match": tags})
            assert (again.status, again.body) == (304, b"")
            for name in ("etag", "cache-control", "vary", "cross-origin-embedder-policy"):
                assert again.headers[name] == first.headers[name]
            assert "content-length" not in again.headers
        assert (await client.ask(path, headers={"if-none-match": '"another"'})).status == 200


async def test_the_time_counts_where_there_is_no_tag(client: HttpClient) -> None:
    modified = (await client.ask("/")).headers["last-modified"]
    for headers, status in (
        ({"if-modified-since": modified}, 304),
        ({"if-modified-since": formatdate(0, usegmt=True)}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-modified-since": "Thu, 01 Jan 99999 00:00:00 GMT"}, 200),
        ({"if-modified-since": modified, "if-none-match": '"another"'}, 200),
    ):
        assert (await client.ask("/", headers=headers)).status == status


@pytest.mark.parametrize("size", [10, WHOLE_BYTES + 1])
async def test_another_content_has_another_tag_whatever_its_time_and_size(
    client: HttpClient, dist: Path, size: int
) -> None:
    """Builds that can be repeated give all files the same time."""
    tags = set()
    for letter in (b"a", b"b"):
        (dist / "new").write_bytes(letter * size)
        os.utime(dist / "new", (1, 1))
        (dist / "new").rename(dist / "data.bin")
        answer = await client.ask("/data.bin")
        assert answer.body == letter * size
        tags.add(answer.headers["etag"])
    assert len(tags) == 2


async def test_the_same_small_content_has_the_same_tag_wherever_it_lies(client: HttpClient, dist: Path) -> None:
    tag = (await client.ask("/")).headers["etag"]
    shutil.copytree(dist, dist.with_name("copy"))
    shutil.rmtree(dist)
    dist.with_name("copy").rename(dist)
    assert (await client.ask("/")).headers["etag"] == tag


# -- in parts


@pytest.mark.parametrize("path", ["/sqlite3.wasm", "/assets/index-BrTc72k9.js"])
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=5-", 5, -1),
        ("bytes=-4", -4, -1),
        ("bytes=0-999999999999999999", 0, -1),
        ("bytes=-999999999", 0, -1),
    ],
)
async def test_a_part_can_be_asked_for(
    client: HttpClient, dist: Path, path: str, asked: str, first: int, last: int
) -> None:
    whole = (dist / path[1:]).read_bytes()
    first, last = first % len(whole), last % len(whole)
    answer = await client.ask(path, headers={"range": asked})
    assert (answer.status, answer.body) == (206, whole[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert answer.headers["content-length"] == str(last + 1 - first)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=999999999-", 416),
        ("bytes=-0", 416),
        ("bytes=5-2", 200),
        ("bytes=0-1,4-5", 200),
        ("bytes=-", 200),
        ("bytes=a-b", 200),
        ("lines=0-1", 200),
        ("bytes=0-" + "9" * 100, 200),
    ],
)
async def test_a_part_that_is_none(client: HttpClient, asked: str, status: int) -> None:
    answer = await client.ask("/sqlite3.wasm", headers={"range": asked})
    assert answer.status == status
    assert answer.body == (LARGE if status == 200 else b"")
    assert status == 200 or answer.headers["content-range"] == f"bytes */{len(LARGE)}"


async def test_a_part_of_something_else_is_all_of_it(client: HttpClient) -> None:
    whole = await client.ask("/sqlite3.wasm")
    for known, status in (
        (whole.headers["etag"], 206),
        (whole.headers["last-modified"], 206),
        ('"another"', 200),
        (f"W/{whole.headers['etag']}", 200),
        (formatdate(0, usegmt=True), 200),
    ):
        answer = await client.ask("/sqlite3.wasm", headers={"range": "bytes=0-1", "if-range": known})
        assert answer.status == status


# -- compressed


async def test_compressed_files_are_sent_to_who_can_read_them(client: HttpClient, dist: Path) -> None:
    name = "assets/index-BrTc72k9.js"
    for suffix in ("br", "gz", "zst"):
        (dist / f"{name}.{suffix}").write_bytes(suffix.encode())
    plain = (dist / name).read_bytes()
    tags = set()
    for accepted, encoding, body in (
        ("gzip, deflate, br, zstd", "br", b"br"),
        ("gzip, zstd", "zstd", b"zst"),
        ("gzip", "gzip", b"gz"),
        ("br;q=0.1, gzip", "gzip", b"gz"),
        ("deflate", None, plain),
        ("", None, plain),
    ):
        answer = await client.ask(f"/{name}", headers={"accept-encoding": accepted})
        assert (answer.status, answer.headers.get("content-encoding"), answer.body) == (200, encoding, body)
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["vary"] == "accept-encoding"
        assert answer.headers["cache-control"] == NEVER_CHANGES
        tags.add(answer.headers["etag"])
    assert len(tags) == 4
    (dist / "index.html.br").write_bytes(b"index")
    answer = await client.ask("/users/1", headers={**PAGE, "accept-encoding": "br"})
    assert (answer.headers["content-encoding"], answer.body) == ("br", b"index")


async def test_a_compressed_file_needs_its_original_of_the_same_build(client: HttpClient, dist: Path) -> None:
    headers = {"accept-encoding": "br"}
    (dist / "alone.js.br").write_bytes(b"br")
    assert (await client.ask("/alone.js", headers=headers)).status == 404
    (dist / "sw.js.br").write_bytes(b"br")
    written = (dist / "sw.js").stat().st_mtime
    for age, body in ((LEFT_OVER_S / 2, b"br"), (LEFT_OVER_S * 2, b"// service worker")):
        os.utime(dist / "sw.js.br", (written - age,) * 2)
        assert (await client.ask("/sw.js", headers=headers)).body == body
    (dist / "sw.js.br").unlink()
    (dist / "sw.js.br").symlink_to(dist.parent / "secret.txt")
    assert (await client.ask("/sw.js", headers=headers)).body == b"// service worker"


# -- nothing else


async def test_links_are_not_followed(client: HttpClient, dist: Path) -> None:
    (dist / "file.txt").symlink_to(dist.parent / "secret.txt")
    (dist / "folder").symlink_to(dist.parent / "secrets")
    (dist / "inside.txt").symlink_to("sw.js")
    (dist / "up").symlink_to("..")
    (dist / "round").symlink_to("round")
    for path in ("file.txt", "folder/index.html", "folder/", "folder", "inside.txt", "up/secret.txt", "round"):
        answer = await client.ask(f"/{path}")
        assert (answer.status, b"SECRET" in answer.body) == (404, False)
    (dist / "index.html").unlink()
    (dist / "index.html").symlink_to(dist.parent / "secret.txt")
    for path in ("/", "/users/1"):
        assert (await client.ask(path, headers=PAGE)).status == 404


async def test_what_is_no_file_is_not_waited_for(client: HttpClient, dist: Path, tmp_path: Path) -> None:
    os.mkfifo(dist / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(dist / "socket"))
        with trio.fail_after(PATIENCE_S):
            for path in ("/pipe", "/socket", "/" + "x" * 300, "/" + "a/" * 2000):
                assert (await client.ask(path)).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/....//secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/%252e%252e/secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/..;/secret.txt",
        "/assets/..",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/.well-known/../.env",
        "//etc/passwd",
        "/index.html%00.txt",
    ],
)
async def test_nothing_outside_is_ever_served(client: HttpClient, path: str) -> None:
    await client.say(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    answer = await client.hear("GET")
    assert (answer.status, b"SECRET" in answer.body) == (404, False)


async def test_an_absolute_path_is_one_below_the_folder(client: HttpClient, dist: Path) -> None:
    for target in (f"//{dist.parent}/secret.txt", f"{dist.parent}/secret.txt", f"file://{dist.parent}/secret.txt"):
        await client.say(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert (await client.hear("GET")).status in (400, 404)


# -- while it is replaced, and in pieces


async def test_a_new_deployment_is_served_at_once_and_whole(dist: Path, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to("dist")
    async with served(current) as client:
        assert (await client.ask("/")).body == b"<title>The app</title>"
        (tmp_path / "next").mkdir()
        (tmp_path / "next" / "index.html").write_bytes(b"next")
        (tmp_path / "link").symlink_to("next")
        (tmp_path / "link").rename(current)
        assert (await client.ask("/")).body == b"next"
        assert (await client.ask("/sw.js")).status == 404
        current.unlink()
        gone = await client.ask("/")
        assert (gone.status, bool(gone.headers["retry-after"])) == (503, True)


async def test_what_is_being_sent_stays_what_it_was(dist: Path) -> None:
    """Until somebody cuts the very file: then it ends early, and who reads it notices."""
    huge = os.urandom(1 << 20) * 24
    (dist / "huge.bin").write_bytes(huge)
    async with served(dist) as client:
        await client.say(b"GET /huge.bin HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        first = await client.some()
        (dist / "huge.bin").unlink()
        assert (first + await client.rest()).partition(b"\r\n\r\n")[2] == huge
    (dist / "huge.bin").write_bytes(huge)
    async with served(dist) as client:
        await client.say(b"GET /huge.bin HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        first = await client.some()
        os.truncate(dist / "huge.bin", 1000)
        assert len(first + await client.rest()) < len(huge)


async def test_a_large_file_is_never_in_memory_as_a_whole(dist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    read = os.pread

    def noted(handle: int, size: int, at: int) -> bytes:
        sizes.append(size)
        return read(handle, size, at)

    monkeypatch.setattr(static_content.os, "pread", noted)
    async with served(dist) as client:
        assert (await client.ask("/sqlite3.wasm")).body == LARGE
        assert len(sizes) == 4
        assert max(sizes) == PIECE_BYTES


async def test_no_file_stays_open(dist: Path) -> None:
    def open_files() -> list[str]:
        found = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                found.append(os.readlink(entry))
            except OSError:
                continue
        return [name for name in found if name.startswith(str(dist))]

    (dist / "huge.bin").write_bytes(bytes(1 << 20) * 24)
    async with served(dist) as client:
        tag = (await client.ask("/sqlite3.wasm")).headers["etag"]
        for headers in ({}, {"if-none-match": tag}, {"range": "bytes=0-1"}, {"range": "bytes=99999999-"}):
            for method in ("GET", "HEAD"):
                await client.ask("/sqlite3.wasm", method, headers=headers)
        await client.ask("/docs")
        await client.ask("/nothing", headers=PAGE)
        assert open_files() == []
        await client.say(b"GET /huge.bin HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.some()
        assert open_files() == [str(dist / "huge.bin")]
    await eventually(lambda: open_files() == [])


# -- at the path of sync


async def test_people_and_devices_share_a_path(dist: Path) -> None:
    options = ServerOptions(polling=PollingOptions(hold_s=0.01))
    async with running_server(path="/", app=AppFiles(dist), options=options) as host, http_client(host.port) as client:
        for headers in ({}, PAGE, {"accept": "*/*"}, {"cookie": "theme=dark"}, {"cookie": "kora_session=x", **PAGE}):
            assert (await client.ask("/", headers=headers)).body == b"<title>The app</title>"
        async with connected(host.url) as device:
            assert (await device.shake_hands("device"))["accepted"] is True
        for target, named in (
            ("/", {"x-kora-session": "s"}),
            ("/", {"cookie": 'odd"; kora_session=s'}),
            ("/?clientId=s", {}),
        ):
            assert (await client.ask(target, headers=named)).status == 204
        stock = await client.ask("/", headers={"accept": "application/json, application/x-protobuf"})
        assert (stock.status, stock.headers["set-cookie"].partition("=")[0]) == (400, "kora_session")
        upgrade = {"connection": "upgrade", "upgrade": "websocket"}
        assert (await client.ask("/", headers=upgrade)).status == 426
        assert (await client.ask("/users/1", headers=PAGE)).body == b"<title>The app</title>"
        assert (await client.ask("/sw.js?clientId=s", headers={"cookie": "kora_session=s"})).status == 200
        assert (await client.ask("/", "POST", b"{}", {"content-type": "application/json"})).status == 400


async def test_own_routes_go_before_the_app(dist: Path) -> None:
    def handle(request: Any, data: Any) -> Any:
        return {"path": request.path}

    (dist / "api").mkdir()
    (dist / "api" / "x").write_text("app")
    async with served(dist, routes=[OwnRoute("/api", handle)]) as client:
        assert (await client.ask("/api/x", headers=PAGE)).json == {"path": "/api/x"}
        assert (await client.ask("/api", headers=PAGE)).json == {"path": "/api"}
        assert (await client.ask("/apix", headers=PAGE)).body == b"<title>The app</title>"
