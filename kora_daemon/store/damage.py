"""What the decoding of a damaged row means, in our own exceptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from kora_daemon.errors import StoreCorrupt


@contextmanager
def undamaged(database: object) -> Iterator[None]:
    """Turn what the decoding of a damaged row raises into `StoreCorrupt`; `database` is its name in messages."""
    try:
        yield
    except (UnicodeDecodeError, json.JSONDecodeError, msgspec.DecodeError) as error:
        raise StoreCorrupt(
            f"{database}: a row of the log is damaged; stop the server, restore it from a backup ({error})"
        ) from error
