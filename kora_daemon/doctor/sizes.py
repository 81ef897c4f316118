"""Sizes as people read them."""

from __future__ import annotations

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size_text(size_bytes: float) -> str:
    """Such as "1.5 GiB"."""
    for unit in _UNITS:
        if size_bytes < 1024 or unit == _UNITS[-1]:
            break
        size_bytes /= 1024
    return f"{size_bytes:,.0f} {unit}" if unit == "bytes" or size_bytes >= 100 else f"{size_bytes:,.1f} {unit}"
