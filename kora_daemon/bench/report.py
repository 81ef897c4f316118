"""What a run found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

Figures = dict[str, Any]
"""Names in camel case, with their unit; values are numbers, percentiles, or figures that belong together."""


class Report(Struct):
    """The figures of one run, and what went wrong: sentence -> how often. Nothing may go wrong."""

    mode: str
    parameters: dict[str, Any]
    figures: Figures
    problems: dict[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, refused, doubled or answered with an error."""
        return not self.problems

    def values(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "mode": self.mode,
            "ok": self.is_clean,
            "parameters": {name: str(one) if isinstance(one, Path) else one for name, one in self.parameters.items()},
            **self.figures,
            "problems": self.problems,
        }


def lost_and_doubled(expected: int, found: int, doubled: int, what: str) -> Mapping[str, int]:
    """The problems of something that should have come once each."""
    told = {f"{what} lost": expected - found, f"{what} doubled": doubled}
    return {name: number for name, number in told.items() if number}
