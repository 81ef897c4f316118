"""The form of a rule about several keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kora_daemon.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Rule:
    """What several keys must fulfil together.

    `paths` are all keys it looks at, the one it complains about first. `complaint` is the sentence, or None when all
    is well.
    """

    paths: tuple[str, ...]
    complaint: Callable[[Settings], str | None]

    def concerns(self, broken: set[str]) -> bool:
        """Whether a key it looks at has a problem of its own, so that there is nothing sure to say."""
        return any(one == path or one.startswith((f"{path}.", f"{path}[")) for path in self.paths for one in broken)
