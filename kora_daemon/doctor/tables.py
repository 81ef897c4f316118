"""What is in the store: whose tables they are, whether they are those of the schema, what time it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from kora_daemon.config import Settings
from kora_daemon.doctor.checks import Check, Finding, Once, failure, fine, warning
from kora_daemon.errors import StoreUnavailable
from kora_daemon.materialization.upgrade import Upgrade
from kora_daemon.model.schema import Schema
from kora_daemon.parts import required_schema
from kora_daemon.store.inspection import LogFacts
from kora_daemon.store.sqlite import inspection
from kora_daemon.store.tables import FORMAT_VERSION

LookLog = Callable[[], LogFacts | None]
LookTables = Callable[[Schema], Upgrade | None]


def tables(settings: Settings) -> Iterator[Check]:
    """The log, and the tables of collections. Those in PostgreSQL are looked at once that is reached, see there."""
    if settings.store.kind == "memory":
        yield Check("store.log", lambda: warning("the log is in memory, and gone with the daemon", "set store.kind"))
    if settings.store.kind == "sqlite":
        path = settings.store.path
        yield from checks_of(
            settings,
            lambda: inspection.log_facts(path) if path.exists() else None,
            lambda schema: inspection.pending_upgrade(path, schema) if path.exists() else None,
        )


def checks_of(settings: Settings, look_log: LookLog, look_tables: LookTables) -> Iterator[Check]:
    """The same for any store, told how to look at it."""
    log = Once(look_log)
    yield Check("store.log", lambda: _log(log()))
    yield Check("clock.log", lambda: _clock(log))
    if settings.schema is not None:
        yield Check("store.tables", lambda: _tables(look_tables, required_schema(settings)))


def _log(facts: LogFacts | None) -> Finding:
    if facts is None:
        return fine("there is no log yet; kora serve begins one")
    if facts.format is None:
        return fine("the log is the TypeScript server's; kora serve adds what it needs")
    if facts.format > FORMAT_VERSION:
        return failure(
            f"the log was written by a newer version (format {facts.format}, this one knows {FORMAT_VERSION})",
            "run that version, or restore a backup into a new file or database",
        )
    return fine(f"the log has format {facts.format}")


def _clock(log: Once[LogFacts | None]) -> Finding | None:
    try:
        facts = log()
    except StoreUnavailable:
        return None
    if facts is None or facts.newest_ms is None:
        return None
    behind_s = facts.newest_ms / 1000 - time.time()
    if behind_s > 1:
        return failure(
            f"the newest operation came in {behind_s:,.0f} s from now: the clock has been set back",
            "set it right before anything else; operations of the server would have times in the past",
        )
    return fine(f"the newest operation came in {_ago(-behind_s)} ago")


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(seconds, 0):,.0f} seconds"


def _tables(look: LookTables, schema: Schema) -> Finding | None:
    try:
        upgrade = look(schema)
    except StoreUnavailable:
        return None  # said already
    if upgrade is None:
        return fine("there are no tables yet; kora serve makes them")
    steps = [step.summary for step in upgrade.steps]
    if upgrade.is_destructive:
        return failure(
            f"the schema takes something away from tables ({'; '.join(steps)}): kora serve does not start",
            "look at kora migrate --dry-run, then run kora migrate --allow-destructive",
        )
    if steps:
        return warning(f"the tables are not yet those of the schema: {'; '.join(steps)}", "run kora migrate")
    if upgrade.refills:
        return warning(f"rows are still to be made: {', '.join(upgrade.refills)}", "run kora serve or kora backfill")
    return fine("the tables are those of the schema")
