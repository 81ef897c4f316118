"""Parameters of a mode, declared once: name, default, least value and what it means."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def amount(default: float, meaning: str, *, least: float = 1) -> Any:  # noqa: ANN401  stands for a field of any type
    """A field of a load; its default and its meaning are those of the option, too."""
    return field(default=default, metadata={"meaning": meaning, "least": least})
