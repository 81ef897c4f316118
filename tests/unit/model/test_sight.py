"""What scopes say about a record alone, with and without a look at it (scopes.md sections 3, 4 and 9)."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.model.scope import READ_ONLY, ScopeMap
from kora_daemon.model.sight import edits, edits_at_once, sees, sees_at_once

OWN: ScopeMap = {"notes": {"ownerId": "ali"}}


@pytest.mark.parametrize(
    ("scopes", "seen", "edited"),
    [
        (None, True, True),
        ({}, False, False),
        ({"todos": {}}, False, False),
        ({"notes": {}}, True, True),
        ({"notes": {READ_ONLY: True}}, True, False),
        ({"notes": {READ_ONLY: False}}, True, True),
        (OWN, None, None),
        ({"notes": {"ownerId": "ali", READ_ONLY: True}}, None, False),
        ({"notes": {"ownerId": None}}, None, None),
    ],
)
def test_at_once(scopes: ScopeMap | None, seen: bool | None, edited: bool | None) -> None:
    assert sees_at_once(scopes, "notes") is seen
    assert edits_at_once(scopes, "notes") is edited


@pytest.mark.parametrize(
    ("record", "seen"),
    [
        ({"id": "n1", "ownerId": "ali", "title": "x"}, True),
        ({"id": "n1", "ownerId": "bea"}, False),
        ({"id": "n1", "ownerId": None}, False),
        ({"id": "n1"}, False),
        (None, False),
    ],
)
def test_by_the_record(record: dict[str, Any] | None, seen: bool) -> None:
    assert sees(OWN, "notes", record) is seen
    assert edits(OWN, "notes", record) is seen


@pytest.mark.parametrize("scopes", [None, {}, {"notes": {}}, {"notes": {READ_ONLY: True}}, {"todos": {}}])
@pytest.mark.parametrize("record", [None, {"id": "n1"}])
def test_what_is_said_at_once_is_what_the_record_would_say(
    scopes: ScopeMap | None, record: dict[str, Any] | None
) -> None:
    assert sees(scopes, "notes", record) is sees_at_once(scopes, "notes")
    assert edits(scopes, "notes", record) is edits_at_once(scopes, "notes")
