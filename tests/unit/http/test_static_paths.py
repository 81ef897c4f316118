"""What a URL's path means below an app's folder, and what file names tell."""

from __future__ import annotations

import pytest

from kora_daemon.http.messages import Request
from kora_daemon.http.static_files import accepted_encodings, is_navigation
from kora_daemon.http.static_paths import content_type, has_content_hash, names_in


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/", [""]),
        ("/app.js", ["app.js"]),
        ("/a/b/", ["a", "b", ""]),
        ("/caf%C3%A9", ["café"]),
        ("/a%20b", ["a b"]),
        ("/%61", ["a"]),
        ("/%zz", ["%zz"]),
        ("/.well-known/security.txt", [".well-known", "security.txt"]),
        ("/__korax", ["__korax"]),
        ("/%2541", ["%41"]),
    ],
)
def test_names_are_decoded_once(path: str, names: list[str]) -> None:
    assert names_in(path) == names


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/../x",
        "/a/../b",
        "/a/..",
        "/.",
        "/./a",
        "/%2e%2e/x",
        "/%2E%2e/x",
        "/.%2e/x",
        "/..%2fetc",
        "/a%2fb",
        "/a%2Fb",
        "/a\\b",
        "/a%5cb",
        "/..%5c..%5cx",
        "/a%00",
        "/a%0a",
        "/a%7f",
        "//a",
        "/a//b",
        "/a//",
        "/%c0%ae%c0%ae/x",
        "/%ff",
        "/%ed%a0%80",
        "/.git/config",
        "/.env",
        "/a/.htpasswd",
        "/%2eenv",
        "/.well-known/.secret",
        "/a/.well-known/x",
        "/.well-known/../x",
        "/.WELL-KNOWN/x",
        "/__kora",
        "/__kora/",
        "/__kora/status",
        "/%5f_kora/status",
    ],
)
def test_what_leads_out_or_is_hidden_names_nothing(path: str) -> None:
    assert names_in(path) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("APP.CSS", "text/css; charset=utf-8"),
        ("sqlite3.wasm", "application/wasm"),
        ("site.webmanifest", "application/manifest+json"),
        ("app.js.map", "application/json"),
        ("logo.svg", "image/svg+xml"),
        ("font.woff2", "font/woff2"),
        ("robots.txt", "text/plain; charset=utf-8"),
        ("app.js.br", "application/octet-stream"),
        ("html", "application/octet-stream"),
        ("apple-app-site-association", "application/json"),
        ("x.unheard-of", "application/octet-stream"),
    ],
)
def test_a_name_tells_the_media_type(name: str, kind: str) -> None:
    assert content_type(name) == kind


@pytest.mark.parametrize(
    "name",
    [
        "index-BrTc72k9.css",  # Vite, Rollup
        "vendor-C8LEs1AI.js",
        "main.8f3a9c1b2d4e5f6a7b8c.js",  # webpack
        "main.073c9b0a.chunk.js",
        "index.7c43d7bf.js",  # Parcel
        "app.3f9a2b1c.css.map",
        "chunk-2X7QJ4KM.js",  # esbuild
        "photo_a1b2c3d4.png",
    ],
)
def test_a_content_hash_is_known(name: str) -> None:
    assert has_content_hash(name)


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "sw.js",
        "user-settings.js",
        "icon-1024x1024.png",
        "inter-latin400.woff2",
        "report-20240101.pdf",
        "report-2024-01-02.json",
        "track-episode12.mp3",
        "logo-DarkMode.svg",
        "book-Chapter1.html",
        "sample-mp3Audio.js",
        "app-VERSION2.js",
        "manifest.webmanifest",
        "jquery-3.7.1.min.js",
        "8f3a9c1b.js",
        "index-8f3a9c1b",
    ],
)
def test_a_name_that_may_be_anything_has_none(name: str) -> None:
    assert not has_content_hash(name)


@pytest.mark.parametrize(
    ("header", "encodings"),
    [
        ("", []),
        ("gzip, deflate, br, zstd", ["br", "zstd", "gzip"]),
        ("gzip", ["gzip"]),
        ("GZIP", ["gzip"]),
        ("br;q=0.5, gzip", ["gzip", "br"]),
        ("br;q=0, gzip;q=0.001", ["gzip"]),
        ("*", ["br", "zstd", "gzip"]),
        ("*;q=0.1, br;q=0", ["zstd", "gzip"]),
        ("gzip;q=nan, br;q=-1, zstd;q=2", []),
        ("gzip;level=9", ["gzip"]),
        ("identity, gzip ; q = 1.000", ["gzip"]),
        (",,;q=1,", []),
    ],
)
def test_encodings_are_those_that_may_be_sent(header: str, encodings: list[str]) -> None:
    assert accepted_encodings(header) == encodings


@pytest.mark.parametrize(
    ("path", "headers", "navigates"),
    [
        ("/users/1", {"accept": "text/html,*/*;q=0.8", "sec-fetch-mode": "navigate"}, True),
        ("/users/jane.doe", {"accept": "text/html", "sec-fetch-mode": "navigate"}, True),
        ("/users/1", {"accept": "text/html"}, True),
        ("/assets/old.js", {"accept": "text/html"}, False),
        ("/users/1", {"accept": "text/html", "sec-fetch-mode": "cors"}, False),
        ("/assets/old.js", {"accept": "*/*", "sec-fetch-mode": "no-cors"}, False),
        ("/users/1", {"accept": "application/json"}, False),
        ("/users/1", {}, False),
    ],
)
def test_only_who_opens_a_page_navigates(path: str, headers: dict[str, str], navigates: bool) -> None:
    assert is_navigation(Request("GET", path, headers=headers)) is navigates
    assert not is_navigation(Request("POST", path, headers=headers))
