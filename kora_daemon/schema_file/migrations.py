"""Checks the migrations of a schema file. They drive the devices' databases; nothing of them is kept."""

from __future__ import annotations

import re

from kora_daemon.schema_file.part import Part

_VERSION = re.compile("[1-9][0-9]{0,15}")


def check_migrations(part: Part, current: int | None) -> None:
    """Check that each leads to a version from 2 to the current one, and has steps."""
    if not part.is_given:
        return
    for version, one in part.table("migrations, by the version they lead to").items():
        if not _VERSION.fullmatch(version) or int(version) < 2:
            one.reading(version).unfit("the version it leads to, a whole number from 2 up")
        elif current is not None and int(version) > current:
            one.refuse(f"leads beyond the schema's version, which is {current}")
        _check_steps(one)


def _check_steps(part: Part) -> None:
    members = part.members("steps", "steps", "rollbackSteps", "safelyReversible")
    members["safelyReversible"].flag()
    if not members["steps"].is_given or members["steps"].value == []:
        members["steps"].unfit("a list of one or more steps")
    for step in (*members["steps"].elements("a list of steps"), *members["rollbackSteps"].elements("a list of steps")):
        step.table("what a step says")
