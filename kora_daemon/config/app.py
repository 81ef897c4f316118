"""What an app brings along besides its schema: its files, endpoints and rules (config.md)."""

# ruff: noqa: RUF009  what key() and its kin make is the field itself, no default shared between instances

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kora_daemon.config import formats
from kora_daemon.config.keys import key, required
from kora_daemon.config.kinds import MOST_BYTES, MOST_SECONDS, flag, integer, list_of, number, text


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticSettings:
    """`[static]`: a built app, served beside sync."""

    directory: Path = required(formats.folder(), "dist", "Folder of the built app.")
    isolation: bool = key(
        flag(),
        True,
        "Whether pages are isolated from other origins (COOP, COEP, CORP): SQLite in a browser needs it, and what they "
        "embed from elsewhere must agree.",
    )
    spa: bool = key(flag(), True, "Whether somebody who opens a page that is no file gets index.html.")
    immutable: tuple[str, ...] = key(
        list_of(text(), "a list of patterns of paths"),
        (),
        'Patterns of paths that never get another content, such as "assets/*-????????.*"; many hashes are known.',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """`[[routes]]`: an HTTP endpoint of the user's own."""

    path: str = required(formats.http_path(), "/api", "Path prefix that the endpoint answers.")
    python: str = required(formats.hook(), "myapp.routes:handle", "Callable that answers its requests.")
    timeout: float = key(
        number(0, MOST_SECONDS, above=True), 30.0, "Seconds a call may take; after that the answer is 504."
    )
    concurrency: int = key(integer(1, 1000), 8, "Calls at a time; above it, requests are answered 503.")
    max_body_bytes: int = key(integer(0, MOST_BYTES), 1_048_576, "Largest body of a request, in bytes; above it, 413.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateSettings:
    """`[validate]`: the user's own judgement on incoming operations."""

    python: str = required(
        formats.hook(), "myapp.rules:validate", "Callable that is asked about each operation of a device."
    )
    timeout: float = key(
        number(0, MOST_SECONDS, above=True),
        5.0,
        "Seconds the callable may take for an operation; after that the device is asked to send it again.",
        live=True,
    )
