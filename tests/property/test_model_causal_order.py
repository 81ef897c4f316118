"""Causal order: complete, causes first, earliest first, whatever order the entries come in."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.model.delivery import CausalKey
from kora_daemon.model.versions import causal_order

NODES = st.sampled_from(["n1", "n2", "é"])


@st.composite
def entries(draw: st.DrawFn, *, with_cycles: bool) -> list[CausalKey]:
    """Entries with clocks that may contradict the causes, and causes outside the set."""
    count = draw(st.integers(0, 12))
    keys = []
    for index in range(count):
        reach = count if with_cycles else index
        causes = draw(st.lists(st.integers(0, reach - 1).map(str), max_size=3)) if reach else []
        outside = draw(st.lists(st.just("elsewhere"), max_size=1))
        clock = (draw(st.integers(0, 5)), draw(st.integers(0, 1)), draw(NODES))
        keys.append(CausalKey(index, str(index), causes + outside, clock))
    return keys


def order_by_the_book(keys: list[CausalKey]) -> list[str]:
    """The rule of store.md section 1.3, said as plainly as possible."""
    left = {key.id: key for key in sorted(keys, key=lambda key: (key.order_key, key.sequence))}
    placed = []
    while left:
        free = [key for key in left.values() if not any(cause in left for cause in key.causal_deps)]
        chosen = (free or list(left.values()))[0].id
        placed.append(chosen)
        del left[chosen]
    return placed


@settings(deadline=None)
@given(entries(with_cycles=True))
def test_order_is_that_of_the_book_with_or_without_cycles(keys: list[CausalKey]) -> None:
    assert [key.id for key in causal_order(keys)] == order_by_the_book(keys)


@settings(deadline=None)
@given(entries(with_cycles=False))
def test_every_cause_stands_before_its_effects(keys: list[CausalKey]) -> None:
    ordered = causal_order(keys)
    position = {key.id: index for index, key in enumerate(ordered)}
    assert position.keys() == {key.id for key in keys}
    for key in keys:
        assert all(position[cause] < position[key.id] for cause in key.causal_deps if cause in position)


@settings(deadline=None)
@given(entries(with_cycles=True), st.randoms(use_true_random=False))
def test_the_order_of_arrival_makes_no_difference(keys: list[CausalKey], shuffler: random.Random) -> None:
    shuffled = shuffler.sample(keys, len(keys))
    assert causal_order(shuffled) == causal_order(keys)
