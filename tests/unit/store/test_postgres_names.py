"""Names that PostgreSQL's texts can't hold come back all the same, in their places."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from kora_daemon.model.record import RecordKey
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.postgres.names import names_json, read_name, rows_json, stored_name
from tests.support.log import append, operation, plain
from tests.support.postgres import server

NAMES = st.text(st.sampled_from("\0\1\2a\ud7fe\ud7ff\ud800\udbff\udc00\udfff\ue000😀"), max_size=6)


@given(NAMES)
def test_every_name_can_be_stored_and_comes_back(name: str) -> None:
    column = stored_name(name)
    assert "\0" not in column
    column.encode()
    assert read_name(column) == name


@given(NAMES, NAMES)
def test_names_keep_their_order(one: str, another: str) -> None:
    columns = stored_name(one), stored_name(another)
    assert (columns[0] < columns[1]) == (one < another)


@pytest.mark.parametrize("name", ["", "018f3b7e-7b3a-7c3e-9a53-0123456789ab", "é東😀\ue000", "tab\tand\x02", "\\u0000"])
def test_usual_names_are_stored_as_they_are(name: str) -> None:
    assert stored_name(name) == read_name(name) == name


def test_only_names_are_written_otherwise() -> None:
    assert names_json(["a\0", "\1", "b"]) == '["a\\u0001\\u0001","\\u0001\\u0002","b"]'
    assert rows_json([("a\0", "b\1", None, 1)], (0, 2)) == '[{"c0":"a\\u0001\\u0001","c1":"b\\u0001","c2":null,"c3":1}]'
    assert rows_json([("\ud7ff", "\ud7ff")], (0,)) == '[{"c0":"\ud7ff\\u0001","c1":"\ud7ff"}]'
    assert rows_json([], (0,)) == "[]"


@pytest.fixture
def store() -> Iterator[PostgresStore]:
    made = PostgresStore(server().schema())
    made.open()
    yield made
    made.close()


def test_data_beside_strange_names_stay_as_they_were_sent(store: PostgresStore) -> None:
    data = Raw('{"a":"\ud7ff","b":"\\u0000\\ud800"}'.encode())
    sent = [
        operation(1, data=data, previous_data=data, record_id="nul\0", transaction_id="\ud7ff", mutation_name="\1\1"),
        operation(2, data=data, id="\ud800\0", node_id="\ud7ff"),
        operation(3, data=data),
    ]
    append(store, *sent)
    assert [plain(entry.operation) for entry in store.entries_after(0, 9)] == [plain(one) for one in sent]
    assert store.known_ids(["\ud800\0", "\ud800", "node-a:1"]) == {"\ud800\0", "node-a:1"}
    assert store.version_vector() == {"node-a": 3, "\ud7ff": 2}
    with store.transaction() as tx:
        assert [plain(one) for one in tx.history(RecordKey("todos", "nul\0"))] == [plain(sent[0])]
        assert tx.sequence_number_of("\ud7ff") == 2
