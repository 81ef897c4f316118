"""What a presence state says about a record, and what is left without it."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from kora_daemon.model.record import RecordKey
from kora_daemon.server.cursors import read_presence

PLACE = '{"collection":"notes","recordId":"n1","field":"body","anchor":1}'


def read(text: str) -> tuple[str, str, RecordKey | None]:
    presence = read_presence(Raw(text.encode()))
    assert presence is not None
    return bytes(presence.state).decode(), bytes(presence.bare).decode(), presence.cursor


@pytest.mark.parametrize("text", ["{}", '{ "user": {"n": 1.50} }', '{"cursor": null, "user": 1e400}'])
def test_a_state_without_a_cursor_stays_as_it_is(text: str) -> None:
    assert read(text) == (text, text, None)


def test_the_cursor_can_be_cut_out() -> None:
    text = '{"user": {"name":"A", "n":1.50}, "cursor":' + PLACE + ', "z":[1]}'
    state, bare, cursor = read(text)
    assert (state, cursor) == (text, RecordKey("notes", "n1"))
    assert bare == '{"user":{"name":"A", "n":1.50},"z":[1]}'


@pytest.mark.parametrize("cursor", ["5", '"n1"', "[]", "{}", '{"collection":"notes"}', PLACE.replace('"n1"', "1")])
def test_a_cursor_that_names_no_record_is_cut_out_at_once(cursor: str) -> None:
    assert read('{"cursor":' + cursor + ',"user":1}') == ('{"user":1}', '{"user":1}', None)


def test_spelt_otherwise_or_twice_it_is_the_same_cursor() -> None:
    other = PLACE.replace("n1", "n2")
    text = '{"cursor":' + other + ',"c\\u0075rsor":' + PLACE + "}"
    assert read(text) == (text, "{}", RecordKey("notes", json.loads(text)["cursor"]["recordId"]))


@pytest.mark.parametrize("text", ["5", "null", "[]", '{"\\ud800":1}', '{"a":' * 5_000 + "1" + "}" * 5_000])
def test_what_is_no_state_is_none(text: str) -> None:
    presence = read_presence(Raw(text.encode()))
    assert presence is None or presence.cursor is None
