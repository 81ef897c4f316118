"""What has happened, when, to whom: to be read after a failure, and to be compared between two runs of a seed."""

from __future__ import annotations

from hashlib import sha256

import trio


class Trace:
    """Lines with simulated times, and a digest of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.explanations: dict[int, list[str]] = {}

    def note(self, who: str, what: str) -> None:
        """Something has happened now."""
        self.lines.append(f"{trio.current_time():9.4f} {who:<9} {what}")

    def explain(self, text: str) -> None:
        """More about what was noted last, which is no part of the digest: it may tell addresses."""
        self.explanations.setdefault(len(self.lines), []).append(text)

    @property
    def story(self) -> list[str]:
        """All lines, with what explains them."""
        told: list[str] = []
        for number, line in enumerate(self.lines, 1):
            told += [line, *self.explanations.get(number, ())]
        return told

    @property
    def digest(self) -> str:
        """Of all lines; equal for equal runs."""
        return sha256("\n".join(self.lines).encode()).hexdigest()[:32]
