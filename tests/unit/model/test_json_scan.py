"""Where the parts of a JSON text stand, and which texts are hard to read."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from kora_daemon.model.json_scan import (
    is_deeper,
    member_start,
    needs_closer_look,
    object_members,
    raw_members,
    read_value,
    scan_elements,
)

VALUES = [None, 1.5, "", "\ud800", '{"[,:]}\\', [], {}, [[1], {"a": {"b": []}}], {"a": [{}], "": ","}]
SPACES = pytest.mark.parametrize("space", ["", " ", "\n\t \r"])


@SPACES
def test_the_texts_of_members_are_cut_out_as_they_stand(space: str) -> None:
    texts = {f"{number}{{,": json.dumps(value) for number, value in enumerate(VALUES)}
    members = (f"{json.dumps(name)}{space}:{space}{text}" for name, text in texts.items())
    text = f"{space}{{{space}{f'{space},{space}'.join(members)}{space}}}{space}"
    assert _plain(object_members(text)) == texts
    for name, value in texts.items():
        assert text.startswith(value, member_start(text, name))
    assert object_members(f"{space}{{{space}}}") == {}


@SPACES
def test_the_elements_of_a_list_and_where_they_stand(space: str) -> None:
    texts = list(map(json.dumps, VALUES))
    text = f"[{space}{f'{space},{space}'.join(texts)}{space}]"
    parts = list(scan_elements(text, 0))
    assert [part.value for part in parts] == VALUES
    assert [text[part.start : part.end] for part in parts] == texts
    assert list(scan_elements(f"[{space}]", 0)) == []


def _plain(members: dict[str, Raw]) -> dict[str, str]:
    return {name: bytes(raw).decode() for name, raw in members.items()}


def test_of_members_with_the_same_name_it_is_the_last_one() -> None:
    assert _plain(raw_members('{"a":1,"b":[],"a":{"a":2}}')) == {"a": '{"a":2}', "b": "[]"}
    assert member_start('{"a":1,"a":2}', "a") == 11


@pytest.mark.parametrize("text", ["[1]", "1", "null", '{"a":NaN}', "{} {}", "Infinity", ""])
def test_what_is_no_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"type|JSON|Extra data|Expecting value"):
        object_members(text)


def test_how_deep_a_value_goes() -> None:
    value = read_value('{"a":[1,{"b":[]}],"c":{}}')
    assert [levels for levels in range(6) if is_deeper(value, levels)] == [0, 1, 2, 3]
    assert not is_deeper("text", 0)


@pytest.mark.parametrize(
    ("text", "is_hard"),
    [
        (b"[" * 500, False),
        (b"[" * 501, True),
        (b'{"a":' * 250 + b"[" * 251, True),
        (b"1" * 4_299, False),
        (b'{"a":' + b"9" * 4_300 + b"}", True),
        (b"1234567 " * 1_000, False),
    ],
)
def test_what_is_hard_to_read(text: bytes, is_hard: bool) -> None:
    assert needs_closer_look(text) == is_hard
