"""What a view shows of the log, whenever it was written: by what entries carry, their stamps, or their records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from kora_daemon.errors import StoreUnavailable
from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.record import RecordKey
from kora_daemon.model.view import View
from kora_daemon.server.visible import entries_by_records
from tests.support.operations import entry

SCOPED = {"todos": frozenset({"userId"})}


class Records:
    """Counts what it is asked."""

    def __init__(self, **records: Mapping[str, Any]) -> None:
        self.records = {RecordKey("todos", name): fields for name, fields in records.items()}
        self.asked: list[list[str]] = []

    def look_up(self, keys: Iterable[RecordKey]) -> dict[RecordKey, Mapping[str, Any]]:
        wanted = sorted(keys)
        self.asked.append([key.record_id for key in wanted])
        return {key: self.records[key] for key in wanted if key in self.records}


def written(
    number: int, record_id: str, data: Any = None, stamp: str | None = None, before: Any = None
) -> DeliveryEntry:
    body = json.dumps({"recordId": record_id, "data": data, "previousData": before}).encode()
    return replace(entry(number, body=body), stamp=stamp)


def shown(view: View, records: Records, *entries: DeliveryEntry) -> list[int]:
    return [one.sequence for one in entries_by_records(view, entries, SCOPED, records.look_up)]


ALICE = View({"todos": {"userId": "alice"}})
HERS, HIS = {"userId": "alice", "title": "t"}, {"userId": "bob", "title": "t"}


def test_what_an_entry_carries_or_its_stamp_says_needs_no_record() -> None:
    records = Records(r=HERS)
    entries = [
        written(1, "r", {"userId": "alice"}),
        written(2, "r", {"title": "x"}, '{"userId":"alice"}'),
        written(3, "r", {"title": "x"}, '{"userId":"bob"}'),
        written(4, "r", {"userId": "bob"}, '{"userId":"alice"}'),
        written(5, "r", None, '{"userId":"alice"}'),
    ]
    assert shown(ALICE, records, *entries) == [1, 2, 5]
    assert records.asked == []


def test_without_a_stamp_the_record_tells() -> None:
    records = Records(hers=HERS, his=HIS)
    entries = [written(n, name, {"title": "x"}) for n, name in enumerate(("hers", "his", "nobodys", "hers"))]
    assert shown(ALICE, records, *entries) == [0, 3]
    assert records.asked == [["hers", "his", "nobodys"]], "all in one go, each once"


def test_a_field_whose_stamps_are_not_kept_up_is_looked_up() -> None:
    view = View({"todos": {"title": "t"}})
    records = Records(r=HERS)
    assert shown(view, records, written(1, "r", {"userId": "x"}, '{"title":"old"}')) == [1]
    assert shown(view, records, written(1, "r", {"userId": "x"}, '{"title":"t"}')) == [1]
    assert records.asked == [["r"], ["r"]]


def test_only_what_is_in_doubt_is_looked_up() -> None:
    view = View({"todos": {"userId": "alice"}, "notes": {}}, (("todos", {"title": "t"}),))
    records = Records(doubt=HERS)
    entries = [
        replace(written(1, "doubt", {"title": "t"}), collection="hidden"),
        replace(written(2, "doubt", {"title": "t"}), collection="notes"),
        written(3, "known", {"title": "t"}, '{"userId":"alice"}'),
        written(4, "doubt", {"done": True}, '{"userId":"alice","title":"old"}'),
    ]
    assert shown(view, records, *entries) == [2, 3, 4]
    assert records.asked == [["doubt"]]


@pytest.mark.parametrize(("stamp", "asked"), [('{"userId":"alice"}', []), (None, [["r"]])])
def test_where_scopes_go_by_records_what_an_entry_carries_does_not_count(
    stamp: str | None, asked: list[list[str]]
) -> None:
    view = View({"todos": {"userId": "alice"}}, by_record=True)
    records = Records(r=HERS)
    assert shown(view, records, written(1, "r", {"userId": "bob"}, stamp)) == [1]
    assert records.asked == asked
    assert shown(view, Records(r=HIS), written(1, "r", {"userId": "alice"})) == []


def test_what_is_looked_up_lies_under_what_an_entry_carries() -> None:
    view = View({"todos": {"userId": "alice"}}, (("todos", {"title": "x"}),))
    records = Records(r=HIS)
    assert shown(view, records, written(1, "r", {"title": "x"}, None, {"userId": "alice"})) == [1]
    assert shown(view, records, written(1, "r", {"done": True}, None, {"userId": "alice"})) == []


def test_a_look_up_that_fails_fails() -> None:
    def fails(keys: Iterable[RecordKey]) -> Mapping[RecordKey, Mapping[str, Any]]:
        raise StoreUnavailable

    with pytest.raises(StoreUnavailable):
        entries_by_records(ALICE, [written(1, "r")], SCOPED, fails)


def test_who_is_not_restricted_needs_nothing() -> None:
    records = Records()
    assert shown(View(), records, written(1, "r"), written(2, "s")) == [1, 2]
    assert records.asked == []
