"""What a URL's path means below the folder of an app, and what the names of its files tell."""

from __future__ import annotations

import mimetypes
import re
from urllib.parse import unquote_to_bytes

RESERVED = "__kora"
"""Nothing below it is ever of the app."""
WELL_KNOWN = ".well-known"
"""The one name with a dot in front that is served (RFC 8615)."""

_UNWANTED = re.compile(r"[\x00-\x1f\x7f/\\]")
_TYPES = mimetypes.MimeTypes(()).types_map[True] | {
    ".avif": "image/avif",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".otf": "font/otf",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
"""Python's own table, not the machine's, and what browsers are strict about."""
_BY_NAME = {"apple-app-site-association": "application/json"}

_HASH = re.compile(r"[-._]([A-Za-z0-9]{8}|[0-9a-f]{8,64})(?=\.)")
_SWITCH = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])|(?<=[a-z])(?=[A-Z])")
"""Where in a name letters become digits or the other way round, or a capital follows."""


def names_in(path: str) -> list[str] | None:
    """The names in a path that begins with a slash, decoded once; an empty last one for a folder.

    None for a path that names nothing: with a part that is empty, hidden, one of `.` and `..`, no UTF-8, or that has a
    slash, a backslash or a control character in it, however they are written.
    """
    try:
        names = [unquote_to_bytes(part).decode() for part in path.split("/")[1:]]
    except UnicodeDecodeError:
        return None
    if names[0] == RESERVED or "" in names[:-1] or any(_UNWANTED.search(name) for name in names):
        return None
    hidden = [name for name in names if name.startswith(".")]
    return names if not hidden or (hidden == [WELL_KNOWN] and names[0] == WELL_KNOWN) else None


def content_type(name: str) -> str:
    """The media type of a file by its name; texts are UTF-8."""
    _, dot, extension = name.rpartition(".")
    found = _BY_NAME.get(name) or _TYPES.get(f".{extension.lower()}" if dot else "") or "application/octet-stream"
    return f"{found}; charset=utf-8" if found.startswith("text/") else found


def has_content_hash(name: str) -> bool:
    """Whether a name ends in a content hash, as those that build tools write: another content has another name.

    Eight or more hexadecimal digits, or eight letters and digits (Vite, Rollup, esbuild) that are mixed as in no word.
    In doubt it has none: a file that is asked about again costs little, one that never is can't be called back.
    """
    return any(map(_is_hash, _HASH.findall(name)))


def _is_hash(word: str) -> bool:
    if word.isdigit() or word.isalpha():
        return False
    return re.fullmatch("[0-9a-f]+", word) is not None or len(_SWITCH.findall(word)) >= (2 if word.isupper() else 3)
