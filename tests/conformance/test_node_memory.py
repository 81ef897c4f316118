"""What every store remembers of devices, as the contract promises: who they belong to, what they were last sent, which
of their numbers are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kora_daemon.model.node import NodeMemory, NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.store.contract import Store
from tests.support.log import RECEIVED_AT_MS, append, operation, operations
from tests.support.records import fail_after, inside
from tests.support.stores import DURABLE_STORES, RECORD_STORES, StoreKind, beside

NAMES = ["node-a", "", "é😀", "nul\0", "'; --", "x" * 255, "12", "\\u0000"]
"""Node ids and user ids are texts from outside."""


@pytest.fixture(params=RECORD_STORES)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return RECORD_STORES[request.param]


@pytest.fixture
def store(kind: StoreKind, tmp_path: Path) -> Iterator[Store]:
    made = kind(tmp_path)
    made.open()
    yield made
    made.close()


def remember(store: Store, *news: NodeNews) -> None:
    with store.transaction() as tx:
        for one in news:
            tx.remember(one, RECEIVED_AT_MS)


def test_of_a_new_device_nothing_is_remembered(store: Store) -> None:
    assert store.node_memory("node-a") is None
    assert inside(store, lambda tx: tx.claims(["node-a"])) == {}
    assert inside(store, lambda tx: tx.claims([])) == {}


def test_what_is_told_is_kept_and_the_rest_stays_as_it_was(store: Store) -> None:
    remember(store, NodeNews("node-a", scope="s1", floor=7))
    assert store.node_memory("node-a") == NodeMemory(None, "s1", 7, None)
    remember(store, NodeNews("node-a", claimed_by="alice"))
    assert store.node_memory("node-a") == NodeMemory("alice", "s1", 7, None)
    remember(store, NodeNews("node-a", settled="v1", settled_upto=2**53 - 1), NodeNews("node-a", scope="s2"))
    assert store.node_memory("node-a") == NodeMemory("alice", "s2", 7, "v1", 2**53 - 1)
    remember(store, NodeNews("node-a"), NodeNews("node-a", views="v1,,v2"))
    assert store.node_memory("node-a") == NodeMemory("alice", "s2", 7, "v1", 2**53 - 1, "v1,,v2")


def test_the_empty_text_is_something_to_remember(store: Store) -> None:
    # A visitor's claim, the scope of who sees everything, the view that shows everything.
    remember(store, NodeNews("node-a", claimed_by="alice", scope="s", floor=3, views="v,w", settled="v"))
    remember(store, NodeNews("node-a", settled_upto=5))
    remember(store, NodeNews("node-a", claimed_by="", scope="", floor=0, views="", settled="", settled_upto=0))
    assert store.node_memory("node-a") == NodeMemory("", "", 0, "", 0, "")
    assert inside(store, lambda tx: tx.claims(["node-a"])) == {"node-a": ""}


def test_devices_are_told_apart(store: Store) -> None:
    news = [NodeNews(name, claimed_by=f"user of {name}", scope=f"s{n}") for n, name in enumerate(NAMES)]
    remember(store, *news)
    for one in news:
        assert store.node_memory(one.node_id) == NodeMemory(one.claimed_by, one.scope)
    assert store.node_memory("NODE-A") is None
    assert store.node_memory("node-a ") is None
    claims = inside(store, lambda tx: tx.claims([*NAMES, "nobody's"]))
    assert claims == {name: f"user of {name}" for name in NAMES}


def test_only_what_was_claimed_is_a_claim(store: Store) -> None:
    remember(store, NodeNews("node-a", scope="s"), NodeNews("node-b", claimed_by="bob"))
    assert inside(store, lambda tx: tx.claims(["node-a", "node-b", "node-c"])) == {"node-b": "bob"}


def test_a_write_sees_what_it_has_told_so_far(store: Store) -> None:
    with store.transaction() as tx:
        tx.remember(NodeNews("node-a", claimed_by="alice"), RECEIVED_AT_MS)
        assert tx.claims(["node-a"]) == {"node-a": "alice"}
        assert store.node_memory("node-a") is None
        tx.remember(NodeNews("node-a", claimed_by="bob"), RECEIVED_AT_MS)
        tx.remember(NodeNews("node-a", scope="s"), RECEIVED_AT_MS)
        assert tx.claims(["node-a"]) == {"node-a": "bob"}
    assert store.node_memory("node-a") == NodeMemory("bob", "s")


def test_a_write_that_fails_leaves_nothing_behind(store: Store) -> None:
    remember(store, NodeNews("node-a", claimed_by="alice"))
    fail_after(
        store,
        lambda tx: tx.remember(NodeNews("node-a", claimed_by="mallory", scope="s"), RECEIVED_AT_MS),
        lambda tx: tx.remember(NodeNews("node-b", claimed_by="mallory"), RECEIVED_AT_MS),
    )
    assert store.node_memory("node-a") == NodeMemory("alice")
    assert store.node_memory("node-b") is None


def test_a_log_that_is_replaced_does_not_make_devices_anybodys(store: Store) -> None:
    append(store, operation(1))
    remember(store, NodeNews("node-a", claimed_by="alice", scope="s", floor=0))
    with store.transaction() as tx:
        tx.replace_log({"node-a": 5})
        assert tx.claims(["node-a"]) == {"node-a": "alice"}
    assert store.node_memory("node-a") == NodeMemory("alice", "s")


@pytest.mark.parametrize("name", DURABLE_STORES)
def test_it_outlives_the_server_and_others_see_it(name: str, tmp_path: Path) -> None:
    kind = DURABLE_STORES[name]
    store = kind(tmp_path)
    store.open()
    remember(store, NodeNews("node-a", claimed_by="alice", scope="s", floor=3, settled="v"))
    other = beside(kind, store)
    assert other.node_memory("node-a") == NodeMemory("alice", "s", 3, "v")
    store.close()
    remember(other, NodeNews("node-a", scope="t"))
    other.close()
    store.open()
    assert store.node_memory("node-a") == NodeMemory("alice", "t", 3, "v")
    store.close()


# Numbers that are missing (scopes.md section 8)


def numbered(*numbers: int, node: str = "node-a", round_: int = 0) -> list[Operation]:
    return [operation(n, node, id=f"{node}:{n}:{round_}") for n in numbers]


@pytest.mark.parametrize(
    ("numbers", "known", "complete"),
    [
        ([], 0, 0),
        ([], 5, 5),
        ([1], 0, 1),
        ([2], 0, 0),
        ([1, 2, 3], 0, 3),
        ([1, 2, 4, 5], 0, 2),
        ([1, 2, 4, 5], 3, 5),
        ([1, 2, 4, 5], 4, 5),
        ([1, 2, 4, 5], 5, 5),
        ([1, 2, 4, 5], 9, 9),
        ([3, 1, 2], 0, 3),
        ([0, 1, 2], 0, 2),
        ([0], 0, 0),
        ([1, 2**53 - 1], 0, 1),
        ([1, 2**53 - 1], 2**53 - 2, 2**53 - 1),
        ([1, 3, 5, 7], 0, 1),
    ],
)
def test_up_to_where_none_is_missing(store: Store, numbers: list[int], known: int, complete: int) -> None:
    append(store, *operations(range(1, 20), "node-b"), *numbered(*numbers))
    assert store.complete_upto("node-a", known) == complete


def test_a_number_that_was_used_again_is_no_gap(store: Store) -> None:
    # Stock clients do so after a transaction (wire.md section 7).
    append(store, *numbered(1, 2, 3), *numbered(2, 3, 4, round_=1), *numbered(6, round_=1))
    assert store.complete_upto("node-a") == 4
    assert store.complete_upto("node-a", 2) == 4


def test_a_gap_that_is_filled_is_none_any_more(store: Store) -> None:
    append(store, *numbered(1, 2, 5, 6))
    assert store.complete_upto("node-a") == 2
    append(store, *numbered(3))
    assert store.complete_upto("node-a") == 3
    append(store, *numbered(4))
    assert store.complete_upto("node-a", 3) == 6


def test_every_name_has_numbers_of_its_own(store: Store) -> None:
    for place, name in enumerate(NAMES[2:], 1):
        append(store, *numbered(*range(1, place + 1), node=name))
    assert [store.complete_upto(name) for name in NAMES[2:]] == list(range(1, len(NAMES) - 1))
    assert store.complete_upto("nobody") == 0
