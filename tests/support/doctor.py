"""Checks run on settings, found by their ids."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kora_daemon.config import Settings
from kora_daemon.doctor.checks import Check, Finding, Severity
from kora_daemon.doctor.examination import Diagnosis, examine
from kora_daemon.doctor.rounds import diagnose
from tests.support.config import load


def diagnosed(folder: Path, toml: str) -> dict[str, Diagnosis]:
    """All that is found with a configuration, by id."""
    (folder / "kora.toml").write_text(toml)
    return {one.id: one for one in diagnose(folder / "kora.toml")}


def settings(folder: Path, toml: str = "") -> Settings:
    """Settings that may name files that are not there."""
    return load(folder, toml)


def finding(checks: Iterable[Check], name: str) -> Finding | None:
    """What one of these checks finds, as the doctor tells it."""
    (check,) = (one for one in checks if one.id == name)
    return next((Finding(one.severity, one.found, one.remedy) for one in examine([check])), None)


def is_well(found: Finding | Diagnosis | None, *words: str) -> None:
    """All is well, and these words are in what was found."""
    _judge(found, Severity.OK, words)


def is_doubtful(found: Finding | Diagnosis | None, *words: str) -> None:
    """There is a warning with a way out, and these words in it."""
    _judge(found, Severity.WARNING, words)


def has_failed(found: Finding | Diagnosis | None, *words: str) -> None:
    """Something does not work; these words are in what was found and in the way out."""
    _judge(found, Severity.FAILURE, words)


def _judge(found: Finding | Diagnosis | None, severity: Severity, words: Iterable[str]) -> None:
    assert found is not None
    assert found.severity is severity, found
    assert bool(found.remedy) is (severity is not Severity.OK)
    for word in words:
        assert word in f"{found.found}\n{found.remedy}", found
