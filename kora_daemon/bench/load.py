"""Parameters of a mode, declared once: what the command line and the report know of them."""

from __future__ import annotations

from dataclasses import field
from typing import Any

PAYLOAD = "Bytes of the longest field."
PRELOAD = "Operations that the log has at least; what is missing is uploaded first."
UPDATES = "How often each record is updated after it was inserted; 0: never."
AT_ONCE = "Devices that connect at a time."


def amount(default: float, meaning: str, *, least: float = 1) -> Any:  # noqa: ANN401  stands for a field of any type
    """A field of a load: so many of something, at least `least`."""
    return field(default=default, metadata={"meaning": meaning, "least": least, "metavar": "N"})


def file(meaning: str) -> Any:  # noqa: ANN401  likewise
    """A field of a load: a file to write, or None."""
    return field(default=None, metadata={"meaning": meaning, "least": None, "metavar": "FILE"})
