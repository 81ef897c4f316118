"""What is particular to the store in memory."""

from __future__ import annotations

import sys

import msgspec

from kora_daemon.model.operation import Operation
from kora_daemon.store.memory import MemoryStore
from tests.support.log import append, log_ids, operation, operations


def test_the_frames_from_which_operations_were_decoded_are_let_go() -> None:
    store = MemoryStore()
    store.open()
    frame = msgspec.json.encode([operation(n, atomic_ops=msgspec.Raw(b'{"n":{}}')) for n in range(1, 4)])
    held = sys.getrefcount(frame)
    decoded = msgspec.json.decode(frame, type=list[Operation])
    assert sys.getrefcount(frame) > held
    append(store, *decoded)
    del decoded
    assert sys.getrefcount(frame) == held


def test_closing_forgets_the_log_and_the_node_id() -> None:
    store = MemoryStore()
    store.open()
    node_id = store.node_id
    append(store, *operations(range(1, 4)))
    store.close()
    store.open()
    assert log_ids(store) == []
    assert store.version_vector() == {}
    assert store.node_id != node_id
    assert append(store, operation(1)) == [1]
