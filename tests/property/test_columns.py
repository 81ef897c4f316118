"""Columns take any value of any kind of field without complaint, and show again what they have shown."""

from __future__ import annotations

import re
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.materialization.columns import Dialect, FieldValue, column_value, field_value
from kora_daemon.materialization.json_text import read_json, write_json
from kora_daemon.model.schema import KINDS, Kind

any_text = st.text(st.characters(), max_size=8)
any_number = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
bytes_forms = st.one_of(
    st.builds(lambda text: {"$koraBytes": text}, st.sampled_from(["AQID", "", "A", "no base64!", "AQ=="])),
    st.builds(lambda text: {"__kora_bytes__": text}, st.sampled_from(["AQID", "", 7])),
    st.just({"0": 1, "1": 255}),
)
any_value = st.recursive(
    st.none() | st.booleans() | any_number | any_text | st.just(10**400) | st.just(-(10**400)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4) | bytes_forms,
    max_leaves=8,
)
kinds = st.sampled_from(KINDS)
connection = apsw.Connection(":memory:")


@settings(deadline=None)
@given(kinds, any_value)
def test_sqlite_takes_every_column_and_gives_it_back(kind: Kind, value: Any) -> None:
    column = column_value(kind, value, Dialect.SQLITE)
    ((bound,),) = connection.execute("SELECT ?", (column,))
    assert field_value(kind, bound) == field_value(kind, column)


@settings(deadline=None)
@given(kinds, any_value)
def test_postgresql_is_given_nothing_that_it_refuses(kind: Kind, value: Any) -> None:
    column = column_value(kind, value, Dialect.POSTGRES)
    if isinstance(column, str):
        assert "\0" not in column.encode().decode()
    if isinstance(column, int):
        assert -(2**63) <= column < 2**63
    if kind in ("array", "object", "json") and column is not None:
        assert isinstance(column, str)
        assert not re.search("[\0\ud800-\udfff]", "".join(_texts(read_json(column))))


@settings(deadline=None)
@given(kinds, any_value, st.sampled_from(Dialect))
def test_what_a_column_shows_it_shows_again_when_written_back(kind: Kind, value: Any, dialect: Dialect) -> None:
    shown = field_value(kind, column_value(kind, value, dialect))
    if isinstance(shown, bytes):
        return
    again = field_value(kind, column_value(kind, shown, dialect))
    assert again == shown
    assert type(again) is type(shown)


@settings(deadline=None)
@given(any_value)
def test_json_survives_as_text(value: Any) -> None:
    text = write_json(value)
    assert read_json(text) == value
    assert read_json(text.encode()) == value


def _texts(value: FieldValue) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for one in value.values() for text in _texts(one))]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("kind", KINDS)
def test_null_is_null_in_every_column(kind: Kind) -> None:
    assert column_value(kind, None, Dialect.SQLITE) is None
    assert column_value(kind, None, Dialect.POSTGRES) is None
    assert field_value(kind, None) is None
