"""All checks, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from kora_daemon.config import Settings, load_settings
from kora_daemon.doctor.blobs import blobs
from kora_daemon.doctor.certificate import certificate
from kora_daemon.doctor.checks import Check, Finding, Subject, fine
from kora_daemon.doctor.clock import clock
from kora_daemon.doctor.configuration import configuration
from kora_daemon.doctor.examination import Diagnosis, examine
from kora_daemon.doctor.keys import keys
from kora_daemon.doctor.network import network
from kora_daemon.doctor.resources import resources
from kora_daemon.doctor.sqlite import sqlite
from kora_daemon.doctor.tables import tables


def postgres(settings: Settings) -> Iterator[Check]:
    """The PostgreSQL database, where there is one."""
    if settings.store.kind == "postgres":
        # Here, so that nobody else waits for the driver.
        from kora_daemon.doctor import postgres  # noqa: PLC0415

        yield from postgres.postgres(settings)


SUBJECTS: tuple[Subject, ...] = (
    configuration,
    keys,
    network,
    certificate,
    resources,
    clock,
    sqlite,
    postgres,
    tables,
    blobs,
)


def diagnose(source: Path) -> Iterator[Diagnosis]:
    """Look at everything that a configuration file names. With one that is not valid, at the file alone."""
    read: list[Settings] = []

    def configured() -> Finding:
        read.append(load_settings(source))
        return fine(f"{source} is valid")

    yield from examine([Check("config.valid", configured)])
    for settings in read:
        yield from examine(chain.from_iterable(_checks_of(subject, settings) for subject in SUBJECTS))


def _checks_of(subject: Subject, settings: Settings) -> Iterable[Check]:
    """Its checks; a subject that can't even say which those are is a check that fails."""
    try:
        return list(subject(settings))
    except Exception as error:
        trouble = error

        def fail() -> Finding:
            raise trouble

        return [Check(f"{subject.__name__}.checks", fail)]
