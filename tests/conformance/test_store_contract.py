"""What `kora_daemon.store.contract` promises, held against every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from kora_daemon.errors import StoreError, StoreUnavailable
from kora_daemon.model.delivery import CausalKey, DeliveryEntry
from kora_daemon.model.identity import is_uuid7
from kora_daemon.model.operation import NULL, Operation, Timestamp
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.sqlite import SqliteStore
from tests.support.log import RECEIVED_AT_MS, append, log_ids, operation, operations, plain, plains
from tests.support.postgres import server

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite-full": lambda folder: SqliteStore(folder / "kora.db"),
    "sqlite-normal": lambda folder: SqliteStore(folder / "kora.db", durability="normal", readers=2),
    "postgres": lambda folder: PostgresStore(server().schema()),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = STORES[request.param](tmp_path)
    made.open()
    yield made
    made.close()


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.frontier() == 0
    assert store.count_operations() == 0
    assert store.version_vector() == {}
    assert store.entries_after(0, 10) == []
    assert store.causal_keys_above({}) == []


def test_a_store_knows_how_much_room_it_takes(store: Store) -> None:
    before = store.size_bytes()
    append(store, *operations(range(1, 501)))
    assert store.size_bytes() > before or isinstance(store, MemoryStore)
    assert before > 0 or isinstance(store, MemoryStore)


def test_the_server_has_a_node_id_of_its_own(store: Store) -> None:
    assert is_uuid7(store.node_id)
    assert store.node_id == store.node_id


# -- what goes in comes out -------------------------------------------------------------------------------------------

AS_SENT = {
    "plain": {},
    "key order, white space and repeated keys": {"data": Raw(b'{ "z":1, "a" : 2,\n"z":3 }')},
    "numbers no double can hold": {"data": Raw(b'{"n":12345678901234567890123,"e":1E400,"z":-0.0,"f":1.10}')},
    "half a surrogate pair in the data": {"data": Raw(rb'{"t":"\ud800 \udc00 \u0000"}')},
    "text of all kinds": {"data": Raw('{"t":"é東😀\u2028"}'.encode())},
    "no data": {"type": "delete", "data": NULL, "previous_data": NULL},
    "previous data": {"type": "update", "previous_data": Raw(b'{"title":null}')},
    "the word null as a text": {"data": Raw(b'"null"')},
    "atomic operations": {"atomic_ops": Raw(b'{"n":{"type":"increment","value":1.0}}')},
    "causes": {"causal_deps": ["x", 'quote"d', "é😀", "nul\0"]},
    "names": {"transaction_id": "tx-1", "mutation_name": "check-out"},
    "names that are empty": {"transaction_id": "", "mutation_name": ""},
    "names of all kinds": {"transaction_id": "é😀", "mutation_name": "nul\0"},
    "another clock": {"timestamp": Timestamp(0, 99_999, "other")},
    "large numbers": {"sequence_number": 2**53 - 1, "schema_version": 2**53 - 1},
    "names that JSON has to escape": {"record_id": 'quote"d', "collection": "back\\slash", "node_id": "line\nend"},
    "strange names": {"id": "nul\0", "record_id": "'; --\0\x01", "collection": "constructor", "node_id": "12"},
}


@pytest.mark.parametrize("changes", AS_SENT.values(), ids=AS_SENT)
def test_an_operation_comes_back_as_it_was_sent(store: Store, changes: dict[str, Any]) -> None:
    sent = operation(1, **changes)
    append(store, sent)
    (entry,) = store.entries_after(0, 10)
    assert plain(entry.operation) == plain(sent)
    assert store.deliveries_after(0, 10, 0) == [DeliveryEntry.of(entry)]
    assert plains(store.operation_range(sent.node_id, sent.sequence_number, sent.sequence_number)) == [plain(sent)]


def test_null_and_unset_are_the_same_in_the_log(store: Store) -> None:
    append(store, operation(1, atomic_ops=UNSET, transaction_id=UNSET), operation(2, atomic_ops=UNSET))
    assert [entry.operation.atomic_ops for entry in store.entries_after(0, 10)] == [UNSET, UNSET]
    assert [entry.operation.transaction_id for entry in store.entries_after(0, 10)] == [UNSET, UNSET]


def test_the_caller_may_change_its_operation_afterwards(store: Store) -> None:
    sent = operation(1)
    append(store, sent)
    sent.data = Raw(b'{"title":"another"}')
    sent.transaction_id = "another"
    assert plain(store.entries_after(0, 1)[0].operation) == plain(operation(1))


def test_operations_decoded_from_a_frame_keep_their_text(store: Store) -> None:
    frame = msgspec.json.encode(operations(range(1, 4)))
    append(store, *msgspec.json.decode(frame, type=list[Operation]))
    del frame
    assert plains([entry.operation for entry in store.entries_after(0, 10)]) == plains(operations(range(1, 4)))


# -- delivery sequence ------------------------------------------------------------------------------------------------


def test_delivery_sequences_ascend_without_gaps(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.append(operations(range(1, 4)), RECEIVED_AT_MS) == [1, 2, 3]
        assert tx.append([], RECEIVED_AT_MS) == []
        assert tx.append(operations(range(4, 6)), RECEIVED_AT_MS) == [4, 5]
    assert append(store, operation(6)) == [6]
    assert [entry.sequence for entry in store.entries_after(0, 10)] == [1, 2, 3, 4, 5, 6]
    assert store.frontier() == store.count_operations() == 6


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, StoreError])
def test_a_write_that_fails_leaves_no_trace_and_no_gap(store: Store, failure: type[BaseException]) -> None:
    def fail_half_way() -> None:
        with store.transaction() as tx:
            tx.append(operations(range(2, 5)), RECEIVED_AT_MS)
            raise failure

    append(store, operation(1))
    with pytest.raises(failure):
        fail_half_way()
    assert log_ids(store) == ["node-a:1"]
    assert store.version_vector() == {"node-a": 1}
    assert (store.frontier(), store.count_operations()) == (1, 1)
    with store.transaction() as tx:
        assert tx.known_ids(["node-a:1", "node-a:2"]) == {"node-a:1"}
        assert tx.append([operation(2)], RECEIVED_AT_MS) == [2]
    assert log_ids(store) == ["node-a:1", "node-a:2"]


def test_an_id_can_not_be_appended_twice(store: Store) -> None:
    append(store, operation(1))
    with pytest.raises(StoreError), store.transaction() as tx:
        tx.append([operation(2), operation(1)], RECEIVED_AT_MS)
    with pytest.raises(StoreError), store.transaction() as tx:
        tx.append([operation(2), operation(2)], RECEIVED_AT_MS)
    assert log_ids(store) == ["node-a:1"]
    assert append(store, operation(2)) == [2]


def test_known_ids_are_those_in_the_log_and_in_this_write(store: Store) -> None:
    append(store, *operations(range(2_000)), operation(1, id="nul\0"), operation(1, id="😀"))
    with store.transaction() as tx:
        tx.append([operation(5_000)], RECEIVED_AT_MS)
        asked = [f"node-a:{number}" for number in range(1_000, 6_000)]
        assert tx.known_ids(asked) == {f"node-a:{number}" for number in (*range(1_000, 2_000), 5_000)}
        assert tx.known_ids(["nul\0", "nul", "😀", "\ud83d", ""]) == {"nul\0", "😀"}
        assert tx.known_ids([]) == set()


# -- version vector ---------------------------------------------------------------------------------------------------


def test_the_version_vector_is_the_largest_sequence_number_of_each_author(store: Store) -> None:
    append(store, operation(5), operation(2), operation(9), operation(4, "node-b"))
    append(store, operation(3), operation(7, "node-b"))
    assert store.version_vector() == {"node-a": 9, "node-b": 7}


def test_an_author_of_sequence_number_0_only_has_no_entry(store: Store) -> None:
    append(store, operation(0), operation(0, "node-b"))
    append(store, operation(3, "node-b"))
    assert store.version_vector() == {"node-b": 3}
    assert store.version_vector(["node-a", "node-b"]) == {"node-b": 3}


def test_the_version_vector_can_be_asked_for_some_nodes(store: Store) -> None:
    append(store, *(operation(1, node) for node in ("node-a", "node-b", "nul\0", "12", 'quote"d')))
    asked = ["node-b", "nobody", "nul\0", "nul", "12", 'quote"d', "\ud800", "node-b"]
    assert store.version_vector(asked) == {"node-b": 1, "nul\0": 1, "12": 1, 'quote"d': 1}
    assert store.version_vector([]) == {}


# -- reading ----------------------------------------------------------------------------------------------------------


def test_pages_of_the_log_join_without_gap_or_overlap(store: Store) -> None:
    append(store, *operations(range(1, 26)))
    found: list[int] = []
    while page := store.entries_after(found[-1] if found else 0, 10):
        assert len(page) <= 10
        found += [entry.sequence for entry in page]
    assert found == list(range(1, 26))


@pytest.mark.parametrize(("after", "limit", "expected"), [(-1, 2, [1, 2]), (1, 0, []), (1, -1, []), (9, 5, [])])
def test_pages_at_the_edges_of_the_log(store: Store, after: int, limit: int, expected: list[int]) -> None:
    append(store, *operations(range(1, 4)))
    assert [entry.sequence for entry in store.entries_after(after, limit)] == expected


def test_a_page_ends_behind_the_entry_that_passes_the_limit_in_bytes(store: Store) -> None:
    ten_bytes = Raw(b'{"a":1234}')
    umlauts = Raw('{"a":"äöü"}'.encode())  # 14 bytes, 11 characters
    append(store, *(operation(number, data=ten_bytes, previous_data=ten_bytes) for number in range(1, 6)))
    append(store, *(operation(number, data=umlauts, previous_data=umlauts) for number in range(6, 9)))
    assert [len(store.entries_after(0, 10, limit)) for limit in (0, 19, 20, 39, 40, 1000)] == [1, 1, 2, 2, 3, 8]
    assert [len(store.entries_after(5, 10, limit)) for limit in (27, 28, 55, 56)] == [1, 2, 2, 3]
    assert len(store.entries_after(0, 3, 1000)) == 3


def test_what_is_to_be_sent_ends_behind_the_entry_that_passes_the_limit_in_bytes(store: Store) -> None:
    append(store, *(operation(number, data=Raw(b'{"t":"%s"}' % (b"x" * 80 * number))) for number in range(1, 9)))
    first, second, *_ = (len(entry.body) for entry in store.deliveries_after(0, 8, 1 << 20))
    limits = (0, first - 1, first, first + second - 1, first + second, 1 << 20)
    assert [len(store.deliveries_after(0, 8, limit)) for limit in limits] == [1, 1, 2, 2, 3, 8]
    assert [entry.sequence for entry in store.deliveries_after(2, 3, 1 << 20)] == [3, 4, 5]
    assert [len(store.deliveries_after(-1, limit, 1 << 20)) for limit in (-1, 0, 2)] == [0, 0, 2]


def test_authors_are_those_of_the_entries_above_a_position(store: Store) -> None:
    append(store, operation(1, "node-a"), operation(1, "node-b"), operation(2, "node-b"))
    assert store.authors_after(0) == {"node-a", "node-b"}
    assert store.authors_after(1) == {"node-b"}
    assert store.authors_after(3) == set()


def test_entries_are_read_by_position_in_the_order_given(store: Store) -> None:
    append(store, *operations(range(1, 6)))
    found = store.deliveries_at([4, 99, 1, 0, -1, 5])
    assert [(entry.sequence, entry.operation_id) for entry in found] == [
        (4, "node-a:4"),
        (1, "node-a:1"),
        (5, "node-a:5"),
    ]
    assert store.deliveries_at([]) == []


def test_an_operation_is_found_by_its_id(store: Store) -> None:
    append(store, *operations(range(1, 4)))
    entry = store.entries_after(1, 1)[0]
    assert store.sequence_of(entry.operation.id) == 2
    assert store.sequence_of("nothing of the kind") is None
    assert store.sequence_of("nul\0 and half \ud800") is None


def test_causal_keys_above_a_vector_come_in_delivery_order(store: Store) -> None:
    append(store, operation(2), operation(1, "node-b"), operation(1), operation(3, "node-c"), operation(2, "node-b"))
    above = {"node-a": 1, "node-b": 2, "stranger": 7}
    assert [key.sequence for key in store.causal_keys_above(above)] == [1, 4]
    assert [key.sequence for key in store.causal_keys_above({})] == [1, 2, 3, 4, 5]
    assert store.causal_keys_above({"node-a": 2, "node-b": 2, "node-c": 3}) == []


def test_a_causal_key_holds_what_the_order_needs(store: Store) -> None:
    append(store, operation(1, causal_deps=["x", 'y"'], timestamp=Timestamp(7, 3, "other")))
    assert store.causal_keys_above({}) == [CausalKey(1, "node-a:1", ["x", 'y"'], (7, 3, "other"))]


def test_causal_keys_include_sequence_number_0_of_unknown_authors_only(store: Store) -> None:
    append(store, operation(0), operation(0, "nul\0"), operation(1, "nul\0"))
    assert [key.id for key in store.causal_keys_above({})] == ["node-a:0", "nul\0:0", "nul\0:1"]
    assert [key.id for key in store.causal_keys_above({"node-a": 0, "nul\0": 0})] == ["nul\0:1"]


def test_a_range_of_one_author_ascends_by_sequence_number_then_delivery(store: Store) -> None:
    append(store, operation(3), operation(1), operation(2), operation(2, "node-b"), operation(2, id="twin"))
    assert [one.id for one in store.operation_range("node-a", 2, 3)] == ["node-a:2", "twin", "node-a:3"]
    assert [one.id for one in store.operation_range("node-a", 0, 1)] == ["node-a:1"]
    assert store.operation_range("node-a", 3, 2) == []
    assert store.operation_range("nobody", 0, 9) == []


# -- many threads -----------------------------------------------------------------------------------------------------


def test_a_reader_sees_nothing_of_a_write_before_its_commit(store: Store) -> None:
    def seen() -> tuple[int, int, dict[str, int], list[str]]:
        return store.frontier(), store.count_operations(), store.version_vector(), log_ids(store)

    append(store, operation(1))
    with ThreadPoolExecutor(1) as thread:
        before = thread.submit(seen).result()
        with store.transaction() as tx:
            tx.append(operations(range(2, 5)), RECEIVED_AT_MS)
            assert thread.submit(seen).result() == before
        assert thread.submit(seen).result() == (4, 4, {"node-a": 4}, [f"node-a:{n}" for n in range(1, 5)])


def test_readers_beside_a_writer_see_whole_writes_in_order(store: Store) -> None:
    group, groups = 10, 60
    done = Event()

    def read() -> int:
        pages = 0
        while not done.is_set() or not pages:
            frontier = store.frontier()
            found = store.entries_after(0, group * groups)
            assert len(found) >= frontier
            assert len(found) % group == 0
            assert [entry.sequence for entry in found] == list(range(1, len(found) + 1))
            assert [entry.operation.sequence_number for entry in found] == list(range(1, len(found) + 1))
            assert store.version_vector().get("node-a", 0) >= len(found)
            assert len(store.causal_keys_above({})) >= len(found)
            assert len(store.operation_range("node-a", 1, len(found))) == len(found)
            pages += 1
        return pages

    with ThreadPoolExecutor(6) as threads:
        readers = [threads.submit(read) for _ in range(6)]
        try:
            for first in range(1, group * groups, group):
                append(store, *operations(range(first, first + group)))
        finally:
            done.set()
        assert all(reader.result(timeout=60) for reader in readers)


# -- open and closed --------------------------------------------------------------------------------------------------


def test_a_probe_leaves_the_log_alone(store: Store) -> None:
    append(store, operation(1))
    store.probe()
    store.probe()
    assert log_ids(store) == ["node-a:1"]
    assert append(store, operation(2)) == [2]


def test_a_checkpoint_leaves_the_log_alone(store: Store) -> None:
    append(store, operation(1))
    with store.transaction() as tx:
        tx.append([operation(2)], RECEIVED_AT_MS)
        store.checkpoint()
    store.checkpoint()
    assert log_ids(store) == ["node-a:1", "node-a:2"]


def test_opening_an_open_store_changes_nothing(store: Store) -> None:
    append(store, operation(1))
    node_id = store.node_id
    store.open()
    assert log_ids(store) == ["node-a:1"]
    assert store.node_id == node_id


CALLS: dict[str, Callable[[Store], object]] = {
    "transaction": lambda store: append(store, operation(1)),
    "probe": lambda store: store.probe(),
    "checkpoint": lambda store: store.checkpoint(),
    "frontier": lambda store: store.frontier(),
    "count_operations": lambda store: store.count_operations(),
    "version_vector": lambda store: store.version_vector(),
    "entries_after": lambda store: store.entries_after(0, 1),
    "deliveries_after": lambda store: store.deliveries_after(0, 1, 1),
    "deliveries_at": lambda store: store.deliveries_at([1]),
    "causal_keys_above": lambda store: store.causal_keys_above({}),
    "operation_range": lambda store: store.operation_range("node-a", 0, 1),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_closed_store_is_unavailable(store: Store, call: Callable[[Store], object]) -> None:
    store.frontier()
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable):
        call(store)


def test_a_closed_store_can_be_opened_again(store: Store) -> None:
    store.close()
    store.open()
    assert append(store, operation(1)) == [store.frontier()]
