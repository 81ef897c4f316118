"""The progress bar of what takes long."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from kora_daemon.apply.refill import Progress as RowsMade


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Operations per second of late."""
        return Text(f"{task.speed:,.0f} operations/s" if task.speed else "")


def follow(steps: Iterable[RowsMade], pending: dict[str, int]) -> dict[str, int]:
    """Take the steps, on stderr with rate and time left; how many rows were made of each collection.

    `pending` are the operations of each collection that are looked through for that.
    """
    made = dict.fromkeys(pending, 0)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks = {name: bar.add_task(name, total=total) for name, total in pending.items() if total}
        for step in steps:
            made[step.collection] = made.get(step.collection, 0) + step.records
            if step.collection in tasks:
                done = pending[step.collection] if step.after is None else None
                bar.update(tasks[step.collection], advance=step.operations if done is None else None, completed=done)
    return made
