"""What the file can say already and the daemon can't do yet. A feature that arrives deletes its line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kora_daemon.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Pending:
    """A feature to come.

    `path` asks for it, `feature` says which part of what can be said there (empty: all of it), `asked` whether these
    settings do, `until_then` what to do meanwhile.
    """

    path: str
    feature: str
    asked: Callable[[Settings], bool]
    until_then: str


PENDING: tuple[Pending, ...] = ()


def pending_problems(settings: Settings) -> list[str]:
    """One sentence for each feature that these settings ask for and that is not there yet."""
    return [
        f"{one.path} ({settings.origins.get(one.path, settings.source)}): "
        f"not there yet in this version{f': {one.feature}' if one.feature else ''}; {one.until_then}"
        for one in PENDING
        if one.asked(settings)
    ]
