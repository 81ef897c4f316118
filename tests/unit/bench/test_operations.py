"""What the load generator writes is what apps write."""

from __future__ import annotations

import json

from kora_daemon.bench.operations import SCHEMA, Author, chunks, new_id, records_for
from kora_daemon.model.identity import is_uuid7, operation_id
from kora_daemon.schema_file import read_schema


def test_operations_have_their_content_ids_and_go_on_from_each_other() -> None:
    node = new_id()
    made = Author(node, payload_bytes=40, records=2).write(5)
    assert [one.id for one in made] == [operation_id(one) for one in made]
    assert [one.type for one in made] == ["insert", "insert", "update", "update", "update"]
    assert [one.sequence_number for one in made] == [1, 2, 3, 4, 5]
    assert [one.causal_deps for one in made[1:]] == [[one.id] for one in made[:-1]]
    assert {one.node_id for one in made} == {node}
    assert made[0].record_id == made[2].record_id == made[4].record_id != made[1].record_id
    assert is_uuid7(made[0].record_id)
    assert sorted(one.timestamp.order_key for one in made) == [one.timestamp.order_key for one in made]
    assert len(json.loads(bytes(made[0].data))["notes"]) == 40
    assert json.loads(bytes(made[4].previous_data)) == json.loads(bytes(made[2].data))


def test_they_are_of_the_collection_that_the_daemon_has() -> None:
    (collection,) = read_schema(SCHEMA).collections.values()
    for one in Author(new_id(), records=1).write(2):
        assert one.collection == collection.name
        assert json.loads(bytes(one.data)).keys() <= collection.fields.keys()


def test_how_many_records_there_are_for_so_many_updates() -> None:
    assert [records_for(100, updates) for updates in (0, 1, 3, 99)] == [0, 50, 25, 1]
    made = Author(new_id(), records=records_for(100, 0)).write(100)
    assert len({one.record_id for one in made}) == 100


def test_batches_leave_nothing_out() -> None:
    made = Author(new_id()).write(7)
    assert [list(one) for one in chunks(made, 3)] == [made[:3], made[3:6], made[6:]]
