"""Vectors are values; causal order copes with whatever stands in the log."""

from __future__ import annotations

from kora_daemon.model.delivery import CausalKey
from kora_daemon.model.versions import advance_vector, causal_order, dominates, merge_vectors


def key(name: str, clock: int, *causes: str, sequence: int = 0) -> CausalKey:
    return CausalKey(sequence, name, list(causes), (clock, 0, "n"))


def names(keys: list[CausalKey]) -> str:
    return "".join(key.id for key in keys)


def test_vectors_are_never_changed_in_place() -> None:
    seen = {"a": 1}
    merge_vectors(seen, {"a": 2, "b": 3})
    advance_vector(seen, "a", 9)
    assert seen == {"a": 1}


def test_a_missing_node_counts_as_zero() -> None:
    assert dominates({}, {"a": 0})
    assert not dominates({}, {"a": 1})


def test_equal_timestamps_go_by_delivery_sequence() -> None:
    early, late = key("z", 1, sequence=1), key("a", 1, sequence=2)
    assert names(causal_order([late, early])) == "za"


def test_two_cycles_are_cut_open_one_after_the_other() -> None:
    keys = [key("a", 1, "b"), key("b", 2, "a"), key("c", 3, "d"), key("d", 4, "c"), key("e", 0, "d")]
    assert names(causal_order(keys)) == "eabcd"


def test_what_a_cut_frees_comes_before_the_next_cut() -> None:
    keys = [key("a", 1, "b"), key("b", 9, "a"), key("c", 2, "d"), key("d", 3, "c")]
    assert names(causal_order(keys)) == "abcd"


def test_an_operation_that_names_itself_and_another_waits_for_its_cut_only() -> None:
    assert names(causal_order([key("a", 1, "a", "b"), key("b", 2)])) == "ba"


def test_the_same_id_twice_does_no_harm() -> None:
    assert names(causal_order([key("a", 1, sequence=1), key("b", 2, "a"), key("a", 3, "b", sequence=2)])) == "aba"


def test_a_long_chain_against_the_clock_is_followed_to_its_end() -> None:
    count = 50_000
    keys = [CausalKey(0, str(n), [str(n + 1)], (n, 0, "n")) for n in range(count)]
    assert [key.id for key in causal_order(keys)] == [str(n) for n in reversed(range(count))]
