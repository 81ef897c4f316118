"""Batches begin where a stock client would drop operations otherwise."""

from __future__ import annotations

import json
from typing import Any

from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.view import View
from kora_daemon.server.visible import apart
from tests.support.operations import entry

MINE = View({"todos": {"userId": "u1"}, "notes": {}})


def of_record(sequence: int, record: str, data: dict[str, Any] | None, previous: Any = None) -> DeliveryEntry:
    return entry(sequence, body=json.dumps({"recordId": record, "data": data, "previousData": previous}).encode())


def created(sequence: int, record: str) -> DeliveryEntry:
    return of_record(sequence, record, {"userId": "u1", "title": "t"})


def changed(sequence: int, record: str) -> DeliveryEntry:
    return of_record(sequence, record, {"title": "u"}, {"title": "t"})


def deleted(sequence: int, record: str) -> DeliveryEntry:
    return of_record(sequence, record, None)


def test_a_partial_change_is_not_in_the_batch_that_brings_its_record() -> None:
    assert apart(MINE, [created(1, "a"), created(2, "b"), changed(3, "a")]) == [3]
    assert apart(MINE, [created(1, "a"), deleted(4, "a")]) == [4]


def test_changes_of_records_brought_before_stay_together() -> None:
    entries = [created(1, "a"), created(2, "b"), changed(3, "a"), changed(4, "b"), deleted(5, "a")]
    assert apart(MINE, entries) == [3]
    assert apart(MINE, [changed(3, "a"), deleted(4, "b"), changed(5, "a")]) == []


def test_a_record_brought_behind_a_beginning_begins_again() -> None:
    entries = [created(1, "a"), changed(2, "a"), created(3, "b"), changed(4, "a"), changed(5, "b")]
    assert apart(MINE, entries) == [2, 5]


def test_what_says_enough_itself_needs_no_beginning() -> None:
    assert apart(MINE, [created(1, "a"), of_record(2, "a", {"title": "u", "userId": "u1"})]) == []
    assert apart(MINE, [created(1, "a"), of_record(2, "a", {"title": "u"}, {"userId": "u1"})]) == []


def test_where_clients_check_nothing_batches_are_left_alone() -> None:
    entries = [created(1, "a"), changed(2, "a"), deleted(3, "a")]
    assert apart(View(), entries) == []
    assert apart(View({"todos": {}}), entries) == []
    assert apart(View({"todos": {"userId": "u1"}}, by_record=True), entries) == []


def test_live_queries_are_checked_too_that_for_everything_included() -> None:
    entries = [created(1, "a"), changed(2, "a"), deleted(3, "a")]
    assert apart(View(None, (("todos", {}),)), entries) == [3]
    assert apart(View(None, (("todos", {"userId": "u1"}),)), entries) == [2]
    assert apart(View({"todos": {"userId": "u1"}}, (("todos", {}),), by_record=True), entries) == [3]
