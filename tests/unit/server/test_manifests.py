"""Who may ask for the parts of a blob: who was given the manifest."""

from __future__ import annotations

import pytest

from kora_daemon.server import manifests as module
from kora_daemon.server.manifests import HandedManifests

M1, M2, M3, M4 = (f"{number:064x}" for number in range(4))
PARTS = [f"{number:064x}" for number in range(100, 110)]


def test_a_user_may_ask_for_the_parts_and_nobody_else() -> None:
    handed = HandedManifests()
    handed.learn("ali", M1, PARTS[:2])
    assert handed.names_of("ali", PARTS[1]) == {PARTS[1], M1}
    assert handed.names_of("ali", PARTS[2]) == {PARTS[2]}
    assert handed.names_of("bea", PARTS[1]) == {PARTS[1]}


def test_the_last_manifest_counts() -> None:
    handed = HandedManifests()
    handed.learn("ali", M1, PARTS[:3])
    handed.learn("ali", M2, PARTS[1:2])
    handed.learn("ali", M3, [])
    assert [handed.names_of("ali", part) - {part} for part in PARTS[:3]] == [{M1}, {M2}, {M1}]


def test_there_are_limits_for_one_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PARTS_OF_A_USER", 3)
    monkeypatch.setattr(module, "MAX_PARTS", 5)
    handed = HandedManifests()
    handed.learn("ali", M1, PARTS[:2])
    handed.learn("ali", M2, PARTS[2:4])
    assert handed.names_of("ali", PARTS[0]) == {PARTS[0]}
    assert handed.names_of("ali", PARTS[2]) == {PARTS[2], M2}
    handed.learn("bea", M3, PARTS[4:6])
    handed.learn("cem", M4, PARTS[6:8])
    assert handed.names_of("ali", PARTS[2]) == {PARTS[2]}
    assert handed.names_of("bea", PARTS[4]) == {PARTS[4], M3}
    assert handed._count == 4
