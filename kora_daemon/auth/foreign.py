"""What may be said about an exception of somebody else's code: never its own words, since they may quote a token."""

from __future__ import annotations

import traceback


def described(error: BaseException) -> str:
    """Its type, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return type(error).__name__ + where
