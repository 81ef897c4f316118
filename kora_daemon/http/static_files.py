"""`[static]`: the files of a built app, served beside sync."""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import formatdate, parsedate_to_datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct

from kora_daemon.http.messages import HttpError, Request, Response
from kora_daemon.http.static_content import SUFFIXES, Content, FolderAt, Pieces, Wanted, find
from kora_daemon.http.static_paths import content_type, has_content_hash, names_in
from kora_daemon.server.threads import ThreadPool

THREADS = 4
NEVER_CHANGES: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "no-cache"
COME_AGAIN_S = 2

_ISOLATION = (
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
)
"""Without these browsers don't let a page share memory between its threads, which SQLite in a browser needs."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

log = structlog.get_logger("kora.static")


class AppOptions(Struct, frozen=True):
    """What an app asks for: isolation from other origins, its index for unknown paths, paths that never change."""

    isolation: bool = True
    spa: bool = True
    immutable: Sequence[str] = ()


class AppFiles:
    """Answers for everything below the folder of a built app, and for nothing else."""

    def __init__(self, folder: Path, options: AppOptions | None = None) -> None:
        self._folder = folder
        self._options = options or AppOptions()
        self._threads = ThreadPool("kora-static", THREADS)

    async def answer(self, request: Request) -> Response:
        """The file that the path is about. Raises HttpError."""
        names = names_in(request.path)
        if names is None:
            raise HttpError(404, "Nothing here")
        encodings = accepted_encodings(request.headers.get("accept-encoding", ""))
        wanted = Wanted(names, encodings, self._options.spa and is_navigation(request))
        try:
            found = await self._threads.run(lambda: find(self._folder, wanted))
        except FileNotFoundError as error:
            log.warning("static.gone", folder=str(self._folder))
            raise HttpError(503, "The app is not there right now", **{"retry-after": str(COME_AGAIN_S)}) from error
        if found is None:
            raise HttpError(404, "Nothing here")
        if isinstance(found, FolderAt):
            return _slash_added(request)
        return self._sent(request, found)

    def _sent(self, request: Request, content: Content) -> Response:
        headers = tuple(self._headers(content))
        if _is_known(request, content):
            return _closed(content, Response(304, b"", "", headers))
        kind = content_type(content.names[-1])
        span = _span(request, content)
        if span is None:
            return self._part(content, 200, kind, headers, range(content.size_bytes))
        if not span:
            where = ("content-range", f"bytes */{content.size_bytes}")
            return _closed(content, Response(416, b"", "", (*headers, where)))
        where = ("content-range", f"bytes {span.start}-{span.stop - 1}/{content.size_bytes}")
        return self._part(content, 206, kind, (*headers, where), span)

    def _part(
        self, content: Content, status: int, kind: str, headers: tuple[tuple[str, str], ...], span: range
    ) -> Response:
        if content.file is None:
            return Response(status, content.whole[span.start : span.stop], kind, headers)
        pieces = Pieces(content.file, span.start, len(span), self._threads)
        return Response(status, pieces, kind, (*headers, ("content-length", str(len(span)))))

    def _headers(self, content: Content) -> list[tuple[str, str]]:
        path = "/".join(content.names)
        is_fixed = has_content_hash(content.names[-1]) or any(fnmatchcase(path, one) for one in self._options.immutable)
        return [
            ("cache-control", NEVER_CHANGES if is_fixed else ASK_AGAIN),
            ("etag", content.etag),
            ("last-modified", formatdate(content.modified_s, usegmt=True)),
            ("vary", "accept-encoding"),
            ("accept-ranges", "bytes"),
            *([("content-encoding", content.encoding)] if content.encoding else []),
            *(_ISOLATION if self._options.isolation else ()),
        ]


def is_navigation(request: Request) -> bool:
    """Whether somebody wants to see a page: not a script that fetches something, nor a file that a page is made of."""
    if request.method not in ("GET", "HEAD") or "text/html" not in request.headers.get("accept", ""):
        return False
    mode = request.headers.get("sec-fetch-mode")
    return mode == "navigate" if mode is not None else "." not in request.path.rpartition("/")[2]


def accepted_encodings(header: str) -> list[str]:
    """The encodings that may be sent, the best one first."""
    weights: dict[str, float] = {}
    for part in header.lower().split(","):
        name, _, parameters = part.partition(";")
        weights[name.strip()] = _weight(parameters)
    others = weights.get("*", 0.0)
    wanted = [name for name in SUFFIXES if weights.get(name, others) > 0]
    return sorted(wanted, key=lambda name: -weights.get(name, others))


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    return float(value) if re.fullmatch(r"\s*(0(\.\d{0,3})?|1(\.0{0,3})?)\s*", value) else 0.0


def _slash_added(request: Request) -> Response:
    query = request.raw.split(b"\r\n", 1)[0].partition(b"?")[2].partition(b" ")[0].decode("latin-1")
    target = f"{request.path}/{f'?{query}' if query else ''}"
    return Response(308, b"", "", (("location", target), ("cache-control", ASK_AGAIN)))


def _is_known(request: Request, content: Content) -> bool:
    """Whether whoever asks has this very content already (RFC 9110 section 13)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        return "*" in tags or content.etag in (tag.strip().removeprefix("W/") for tag in tags.split(","))
    since = _date(request.headers.get("if-modified-since"))
    return since is not None and content.modified_s <= since


def _span(request: Request, content: Content) -> range | None:
    """The one part that is asked for, an empty one if there is no such part; None for all of it."""
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or not any(found.groups()) or not _is_unchanged(request, content):
        return None
    size, (first, last) = content.size_bytes, found.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None  # no range at all (RFC 9110 section 14.1.1)
    return range(int(first), max(int(first), end)) if int(first) < size else range(0)


def _is_unchanged(request: Request, content: Content) -> bool:
    wanted = request.headers.get("if-range")
    return wanted is None or wanted == content.etag or _date(wanted) == content.modified_s


def _date(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError):
        return None


def _closed(content: Content, response: Response) -> Response:
    if content.file is not None:
        content.file.close()
    return response
