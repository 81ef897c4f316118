"""The PostgreSQL database: whether it can be had, and has what daemons need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from kora_daemon.config import Settings
from kora_daemon.doctor.checks import Check, Finding, Once, failure, fine, warning
from kora_daemon.doctor.tables import checks_of
from kora_daemon.errors import ConfigError, StoreUnavailable
from kora_daemon.parts import required_schema
from kora_daemon.store.postgres.inspection import (
    CONNECTIONS_BESIDE_READERS,
    CONNECTIONS_FOR_BLOBS,
    DatabaseFacts,
    Pooling,
    clock_difference_s,
    database_facts,
    log_facts,
    pending_upgrade,
    pooling,
)
from kora_daemon.store.postgres.sessions import Session
from kora_daemon.store.tables import TABLES

OLDEST_MAINTAINED = 14
"""The major version that PostgreSQL's makers still mend, at the time of this release."""
LARGEST_CLOCK_DIFFERENCE_S = 5.0
_TIMEOUT_S = 5.0


def session_of(settings: Settings) -> Session:
    """How to reach the database, without the patience of a daemon."""
    store = settings.store
    connect_s, statement_s = min(store.connect_timeout, _TIMEOUT_S), min(store.statement_timeout, _TIMEOUT_S)
    return Session(store.url or "", "kora-doctor", "normal", connect_s, statement_s, _TIMEOUT_S)


def postgres(settings: Settings) -> Iterator[Check]:
    """The database, as it is for the user of the URL."""
    session = session_of(settings)
    needed = settings.store.readers + CONNECTIONS_BESIDE_READERS
    needed += CONNECTIONS_FOR_BLOBS if settings.blobs.kind == "store" else 0
    facts = Once(lambda: database_facts(session, settings.store.application_name, _tables(settings)))
    yield Check("postgres.reachable", lambda: _reachable(session, facts()))
    for name, look in {
        "postgres.connections": lambda found: _connections(found, needed),
        "postgres.rights": _rights,
        "postgres.encoding": _encoding,
        "postgres.durability": _durability,
        "postgres.pooler": lambda found: _pooler(pooling(session)),
        "postgres.clock": lambda found: _clock(clock_difference_s(session)),
    }.items():
        yield Check(name, _when_reached(facts, look))
    for check in checks_of(settings, lambda: log_facts(session), lambda schema: pending_upgrade(session, schema)):
        yield Check(check.id, _when_reached(facts, _whatever_it_says(check.look)))


def _tables(settings: Settings) -> list[str]:
    """Those that a daemon will want to alter; a schema that can't be read has its own check."""
    collections: Iterable[str] = ()
    with suppress(ConfigError):
        collections = () if settings.schema is None else required_schema(settings).collections
    return [*(table.name for table in TABLES), *collections]


def _when_reached(
    facts: Once[DatabaseFacts], look: Callable[[DatabaseFacts], Finding | None]
) -> Callable[[], Finding | None]:
    """That a database can't be reached is said once."""

    def guarded() -> Finding | None:
        try:
            found = facts()
        except StoreUnavailable:
            return None
        return look(found)

    return guarded


def _whatever_it_says(look: Callable[[], Finding | None]) -> Callable[[DatabaseFacts], Finding | None]:
    return lambda found: look()


def _reachable(session: Session, facts: DatabaseFacts) -> Finding:
    found = f"{session.name} answers: PostgreSQL {facts.version}"
    if facts.only_reads:
        return failure(f"{found}, and only reads", "connect to the primary, such as by target_session_attrs=read-write")
    if facts.version_number // 10_000 < OLDEST_MAINTAINED:
        return warning(f"{found}, which gets no corrections any more", "upgrade it")
    return fine(found)


def _connections(facts: DatabaseFacts, needed: int) -> Finding:
    limits = [limit for limit in (facts.user_limit, facts.database_limit) if limit >= 0]
    most = min([facts.connections, *limits])
    free = most - facts.in_use + facts.ours
    found = f"a daemon takes up to {needed} connections; {most} may be had, {facts.in_use} are in use"
    if facts.ours:
        found += f", {facts.ours} of them by daemons"
    remedy = "raise max_connections (or the limit of the user or database), or lower store.readers"
    if needed > most:
        return failure(found, remedy)
    if needed > free:
        return warning(found, remedy)
    return fine(found)


def _rights(facts: DatabaseFacts) -> Finding:
    if facts.schema is None:
        return failure("there is no schema to put tables into", "create it, or correct search_path")
    if not facts.may_create:
        grant = f"GRANT CREATE, USAGE ON SCHEMA {facts.schema} TO {facts.user}"
        return failure(f"{facts.user} may not create tables in the schema {facts.schema}", grant)
    if facts.foreign_tables:
        return failure(
            f"{facts.user} does not own {', '.join(facts.foreign_tables)}, and so can't upgrade them",
            f"ALTER TABLE … OWNER TO {facts.user}, or GRANT their owner to it",
        )
    return fine(f"{facts.user} may create tables in the schema {facts.schema}")


def _encoding(facts: DatabaseFacts) -> Finding:
    if facts.encoding != "UTF8":
        return failure(
            f"its encoding is {facts.encoding}, which can't hold all texts", "CREATE DATABASE … ENCODING UTF8"
        )
    return fine("its encoding is UTF8")


def _durability(facts: DatabaseFacts) -> Finding:
    if not facts.survives_power_loss:
        return warning(
            "fsync or full_page_writes is off: what devices were told is stored may be lost with the power",
            "switch both on in postgresql.conf",
        )
    return fine("fsync and full_page_writes are on")


def _pooler(found: Pooling) -> Finding:
    if found == "transaction":
        return failure(
            "there is a pooler that changes connections between transactions; sessions have settings, and listen",
            "connect to the database itself, or to a pool in session mode",
        )
    return fine("no pooler is in between" if found == "none" else "a pooler is in between, in session mode")


def _clock(difference_s: float) -> Finding:
    found = f"its clock is {abs(difference_s):.3f} s {'ahead of' if difference_s > 0 else 'behind'} this host's"
    if abs(difference_s) > LARGEST_CLOCK_DIFFERENCE_S:
        return warning(found, "have both synchronised")
    return fine(found)
